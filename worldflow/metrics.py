"""Figures that compare shown frames and events with the recording. NumPy only, no model in sight.

Frames are uint8 `(..., H, W, 3)`; leading axes are kept, so whole batches are judged at once.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MSE_FLOOR = 1e-6  # caps PSNR at 66 dB, so that one perfect frame cannot carry a mean
SSIM_WINDOW = 11  # pixels
SSIM_SIGMA = 1.5  # pixels, of the Gaussian window


def psnr(frames: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio in dB, `(...)`, of `frames` `(..., H, W, 3)` against `truth`.

    `10 log10(4 / max(mse, 1e-6))` with pixels in [-1, 1]; at most 66.02, higher is better.

    >>> black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    >>> float(psnr(black, white))
    0.0
    """
    difference = frames.astype(np.float32) - truth.astype(np.float32)
    mse = np.square(difference / 127.5).mean(axis=(-3, -2, -1), dtype=np.float64)
    decibels: NDArray[np.float64] = 10.0 * np.log10(4.0 / np.maximum(mse, MSE_FLOOR))
    return decibels


@cache
def _gaussian_windows(size: int) -> NDArray[np.float64]:
    """`(size - 10, size)`: row i averages the 11 pixels from i on, Gaussian-weighted."""
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    weights = np.exp(-0.5 * np.square(offsets / SSIM_SIGMA))
    weights /= weights.sum()
    windows = np.zeros((size - SSIM_WINDOW + 1, size))
    for row in range(len(windows)):
        windows[row, row : row + SSIM_WINDOW] = weights
    return windows


def ssim(frames: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Structural similarity, `(...)`, of `frames` `(..., H, W, 3)` against `truth`; at most 1.

    Wang et al. 2004: Gaussian window of 11x11 with sigma 1.5, whole windows only,
    K1 = 0.01, K2 = 0.03, each RGB channel by itself, then the mean over places and channels.

    Raises:
        ValueError: frames of less than 11x11 pixels.
    """
    height, width = frames.shape[-3:-1]
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(f"frames of {height}x{width}: SSIM needs {SSIM_WINDOW}x{SSIM_WINDOW}")
    down, across = _gaussian_windows(height), _gaussian_windows(width).T

    def local_mean(planes: NDArray[np.float64]) -> NDArray[np.float64]:
        """The windows' means, by two matrix products: `(..., 3, H, W)` -> `(..., 3, h, w)`."""
        means: NDArray[np.float64] = down @ planes @ across
        return means

    # float64: variances are small differences of large numbers on the flat grounds of games
    x = np.moveaxis(frames, -1, -3) / 255.0
    y = np.moveaxis(truth, -1, -3) / 255.0
    mean_x, mean_y = local_mean(x), local_mean(y)
    variances = local_mean(x * x + y * y) - (mean_x * mean_x + mean_y * mean_y)
    covariance = local_mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    likeness /= (mean_x * mean_x + mean_y * mean_y + c1) * (variances + c2)
    result: NDArray[np.float64] = likeness.mean(axis=(-3, -2, -1))
    return result


class EventScores(NamedTuple):
    """How well rare events were told; None where nothing was there to divide by."""

    precision: float | None  # hits / predicted
    recall: float | None  # hits / true
    f1: float | None  # their harmonic mean


def event_scores(hits: int, predicted: int, true: int) -> EventScores:
    """Precision, recall and F1 from counts: events told and right, told, and there.

    >>> event_scores(hits=3, predicted=4, true=6)
    EventScores(precision=0.75, recall=0.5, f1=0.6)
    """
    return EventScores(
        precision=hits / predicted if predicted else None,
        recall=hits / true if true else None,
        f1=2 * hits / (predicted + true) if predicted + true else None,
    )


def termination_scores(
    p_terminated: NDArray[np.float32], terminated: NDArray[np.bool_]
) -> EventScores:
    """Scores of the call "p_terminated >= 0.5" against `terminated`, both `(N,)`."""
    called = p_terminated >= 0.5
    return event_scores(int((called & terminated).sum()), int(called.sum()), int(terminated.sum()))


def reward_scores(predicted: NDArray[np.float32], true: NDArray[np.float32]) -> EventScores:
    """Scores of predicted rewards against recorded ones, both `(N,)`, in raw game units.

    The unit is the smallest reward there is (1 in most games): a prediction of half a unit or
    more is an event, and it is right when it misses by less than half a unit, or by at most a
    quarter of a large reward. An event with the wrong value is a false alarm and a miss at once.
    """
    there = true != 0
    unit = float(np.abs(true[there]).min()) if there.any() else 1.0
    told = np.abs(predicted) >= 0.5 * unit
    error = np.abs(predicted - true)
    right = (error < 0.5 * unit) | (error <= 0.25 * np.abs(true))
    return event_scores(int((told & there & right).sum()), int(told.sum()), int(there.sum()))
