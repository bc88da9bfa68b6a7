"""Survival: thousands of free-running steps, watched for the ways in which a dream dies.

Real play is a stream of frames, one game after the other. So is a dream: where it ends a game, it
goes on from another start. Over windows of both, the same statistics are taken; a dream has left
the range of real play in the first window in which one of them is lower or higher than it ever
was there, by more than a standard deviation. Blank, noisy, frozen, flickering and dissolving
pictures, colour drift, a ball that is lost or doubled, games that end at once: all are told so.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldflow.episode import Episode
from worldflow.small_objects import SmallObject, count_objects

WINDOWS = (128, 512)  # frames: soon noticed; and what is odd only if it lasts, as a missing ball
STRIDE = 16  # frames between the ends of two windows
ENOUGH_WINDOWS = 8  # of real play, before it has a range
PIECES = 8  # of real play, to see how often it leaves the range of its own rest
PATCH = 8  # pixels
MARGIN = 1.0  # standard deviations beyond the range of real play
SMALLEST = 1e-4  # levels, below every difference that a picture can show; a logarithm needs one
STATISTICS = {  # of a window, with the least standard deviation that its range is given
    "red": 2.0,  # mean level
    "green": 2.0,
    "blue": 2.0,
    "contrast": 0.1,  # log2 of the standard deviation over a frame's pixels
    "grain": 0.1,  # log2 of the mean difference between neighbouring pixels
    "motion": 0.1,  # log2 of the mean difference between a frame and the one before
    "object": 0.1,  # share of frames with one object or more
    "two objects": 0.1,  # share of frames with two or more
    "ends": 0.01,  # games ended, a frame
    "patches": 1.0,  # the oddest patch: its mean level, in deviations from that patch in real play
}
LOGARITHMIC = slice(3, 6)
FEATURES = len(STATISTICS) - 1  # of a frame, before the levels of its patches
PATCH_DEVIATION = 2.0  # levels: the least that a patch is allowed


class Range(NamedTuple):
    """Where real play stays, for windows of one length."""

    window: int  # frames
    low: NDArray[np.float64]  # (10,), in the order of STATISTICS
    high: NDArray[np.float64]  # (10,)
    patch_mean: NDArray[np.float64]  # (P,), levels
    patch_deviation: NDArray[np.float64]  # (P,), levels


def frame_features(
    frames: NDArray[np.uint8],
    before: NDArray[np.uint8],
    ended: NDArray[np.bool_],
    small: SmallObject | None,
) -> NDArray[np.float32]:
    """What is kept of each of N frames `(N, H, W, 3)`: `(N, 9 + P)`, patches last.

    Args:
        before: the frame before each; the frame itself at the beginning of a game.
        ended: whether the game ended with it `(N,)`.
        small: the game's object, if it defines one.
    """
    x = frames.astype(np.float32)
    n, (height, width) = len(x), (side // PATCH for side in x.shape[1:3])
    patches = x[:, : height * PATCH, : width * PATCH].reshape(n, height, PATCH, width, PATCH, 3)
    across, down = np.abs(np.diff(x, axis=2)), np.abs(np.diff(x, axis=1))
    objects = np.zeros(n, np.int64)
    if small:
        objects = count_objects(small, frames)
    columns: list[NDArray[np.generic]] = [
        x.mean(axis=(1, 2)),
        x.mean(axis=3).std(axis=(1, 2)),
        across.mean(axis=(1, 2, 3)) + down.mean(axis=(1, 2, 3)),
        np.abs(x - before).mean(axis=(1, 2, 3)),
        objects >= 1,
        objects >= 2,
        ended,
        patches.mean(axis=(2, 4)),
    ]
    return np.concatenate([column.reshape(n, -1) for column in columns], axis=1).astype(np.float32)


def real_stream(
    episodes: list[Episode], small: SmallObject | None, seed: int
) -> NDArray[np.float32]:
    """The features of all recorded frames after the first, `(T, 9 + P)`, games in random order."""
    parts = []
    for index in np.random.default_rng(seed).permutation(len(episodes)):
        frames = episodes[index].frames()
        terminated = episodes[index].terminated()
        parts.append(frame_features(frames[1:], frames[:-1], terminated, small))
    return np.concatenate(parts)


def range_of(stream: NDArray[np.float32], window: int) -> Range | None:
    """The range of real play over windows of a `stream` `(T, 9 + P)`; None if it is too short."""
    means = _window_means(stream, window)
    if len(means) < ENOUGH_WINDOWS:
        return None
    patches = means[:, FEATURES:]
    deviation = np.maximum(patches.std(axis=0), PATCH_DEVIATION)
    bounds = Range(window, np.zeros(0), np.zeros(0), patches.mean(axis=0), deviation)
    statistics = _statistics(means, bounds)
    margin = MARGIN * np.maximum(statistics.std(axis=0), list(STATISTICS.values()))
    low, high = statistics.min(axis=0) - margin, statistics.max(axis=0) + margin
    return bounds._replace(low=low, high=high)


def outside(stream: NDArray[np.float32], bounds: Range) -> NDArray[np.bool_]:
    """Which statistics of which windows of a stream `(T, 9 + P)` are out of range `(K, 10)`.

    Window k ends with frame `bounds.window + STRIDE * k`, counted from 1.
    """
    statistics = _statistics(_window_means(stream, bounds.window), bounds)
    return (statistics < bounds.low) | (statistics > bounds.high)


def _window_means(stream: NDArray[np.float32], window: int) -> NDArray[np.float64]:
    """The mean features of each window `(K, 9 + P)`."""
    total = np.zeros((len(stream) + 1, stream.shape[1]))
    np.cumsum(stream, axis=0, dtype=np.float64, out=total[1:])
    return (total[window:] - total[:-window])[::STRIDE] / window


def _statistics(means: NDArray[np.float64], bounds: Range) -> NDArray[np.float64]:
    """Windows' mean features `(K, 9 + P)` -> the ten statistics of each `(K, 10)`."""
    told = means[:, :FEATURES].copy()
    told[:, LOGARITHMIC] = np.log2(np.maximum(told[:, LOGARITHMIC], SMALLEST))
    odd = np.abs(means[:, FEATURES:] - bounds.patch_mean) / bounds.patch_deviation
    return np.concatenate([told, odd.max(axis=1, keepdims=True)], axis=1)


class Survival(NamedTuple):
    """How long N dreams of T steps stayed within the range of real play."""

    left: NDArray[np.int64]  # (N,), the frame that ended the first window out of range; T + 1: none
    why: list[str]  # N names of the statistics that were out of range then; "" for none
    steps: int  # T
    real: float | None  # share of the windows of real play in the range that the rest of it gives
    real_runs: float | None  # share of runs of T steps of real play in the range of the rest
    ends: float  # games ended per 1,000 steps of the dreams
    real_ends: float  # the same of real play

    def share(self, steps: int) -> float | None:
        """The share of dreams still in range after `steps` frames; None beyond T."""
        return float((self.left > steps).mean()) if steps <= self.steps else None


def judge_survival(dreams: NDArray[np.float32], real: NDArray[np.float32]) -> Survival | None:
    """Hold N dreams' features `(N, T, 9 + P)` against a stream of real play `(T', 9 + P)`.

    None where real play or the dreams are shorter than the shortest window allows.
    """
    steps = dreams.shape[1]
    ranges = _ranges(real, steps)
    if not ranges:
        return None
    left, why = np.full(len(dreams), steps + 1), [""] * len(dreams)
    for row, stream in enumerate(dreams):
        for bounds in ranges:
            out = outside(stream, bounds)
            windows = np.flatnonzero(out.any(axis=1))
            if len(windows) and bounds.window + STRIDE * windows[0] < left[row]:
                left[row] = bounds.window + STRIDE * windows[0]
                names = [name for name, odd in zip(STATISTICS, out[windows[0]], strict=True) if odd]
                why[row] = f"{', '.join(names)} ({bounds.window} frames)"
    ended = list(STATISTICS).index("ends")
    ends, real_ends = (1000 * float(each[..., ended].mean()) for each in (dreams, real))
    shares = _real_share(real), _real_runs(real, steps)
    return Survival(left, why, steps, *shares, ends, real_ends)


def _ranges(real: NDArray[np.float32], steps: int) -> list[Range]:
    """Of real play, over windows that fit into runs of `steps`; none where it is too short."""
    ranges = [range_of(real, window) for window in WINDOWS if window <= steps]
    return [bounds for bounds in ranges if bounds]


def _real_runs(real: NDArray[np.float32], steps: int) -> float | None:
    """How much of real play, cut into runs of `steps`, survives by what the rest of it gives.

    What a perfect world's dreams could reach; None where there are no two such runs.
    """
    ends = range(steps, len(real) + 1, steps)
    survived = []
    for end in ends if len(ends) > 1 else ():
        run, rest = real[end - steps : end], np.concatenate((real[: end - steps], real[end:]))
        survived.append(not any(outside(run, bounds).any() for bounds in _ranges(rest, steps)))
    return float(np.mean(survived)) if survived else None


def _real_share(real: NDArray[np.float32]) -> float | None:
    """How much of each eighth of real play lies in the range that the other seven give."""
    pieces = np.array_split(real, PIECES)
    inside = []
    for index, piece in enumerate(pieces):
        others = np.concatenate(pieces[:index] + pieces[index + 1 :])
        for window in WINDOWS:
            bounds = range_of(others, window) if len(piece) >= window else None
            if bounds:
                inside.append(~outside(piece, bounds).any(axis=1))
    return float(np.concatenate(inside).mean()) if inside else None
