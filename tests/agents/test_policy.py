"""Policies: the scripted ones can play, the noisy ones are as noisy as they say."""

import numpy as np
import pytest

from worldflow.agents.policy import HoldingPolicy, NoisyPolicy, RandomPolicy, make_policy
from worldflow.envs.source import GameCard, SourceGame, make_source
from worldflow.errors import InputError

FRAME = np.zeros((64, 64, 3), np.uint8)


def card(env_id: str = "Unscripted-v0", actions: int = 4) -> GameCard:
    names = tuple(f"action {action}" for action in range(actions))
    return GameCard(env_id, names, {"": 2}, 15, {}, 1000)


def rewards(game: SourceGame, steps: int, truth: bool) -> list[float]:
    """Of one scripted episode, up to `steps`."""
    policy = make_policy("scripted", game.card)
    policy.reset(0)
    frame, _ = game.reset(seed=0)
    gained = []
    for _ in range(steps):
        action = policy.act(frame, game.truth() if truth else {})
        frame, reward, terminated, *_ = game.step(np.int64(action))
        gained.append(reward)
        if terminated:
            break
    return gained


@pytest.mark.parametrize("truth", [True, False], ids=["memory", "pixels"])
def test_the_script_plays_breakout(truth: bool) -> None:
    pytest.importorskip("ale_py")
    assert sum(rewards(make_source("ALE/Breakout-v5"), 700, truth)) >= 30


@pytest.mark.parametrize("truth", [True, False], ids=["memory", "pixels"])
def test_the_script_wins_pong(truth: bool) -> None:
    pytest.importorskip("ale_py")
    points = rewards(make_source("ALE/Pong-v5"), 1200, truth)
    assert points.count(1.0) > points.count(-1.0)


def test_the_script_keeps_the_ball_of_bounce_up() -> None:
    points = rewards(make_source("bounce"), 1000, truth=False)
    assert len(points) == 1000
    assert -1.0 not in points


def test_the_script_crosses_the_road_of_freeway() -> None:
    pytest.importorskip("ale_py")
    assert sum(rewards(make_source("ALE/Freeway-v5"), 700, truth=False)) >= 5


def test_random_play_is_uniform_and_keeps_actions() -> None:
    policy = RandomPolicy(4, repeat=0.8)
    policy.reset(0)
    actions = np.array([policy.act(FRAME, {}) for _ in range(8000)])
    assert np.bincount(actions, minlength=4) == pytest.approx(2000, abs=350)
    assert (actions[1:] == actions[:-1]).mean() == pytest.approx(0.85, abs=0.02)


@pytest.mark.parametrize("noise", [0.1, 0.6])
def test_noise_fills_the_share_of_steps_it_names(noise: float) -> None:
    policy = NoisyPolicy(HoldingPolicy("noop", 2), 4, noise)
    policy.reset(0)
    actions = np.array([policy.act(FRAME, {}) for _ in range(20_000)])
    assert policy.name == f"noop+{noise}"
    # Random play chooses the no-op, 2, a quarter of the time.
    assert (actions != 2).mean() == pytest.approx(0.75 * noise, abs=0.02)


def test_a_script_plays_smaller_frames_a_little_worse() -> None:
    game = make_source("bounce", size=32)
    policy = make_policy("scripted", game.card)
    frame, _ = game.reset(seed=0)
    caught = -1.0  # the first launch is a gift
    for _ in range(200):
        frame, reward, terminated, _, _ = game.step(np.int64(policy.act(frame, {})))
        caught += reward == 1.0
        if terminated:
            break
    assert caught >= 3


@pytest.mark.parametrize("name", ["random", "scripted", "mixed", "noop"])
def test_the_same_seed_chooses_the_same(name: str) -> None:
    game = make_source("bounce")
    frame, _ = game.reset(seed=0)
    policy, other = make_policy(name, game.card), make_policy(name, game.card)
    other.reset(99)
    other.act(frame, {})
    for each in (policy, other):
        each.reset(5)
    assert [policy.act(frame, {}) for _ in range(50)] == [other.act(frame, {}) for _ in range(50)]


def test_mixed_is_another_player_each_episode_and_tells_which() -> None:
    policy = make_policy("mixed", make_source("bounce").card)
    names = set()
    for seed in range(60):
        policy.reset(seed)
        names.add(policy.name)
    assert names == {"scripted", "scripted+0.1", "scripted+0.3", "scripted+0.6", "random"}


def test_mixed_without_a_script_plays_at_random() -> None:
    policy = make_policy("mixed", card())
    for seed in range(10):
        policy.reset(seed)
        assert policy.name == "random"


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'scripted'"):
        make_policy("scriptd", card())
    with pytest.raises(InputError, match="no script for Unscripted-v0"):
        make_policy("scripted", card())
