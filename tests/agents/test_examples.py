"""Other people's learners in a learned world: Stable-Baselines3, and a plain Gymnasium loop."""

import gymnasium
import numpy as np
import pytest
import torch
from fake_engine import make_playable
from gymnasium.utils.env_checker import check_env

from worldflow.agents import example_vector_env
from worldflow.envs.world_env import WorldEnv
from worldflow.envs.world_vector_env import WorldVectorEnv


def vector_env(**settings) -> WorldVectorEnv:
    return WorldVectorEnv(make_playable(), 4, autoreset_mode="SameStep", **settings)


def test_a_plain_loop_learns_which_action_pays() -> None:
    """The fake world gives an action's own number as reward."""
    torch.manual_seed(0)
    rewards = example_vector_env.train(vector_env(max_episode_steps=20), updates=15)
    assert np.mean(rewards[:3]) < 0.75
    assert np.mean(rewards[-3:]) > 0.85


def test_both_checkers_pass() -> None:
    env = WorldEnv(make_playable(), render_mode="rgb_array")
    check_env(env)
    pytest.importorskip("stable_baselines3.common.env_checker").check_env(env)


def test_stable_baselines_trains_on_one_rollout() -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    env = gymnasium.make("worldflow/World-v0", world=make_playable())
    model = sb3.PPO("CnnPolicy", env, n_steps=64, batch_size=32, n_epochs=1, device="cpu")
    model.learn(128)
    assert model.num_timesteps == 128


def test_stable_baselines_sees_the_last_frames_of_many_rollouts() -> None:
    pytest.importorskip("stable_baselines3")
    from worldflow.agents.example_sb3 import LearnedVecEnv

    env, twin = LearnedVecEnv(vector_env(max_episode_steps=3)), vector_env(max_episode_steps=3)
    env.seed(5)
    assert np.array_equal(env.reset(), twin.reset(seed=5)[0])
    for step in range(1, 5):
        frames, rewards, ended, infos = env.step(np.full(4, 2))
        expected, _, _, truncated, told = twin.step(np.full(4, 2))
        assert np.array_equal(frames, expected)
        assert np.array_equal(ended, truncated)
        assert ended.all() == (step == 3)
        assert (rewards == 2).all()
        if step == 3:
            assert infos[1]["TimeLimit.truncated"]
            assert np.array_equal(infos[1]["terminal_observation"], told["final_obs"][1])


def test_stable_baselines_trains_on_many_rollouts(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("stable_baselines3")
    from worldflow.agents import example_sb3

    monkeypatch.setattr("worldflow.playable.load_playable", lambda *_, **__: make_playable())
    assert example_sb3.train("any", steps=256, envs=4).num_timesteps == 256


def test_an_adapter_that_would_lose_frames_is_refused() -> None:
    pytest.importorskip("stable_baselines3")
    from worldflow.agents.example_sb3 import LearnedVecEnv

    with pytest.raises(ValueError, match="SameStep"):
        LearnedVecEnv(WorldVectorEnv(make_playable(), 2))
