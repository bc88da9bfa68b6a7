"""Drawn frames held against the true distribution of the next frame, where a game knows it."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldflow.metrics import psnr

Truth = dict[str, NDArray[Any]]
Oracle = Callable[[Truth, int], tuple[NDArray[np.uint8], NDArray[np.float64]]]
"""(hidden state, action) -> possible next frames `(M, H, W, 3)` and their probabilities `(M,)`."""

SHARP_WORST = 0.10 * 255  # at every pixel and channel
SHARP_MEAN = 0.03 * 255  # on average over the pixels in which the possible frames differ
ENOUGH_STEPS = 100  # of one kind, before a frequency is worth telling


def oracle_of(source: str) -> Oracle | None:
    """The true distribution of the game recorded as `source`, or None if nobody knows it."""
    if source != "bounce":
        return None
    from worldflow.envs.bounce import BounceGame

    game = BounceGame()

    def next_frames(truth: Truth, action: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        game.set_state(game.from_truth(truth))
        return game.next_frames(action)

    return next_frames


def match(frame: NDArray[np.uint8], possible: NDArray[np.uint8]) -> tuple[int, bool]:
    """Which of the M >= 2 `possible` frames `(M, H, W, 3)` is nearest to `frame` `(H, W, 3)`.

    Nearest is by mean absolute difference. Returns its index and whether `frame` is *sharp*:
    off by at most 10 % of the range at every pixel and channel, and by at most 3 % on average
    over the pixels in which the possible frames differ.
    """
    error = np.abs(possible.astype(np.int16) - frame.astype(np.int16))  # (M, H, W, 3)
    nearest = int(error.mean(axis=(1, 2, 3)).argmin())
    differing = (possible != possible[0]).any(axis=(0, 3))  # (H, W)
    worst, mean = error[nearest].max(), error[nearest][differing].mean()
    return nearest, bool(worst <= SHARP_WORST and mean <= SHARP_MEAN)


class ModeTally:
    """Holds drawn frames against the true distribution, step by step.

    Steps with one possible frame are *determined*, all others *branching*. Branching steps with
    the same probabilities are of one kind: over them, the i-th future should come up with the
    i-th probability, whatever it looks like.
    """

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._determined: list[float] = []  # dB
        self._sharp: list[bool] = []
        self._drawn: dict[tuple[float, ...], list[int]] = defaultdict(list)

    def judge(self, frame: NDArray[np.uint8], truth: Truth, action: int) -> None:
        """Judge one `frame` `(H, W, 3)` drawn to follow `truth` under `action`."""
        possible, probabilities = self._oracle(truth, action)
        if len(possible) == 1:
            self._determined.append(float(psnr(frame, possible[0])))
            return
        nearest, sharp = match(frame, possible)
        self._sharp.append(sharp)
        self._drawn[tuple(probabilities.round(6).tolist())].append(nearest)

    @property
    def determined_psnr(self) -> float | None:
        """Mean PSNR in dB over the determined steps; None if there was none."""
        return float(np.mean(self._determined)) if self._determined else None

    @property
    def branching_steps(self) -> int:
        """How many steps had several possible frames."""
        return len(self._sharp)

    @property
    def sharp_fraction(self) -> float | None:
        """The share of sharp frames over the branching steps, in [0, 1]; None if none."""
        return float(np.mean(self._sharp)) if self._sharp else None

    @property
    def error_max(self) -> float | None:
        """The largest difference between a frequency and its probability, in [0, 1].

        Over the kinds with at least 100 steps; None if there is none.
        """
        errors = [
            float(np.abs(np.bincount(drawn, minlength=len(true)) / len(drawn) - true).max())
            for true, drawn in self._drawn.items()
            if len(drawn) >= ENOUGH_STEPS
        ]
        return max(errors, default=None)
