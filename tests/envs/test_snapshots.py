"""A source game goes back to a snapshot of itself, luck included."""

import numpy as np
import pytest

from worldflow.demos.reality import make_reality
from worldflow.envs.source import make_source

GAMES = ["bounce", pytest.param("ALE/Breakout-v5"), "CartPole-v1"]
ACTIONS = (1, 0, 1, 1, 0, 1, 0, 0, 1, 0)


def reality_of(env_id, **settings):
    if env_id.startswith("ALE/"):
        pytest.importorskip("ale_py")
    settings = {"size": 64, **settings}
    actions = len(make_source(env_id).card.action_names)
    return make_reality(env_id, settings, actions)


def play(reality, steps=ACTIONS):
    return [reality.step(action).frame for action in steps]


@pytest.mark.parametrize("env_id", GAMES)
def test_from_a_mark_the_same_actions_give_the_same_steps(env_id):
    reality = reality_of(env_id)
    reality.reset(3)
    play(reality, ACTIONS[:4])
    mark = reality.mark()
    first, truth = play(reality), reality.truth()
    reality.go_back(mark)
    assert reality.actions == list(ACTIONS[:4])
    assert np.array_equal(np.stack(play(reality)), np.stack(first))
    for name, value in truth.items():
        assert np.array_equal(reality.truth()[name], value)


@pytest.mark.parametrize("env_id", GAMES)
def test_a_mark_of_an_earlier_game_works_too(env_id):
    reality = reality_of(env_id)
    reality.reset(3)
    play(reality, ACTIONS[:4])
    mark = reality.mark()
    first = play(reality)
    reality.reset(8)
    play(reality)
    reality.go_back(mark)
    assert reality.seed == 3
    assert np.array_equal(np.stack(play(reality)), np.stack(first))


def test_sticky_actions_are_sticky_in_the_same_steps():
    reality = reality_of("ALE/Breakout-v5", sticky=0.5)
    reality.reset(1)
    mark = reality.mark()
    actions = [1] + [2, 3] * 20
    first = play(reality, actions)
    reality.go_back(mark)
    assert np.array_equal(np.stack(play(reality, actions)), np.stack(first))
