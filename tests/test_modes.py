"""Drawn frames held against a known distribution of the next frame."""

import numpy as np
import pytest

from worldflow.envs.bounce import BounceGame
from worldflow.modes import ModeTally, match, oracle_of


def futures():
    """Three places of a bright 2x2 ball on a grey ground."""
    frames = np.full((3, 16, 16, 3), 100, np.uint8)
    for index, column in enumerate((2, 6, 10)):
        frames[index, 4:6, column : column + 2] = 250
    return frames


def test_a_future_is_matched_and_sharp():
    for index in range(3):
        assert match(futures()[index], futures()) == (index, True)


@pytest.mark.parametrize("name", ["ghost", "doubled", "lost", "one wrong pixel", "dim ball"])
def test_what_cannot_happen_is_not_sharp(name):
    frame = futures()[0].copy()
    if name == "ghost":
        frame = futures()[:2].mean(axis=0).astype(np.uint8)
    elif name == "doubled":
        frame = futures()[:2].max(axis=0)
    elif name == "lost":
        frame[:] = 100
    elif name == "one wrong pixel":
        frame[15, 15, 0] = 100 + 26  # above 10 % of the range
    else:
        frame[4:6, 2:4] -= np.uint8(24)  # within 10 % each, but above 3 % on average there
        frame[4:6, 6:12] += np.uint8(24)
    nearest, sharp = match(frame, futures())
    assert nearest in (0, 1)
    assert not sharp


def test_faint_noise_is_sharp():
    noise = np.random.default_rng(0).integers(-5, 6, (16, 16, 3))
    assert match((futures()[2] + noise).astype(np.uint8), futures()) == (2, True)


def tally_of(draw, steps=1500):
    tally = ModeTally(lambda truth, action: (futures(), np.array([0.5, 0.3, 0.2])))
    random = np.random.default_rng(1)
    for _ in range(steps):
        tally.judge(draw(random), {}, 0)
    return tally


def test_frequencies_are_compared_with_probabilities():
    honest = tally_of(lambda random: futures()[random.choice(3, p=[0.5, 0.3, 0.2])])
    greedy = tally_of(lambda random: futures()[0])
    assert honest.error_max < 0.04
    assert greedy.error_max == pytest.approx(0.5)
    assert honest.sharp_fraction == greedy.sharp_fraction == 1.0


def test_too_few_steps_tell_no_frequency():
    tally = tally_of(lambda random: futures()[0], steps=99)
    assert tally.error_max is None
    assert tally.branching_steps == 99


def test_determined_steps_are_kept_apart():
    tally = ModeTally(lambda truth, action: (futures()[:1], np.ones(1)))
    tally.judge(futures()[0], {}, 0)
    assert tally.determined_psnr == pytest.approx(66.0206)
    assert tally.branching_steps == 0
    assert tally.sharp_fraction is None


def test_bounce_tells_its_truth():
    oracle = oracle_of("bounce")
    game = BounceGame()
    game.reset(seed=0)  # the ball rests on the paddle: a launch, of several angles, is next
    frames, probabilities = oracle(game.truth(), 1)
    expected = game.next_frames(1)
    np.testing.assert_array_equal(frames, expected[0])
    np.testing.assert_array_equal(probabilities, expected[1])
    assert len(frames) > 1


def test_games_without_a_known_truth_have_none():
    assert oracle_of("ALE/Breakout-v5") is None
