"""Going back, branching and starting again in a learned world."""

import numpy as np
import pytest
from dreams import FRAME, SMALL, play, same, small_env
from fake_engine import make_playable

from worldflow.envs.world_env import WorldEnv
from worldflow.errors import InputError


def test_a_state_brings_back_all_that_follows():
    env = small_env(p_terminated=0.1, max_episode_steps=15, surprise=True)
    env.reset(seed=2)
    play(env, 3, reset=False)
    state = env.get_state()
    told = [env.step(1), *play(env, 60)]
    env.set_state(state)
    again = [env.step(1), *play(env, 60)]
    assert same(told, again)
    fresh = small_env(p_terminated=0.1, max_episode_steps=15, surprise=True)
    fresh.set_state(state)
    assert same(told, [fresh.step(1), *play(fresh, 60)])


def test_a_state_is_a_copy():
    env = small_env()
    env.reset(seed=2)
    state = env.get_state()
    expected = env.step(1)[0]
    env.set_state(state)
    for spoiled in (state, env.get_state()):
        rows = spoiled.rows
        for array in (*rows.engine.values(), rows.noise_seed, rows.counter, rows.frame):
            array[:] = 0
    np.testing.assert_array_equal(env.step(1)[0], expected)


def test_a_state_of_another_world_or_of_several_rows_is_refused():
    env = small_env()
    env.reset(seed=0)
    with pytest.raises(InputError, match="2 rows: expected 1"):
        env.set_state(env.branch(2).get_state())
    with pytest.raises(InputError, match="expected one from get_state"):
        env.set_state({"frame": FRAME})
    other = make_playable(SMALL)
    other.engine.world_hash = "other"
    with pytest.raises(InputError, match="'fake', this env's is 'other'"):
        WorldEnv(other).set_state(env.get_state())


def test_branches_stand_here_and_have_luck_of_their_own():
    env = small_env()
    env.reset(seed=0)
    env.step(2)
    envs = env.branch(3)
    frames = envs.step(np.array([1, 1, 1]))[0]
    here = env.step(1)[0]
    assert (frames[:, :, 3] == 255).all()  # all go on from column 2
    assert len({frame.tobytes() for frame in (*frames, here)}) == 4
    again = small_env()
    again.reset(seed=0)
    again.step(2)
    np.testing.assert_array_equal(again.branch(3).step(np.array([1, 1, 1]))[0], frames)


def test_branches_with_the_same_luck_differ_by_their_actions_only():
    env = small_env()
    env.reset(seed=0)
    env.step(2)
    envs = env.branch(2, same_luck=True)
    for action in (1, 0, 2):
        frames = envs.step(np.array([action, (action + 1) % 3]))[0]
        np.testing.assert_array_equal(frames[0], env.step(action)[0])
        assert not np.array_equal(frames[0], frames[1])


def test_a_branch_keeps_the_settings_and_the_steps_done():
    env = small_env(max_episode_steps=5, temperature=0.5, surprise=True)
    env.reset(seed=0)
    play(env, 3, reset=False)
    envs = env.branch(2)
    assert not envs.step(np.zeros(2, np.int64))[3].any()
    _, _, _, truncated, info = envs.step(np.zeros(2, np.int64))
    assert truncated.all()
    assert info["temperature"].tolist() == [0.5, 0.5]
    assert "nll_excess" in info
    with pytest.raises(InputError, match="n=0"):
        env.branch(0)


def test_starts_are_replayed_once_only():
    env = small_env()
    for _ in range(40):
        env.reset()
    envs = env.branch(2)
    envs.reset()
    assert env.dream.engine.batches["start"] == [1, 1, 1, 1]
