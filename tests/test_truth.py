"""Who is held against a game's truth, and where."""

import numpy as np

from worldflow.envs.bounce import BounceGame, BounceState
from worldflow.episode import Header
from worldflow.truth import Futures, TruthJudge, oracle_of

CHOICE = np.stack([np.full((16, 16, 3), level, np.uint8) for level in (0, 200)])


def header(source="bounce", **settings):
    return Header(source, settings, 15, ("noop", "left", "right"), {"": 0}, seed=0)


def judge_with(futures):
    """A judge of three rows, and what was asked of the world, and of a base that draws grey."""
    asked = []

    def drawing(level):
        def sample(state, action, noise):
            asked.append((state["row"].tolist(), action.tolist(), noise[:, 0].tolist()))
            return np.full((len(action), 16, 16, 3), level, np.uint8)

        return sample

    judge = TruthJudge(
        lambda truth, action: futures[truth["row"]] if truth else None,
        drawing(200),
        base=drawing(100),
    )
    hidden = [{"row": 0}, {}, {"row": 2}]
    drawn = np.stack([CHOICE[1]] * 3)

    def luck(rows, draw):
        return np.float32(rows[:, None] + 10 * draw)

    judge.see({"row": np.arange(3)}, np.array([5, 6, 7]), luck, drawn, hidden)
    return judge, asked


def test_where_a_step_branches_both_draw_again_and_again():
    branching = Futures(CHOICE, np.array([0.5, 0.5]))
    judge, asked = judge_with({0: Futures(CHOICE[1:], np.ones(1)), 2: branching})
    assert asked == 2 * [([2] * 4, [7] * 4, [2.0, 12.0, 22.0, 32.0])]
    assert judge.world.figures().sharp == 1.0
    assert judge.world.determined_psnr > 60
    assert judge.base.figures().sharp == 0.0
    assert judge.base.figures().steps == judge.world.figures().steps == 1


def test_without_a_choice_nothing_is_drawn_again():
    certain = Futures(CHOICE[1:], np.ones(1))
    judge, asked = judge_with({0: certain, 2: certain})
    assert asked == []
    assert judge.base.figures().steps == 0


def test_bounce_tells_its_truth():
    oracle, game = oracle_of(header()), BounceGame()
    game.reset(seed=0)  # the ball rests on the paddle: a launch, of several angles, is next
    told, expected = oracle(game.truth(), 1), game.next_frames(1)
    np.testing.assert_array_equal(told.frames, expected[0])
    np.testing.assert_array_equal(told.probabilities, expected[1])
    assert len(told.frames) > 1
    assert oracle({}, 1) is None  # recorded by somebody who told nothing


def test_what_comes_from_under_a_lid_is_left_to_the_memory_figure():
    oracle, game = oracle_of(header(memory=True)), BounceGame(memory=True)
    covered = BounceState(30, 31, 1, 2, 29, lamp=0, clock=6, sign=1, half=1)
    game.set_state(covered)
    assert len(oracle(game.truth(), 0).frames) == 1
    game.step(0)
    assert game.state().uncovers
    assert oracle(game.truth(), 0) is None


def test_games_without_a_known_truth_have_none():
    assert oracle_of(header("ALE/Breakout-v5")) is None
