"""Where a model is unsure, remembered for each recorded step as training passes by.

Most steps of a game are easy and alike; what is left to learn hides in few of them. They are
found by the model's own doubt, which is there before the next frame is seen: to pick steps by
what came out would teach wrong odds.
"""

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from worldflow.base import Conditions
from worldflow.dataset import Clips

CEILING = 50.0  # nats; what can never be known must not be all that is drawn
UNSEEN = -1.0


def doubt(given: Conditions, floor: float) -> Tensor:
    """How much of the next frame the base leaves open `(N,)`: nats, from 0 to CEILING.

    The entropy of the pixels that it holds for wider than twice the least (`floor`, a log
    standard deviation): a little doubt everywhere is only a model that is not done yet.
    """
    return in_doubt(given, floor).sum(dim=(1, 2, 3)).clamp(max=CEILING)


def in_doubt(given: Conditions, floor: float) -> Tensor:
    """Of each pixel and colour `(N, 3, H, W)`: its entropy above that width, nats, or 0."""
    return (given.log_scale.detach() - floor - math.log(2)).clamp(min=0)


class Doubts:
    """The last known doubt of each step of a data set, UNSEEN where it never was trained on.

    `weights` is what steps are drawn by: how far their doubt is above the usual, and for unseen
    ones the mean of that. Were these left out, the few that are known would be drawn again and
    again (docs/experiments.md, 57). Weights stay as they are until they are renewed, for what is
    drawn must not depend on how far ahead clips are read.
    """

    def __init__(self, steps: int) -> None:
        self.latest = np.full(steps, UNSEEN, np.float32)
        self.weights = np.zeros(steps, np.float32)

    def note(self, clips: Clips, doubts: NDArray[np.float32]) -> None:
        """Remember `doubts` `(B*T,)` of the steps of `clips`."""
        known = doubts.reshape(clips.valid.shape)[clips.valid]
        self.latest[clips.index[clips.valid]] = np.nan_to_num(known)

    def renew(self) -> None:
        """From now on draw by what is known now."""
        seen = self.latest != UNSEEN
        if seen.any():
            above = np.maximum(self.latest[seen] - np.median(self.latest[seen]), 0)
            self.weights = np.full_like(self.latest, above.mean())
            self.weights[seen] = above
