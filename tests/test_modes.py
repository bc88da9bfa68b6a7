"""Drawn frames held against a known distribution of the next frame."""

import numpy as np
import pytest

from worldflow.envs.bounce import BounceState, outcomes
from worldflow.envs.bounce import draw as draw_bounce
from worldflow.envs.objects import OBJECTS
from worldflow.modes import ModeTally, match, place_of


def futures():
    """Three places of a bright 2x2 ball on a grey ground."""
    frames = np.full((3, 16, 16, 3), 100, np.uint8)
    for index, column in enumerate((2, 6, 10)):
        frames[index, 4:6, column : column + 2] = 250
    return frames


def test_a_future_is_matched_and_sharp():
    for index in range(3):
        assert match(futures()[index], futures()) == (index, 0.0, 0.0)


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
    told = match(frame, futures())
    assert told.mode in (0, 1)
    assert not told.sharp()
    assert told.sharp(strictness=20.0)


def test_faint_noise_is_sharp():
    noise = np.random.default_rng(0).integers(-5, 6, (16, 16, 3))
    told = match((futures()[2] + noise).astype(np.uint8), futures())
    assert told.mode == 2
    assert told.sharp()
    assert not told.sharp(strictness=0.1)


def tally_of(draw, steps=1500):
    tally, random = ModeTally(), np.random.default_rng(1)
    for _ in range(steps):
        tally.add(draw(random)[None], futures(), np.array([0.5, 0.3, 0.2]))
    return tally


def test_frequencies_are_compared_with_probabilities():
    honest = tally_of(lambda random: futures()[random.choice(3, p=[0.5, 0.3, 0.2])])
    greedy = tally_of(lambda random: futures()[0])
    assert honest.figures().error_max < 0.04
    assert greedy.figures().error_max == pytest.approx(0.5)
    assert honest.figures().sharp == greedy.figures().sharp == 1.0
    assert [(each.probability, each.frequency) for each in greedy.frequencies()] == [
        (0.5, 1.0),
        (0.3, 0.0),
        (0.2, 0.0),
    ]


def test_an_error_is_beside_what_chance_alone_does():
    """Of 1,500 draws at odds of 1 in 2, off by 1.3 points as a standard deviation."""
    chance = tally_of(lambda random: futures()[0]).figures().error_by_chance
    assert 0.010 < chance < 0.017
    tally = ModeTally()
    for _ in range(1500):
        tally.add(futures()[[0, 0, 1, 2]], futures(), np.array([0.5, 0.3, 0.2]))
    assert tally.figures().error_by_chance == pytest.approx(chance / 2, rel=0.1)
    assert [each.frequency for each in tally.frequencies()] == [0.5, 0.25, 0.25]


def test_too_few_steps_tell_no_frequency():
    tally = tally_of(lambda random: futures()[0], steps=99)
    assert tally.figures().error_max is None
    assert tally.frequencies() == []
    assert tally.figures().steps == 99


def test_determined_steps_are_kept_apart():
    tally = ModeTally()
    tally.add(futures()[:1], futures()[:1], np.ones(1))
    assert tally.determined_psnr == pytest.approx(66.0206)
    assert tally.figures() == (0, None, None, None, None, None)


def test_the_curve_of_sharp_frames_rises_with_the_bounds():
    faded = futures()[0].copy()
    faded[4:6, 2:4] -= np.uint8(51)  # 20 % of the range
    tally = ModeTally()
    tally.add(np.stack([futures()[1], faded]), futures(), np.ones(3) / 3)
    assert tally.sharp_curve(np.array([0.1, 1.0, 2.5, 5.0])).tolist() == [0.5, 0.5, 1.0, 1.0]


def launches(ball_x, clock=4):
    state = BounceState(ball_x, 55, 1, 2, 2 + 3 * (ball_x // 3 - 2), lamp=0, clock=clock)
    return np.stack([draw_bounce(outcome.state) for outcome in outcomes(state, 0)])


@pytest.mark.parametrize(
    ("ball_x", "clock", "place"),
    [
        (11, 4, "several blocks"),  # columns 8 to 16, across 16
        (20, 4, "one block"),  # 17 to 25, across 24
        (30, 4, "several blocks"),  # 27 to 35, across 32
        (35, 4, "one block"),  # 32 to 40, across 40
        (20, 15, "one block"),  # the lamp, too: another choice, across 8
    ],
)
def test_choices_are_told_apart_by_the_lines_that_they_cross(ball_x, clock, place):
    assert place_of(launches(ball_x, clock)) == place


def test_a_choice_within_one_cell():
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    frames[0, 9:15, 17:23] = 200
    assert place_of(frames) == "one cell"
    frames[0, 9:15, 16:25] = 200
    assert place_of(frames) == "one block"
    frames[0, 15:17, 17:23] = 200
    assert place_of(frames) == "several blocks"


def test_lost_and_doubled_balls_are_counted():
    possible = launches(30)  # at 27, 29, 31 and 33
    lost, doubled = possible[0].copy(), np.maximum(possible[0], possible[3])
    lost[53:56] = lost[40:43]
    halves = ((possible[0].astype(int) + possible[3]) // 2).astype(np.uint8)
    tally = ModeTally(OBJECTS["bounce"])
    tally.add(np.stack([possible[1], lost, doubled, halves]), possible, np.ones(4) / 4)
    figures = tally.figures()
    assert figures.doubled == 0.25
    assert figures.lost == 0.5  # two faint balls are none
    assert figures.sharp == 0.25
    assert tally.figures("one cell").steps == 0
