"""Small objects in rollouts: are they there, at the right place, and as bright as they should be?

Whole-frame figures hide a ball of two pixels. A game's strength map (envs/objects.py) shows
where its object is; this module finds it, and holds rollouts against the recording.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FAINT = 0.125  # strength from which a pixel belongs to an object
WHOLE = 0.25  # share of an object's usual mass from which it counts; less is a glimpse
NEAR = 2.0  # pixels between the centroids of one object
SPANS = {"1_8": (1, 8), "9_32": (9, 32), "33_64": (33, 64)}  # frames ahead, of the figures

Strength = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Frames `(..., H, W, 3)` -> how much of each pixel is object `(..., H, W)`, in [0, 1]."""


class SmallObject(NamedTuple):
    """What a game defines of its object."""

    strength: Strength
    mass: float  # pixels' worth of object in a usual frame


class Blob(NamedTuple):
    """One connected piece of object."""

    y: float  # centroid, pixels
    x: float
    mass: float  # the sum of its strength: pixels' worth of object


def connected(mask: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """The 8-connected pieces of `mask` `(H, W)`, each as its places (row, column)."""
    left = set(zip(*(axis.tolist() for axis in np.nonzero(mask)), strict=True))
    pieces = []
    while left:
        piece = [left.pop()]
        for y, x in piece:  # it grows while it is walked through
            beside = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= beside
            piece.extend(beside)
        pieces.append(sorted(piece))
    return sorted(pieces)


def find_blobs(strength: NDArray[np.float32]) -> list[Blob]:
    """The connected pieces of `strength` `(H, W)` whose pixels are all FAINT or more."""
    blobs = []
    for piece in connected(strength >= FAINT):
        weights = [float(strength[place]) for place in piece]
        mass = sum(weights)
        centre_y = sum(y * weight for (y, _), weight in zip(piece, weights, strict=True)) / mass
        centre_x = sum(x * weight for (_, x), weight in zip(piece, weights, strict=True)) / mass
        blobs.append(Blob(centre_y, centre_x, mass))
    return blobs


def count_objects(small: SmallObject, frames: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many objects each of `frames` `(N, H, W, 3)` shows `(N,)`; glimpses are none."""
    enough = WHOLE * small.mass
    counts = [
        sum(blob.mass >= enough for blob in find_blobs(strength))
        for strength in small.strength(frames)
    ]
    return np.array(counts, np.int64)


def nearest(blob: Blob, others: list[Blob]) -> Blob | None:
    """The nearest of `others` whose centroid is within 2 pixels; None if there is none."""
    near = [(np.hypot(other.y - blob.y, other.x - blob.x), other) for other in others]
    near = [(distance, other) for distance, other in near if distance <= NEAR]
    return min(near, key=lambda pair: pair[0])[1] if near else None


class ObjectTally:
    """Counts objects found, missed and made up, by frames ahead; watches rollouts.

    A true object should have some piece of object within 2 pixels, and one that is drawn some
    true piece; glimpses need not be met, but they do meet. So an edge is no trap.
    """

    def __init__(self, small: SmallObject, horizon: int) -> None:
        self._small = small
        self.true = np.zeros(horizon, np.int64)  # column h - 1 is h frames ahead, in all of these
        self.found = np.zeros(horizon, np.int64)
        self.told = np.zeros(horizon, np.int64)
        self.right = np.zeros(horizon, np.int64)
        self.brightness = np.zeros(horizon)  # sum over the found ones, each at most 1

    def see(
        self,
        numbers: NDArray[np.int64],
        ahead: int,
        drawn: NDArray[np.uint8],
        truth: NDArray[np.uint8],
    ) -> None:
        """Frames `ahead` of G clips: `drawn` `(G, S, H, W, 3)` against `truth` `(G, H, W, 3)`."""
        for strengths, true_strength in zip(
            self._small.strength(drawn), self._small.strength(truth), strict=True
        ):
            true = find_blobs(true_strength)
            for strength in strengths:
                self._compare(ahead - 1, find_blobs(strength), true)

    def _compare(self, column: int, told: list[Blob], true: list[Blob]) -> None:
        enough = WHOLE * self._small.mass
        for blob in true:
            if blob.mass >= enough:
                self.true[column] += 1
                found = nearest(blob, told)
                if found:
                    self.found[column] += 1
                    self.brightness[column] += min(1.0, found.mass / blob.mass)
        for blob in told:
            if blob.mass >= enough:
                self.told[column] += 1
                self.right[column] += nearest(blob, true) is not None

    def figures(self) -> dict[str, float | None]:
        """Recall, precision and brightness over each span of frames ahead; None of nothing."""
        figures: dict[str, float | None] = {}
        for name, (first, last) in SPANS.items():
            span = slice(first - 1, last)
            for figure, part, whole in (
                ("recall", self.found, self.true),
                ("precision", self.right, self.told),
                ("brightness", self.brightness, self.found),
            ):
                # A span that the rollouts do not reach the end of would be another figure.
                total = int(whole[span].sum()) if len(whole) >= last else 0
                value = float(part[span].sum()) / total if total else None
                figures[f"object_{figure}_{name}"] = value
        return figures
