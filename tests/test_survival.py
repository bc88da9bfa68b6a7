"""Survival: every way for a dream to die is noticed, and real play survives."""

import numpy as np
import pytest

from worldflow.small_objects import SmallObject
from worldflow.survival import STATISTICS, frame_features, judge_survival, outside, range_of

SIZE, STEPS = 16, 600
DOT = SmallObject(lambda frames: (frames[..., 0] > 200).astype(np.float32), mass=4.0)
WAITS = 40  # steps of a game in which nothing moves, until the ball is served


def play(steps, seed):
    """Frames `(steps + 1, ...)` of a ball that bounces about, and where games ended `(steps,)`."""
    random = np.random.default_rng(seed)
    frames = np.full((steps + 1, SIZE, SIZE, 3), 60, np.uint8)
    ended = np.zeros(steps, bool)
    place, speed, wait = np.array([5, 5]), np.array([1, 1]), 0
    for step in range(steps + 1):
        if wait:
            wait -= 1
        elif random.random() < 0.005:
            wait, ended[max(0, step - 1)] = WAITS, True
        speed = np.where((place + speed < 0) | (place + speed > SIZE - 2), -speed, speed)
        place = place + (speed if not wait else 0)
        row, column = place
        frames[step, row : row + 2, column : column + 2] = 255
    return frames, ended


def features(frames, ended=None):
    ended = np.zeros(len(frames) - 1, bool) if ended is None else ended
    return frame_features(frames[1:], frames[:-1], ended, DOT)


@pytest.fixture(scope="module")
def real():
    return features(*play(4000, seed=0))


def spoilt(name, frames, ended):
    """The play `frames` gone wrong after 100 steps."""
    frames, late = frames.copy(), slice(100, None)
    random = np.random.default_rng(1)
    if name == "frozen":
        frames[late] = frames[100]
    elif name == "blank":
        frames[late] = 60
    elif name == "noisy":
        frames[late] = random.integers(0, 256, frames[late].shape)
    elif name == "faint noise":
        frames[late] -= random.integers(0, 8, frames[late].shape).astype(np.uint8)
    elif name == "colour drift":
        frames[late, :, :, 2] += np.linspace(0, 60, len(frames[late]))[:, None, None].astype("u1")
    elif name == "blot":
        frames[late, 12:14, 2:4, 1] = 160
    elif name == "lost ball":
        frames[late] = np.where(frames[late] == 255, 90, frames[late])
    elif name == "second ball":
        frames[late, 0:2, 13:15] = 255
    else:
        ended = np.arange(len(ended)) % 20 == 0
    return features(frames, ended)


NAMED = {  # and the statistic that is the first to tell
    "frozen": "motion",
    "blank": "object",
    "noisy": "grain",
    "faint noise": "grain",
    "colour drift": "contrast",
    "blot": "grain",
    "lost ball": "object",
    "second ball": "two objects",
    "games that end at once": "ends",
}


@pytest.mark.parametrize("name", NAMED)
def test_what_goes_wrong_is_noticed_and_named(real, name):
    frames, ended = play(STEPS, seed=7)
    assert judge_survival(features(frames, ended)[None], real).share(STEPS) == 1.0
    survival = judge_survival(spoilt(name, frames, ended)[None], real)
    assert survival.left[0] <= 400
    assert NAMED[name] in survival.why[0]
    assert survival.share(STEPS) == 0.0


def test_other_real_play_survives(real):
    dreams = np.stack([features(*play(STEPS, seed)) for seed in range(20, 28)])
    survival = judge_survival(dreams, real)
    assert survival.share(STEPS) >= 7 / 8
    assert survival.share(STEPS + 1) is None  # not run so long
    assert survival.real > 0.9
    assert survival.real_ends == pytest.approx(1000 * real[:, 8].mean())


def test_runs_of_real_play_are_judged_by_the_rest_of_it(real):
    """One of them is spoilt: it is out of the range of the others, which are in its range."""
    runs = [features(*play(STEPS, seed)) for seed in range(20, 26)]
    noisy = spoilt("noisy", *play(STEPS, seed=7))
    survival = judge_survival(runs[0][None], np.concatenate([*runs, noisy]))
    alone = [
        judge_survival(run[None], np.concatenate([*runs[:i], *runs[i + 1 :], noisy])).share(STEPS)
        for i, run in enumerate(runs)
    ]
    assert survival.real_runs == pytest.approx(sum(alone) / 7)
    assert judge_survival(runs[0][None], runs[1]).real_runs is None  # one run has no rest


def test_a_pause_of_real_play_is_no_frozen_screen(real):
    frames, ended = play(STEPS, seed=7)
    frames[100 : 100 + WAITS] = frames[100]
    assert "motion" not in judge_survival(features(frames, ended)[None], real).why[0]


def test_the_first_window_out_of_range_counts(real):
    bounds = range_of(real, 128)
    odd = np.flatnonzero(outside(spoilt("noisy", *play(STEPS, seed=7)), bounds).any(axis=1))
    assert odd[0] == 0  # frames 1 to 128, of which the last 28 are noise
    late = features(np.concatenate([play(300, seed=7)[0], np.zeros((300, SIZE, SIZE, 3), "u1")]))
    survival = judge_survival(late[None], real)
    assert 300 < survival.left[0] <= 300 + 128


def test_too_little_real_play_has_no_range(real):
    assert range_of(real[:200], 128) is None
    assert judge_survival(real[None, :600], real[:200]) is None
    assert judge_survival(real[None, :100], real) is None  # a dream shorter than any window


def test_statistics_are_in_the_order_of_their_names(real):
    bounds = range_of(real, 512)
    assert len(bounds.low) == len(bounds.high) == len(STATISTICS)
    assert (bounds.low < bounds.high).all()
