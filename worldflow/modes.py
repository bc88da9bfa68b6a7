"""Drawn frames held against the true distribution of the next frame, where a game knows it."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldflow.metrics import psnr
from worldflow.small_objects import SmallObject, connected, find_blobs

SHARP_WORST = 0.10 * 255  # at every pixel and channel
SHARP_MEAN = 0.03 * 255  # on average over the pixels in which the possible frames differ
ENOUGH_STEPS = 100  # of one kind, before a frequency is worth telling
RUNS = 1000  # of a perfect sampler, that tell how far off chance alone is

CELL = 8  # pixels: a cell of the flow's coarsest grid (worldflow/flow.py)
BLOCK = 16  # pixels: one cell of each of its interleaved groups
PLACES = ("one cell", "one block", "several blocks")
"""Where a choice shows: within one cell of the flow's coarsest grid; across the lines between
cells; or across the lines of its groups, too."""


class Match(NamedTuple):
    """The possible frame that is nearest to a drawn one, and how far off it is."""

    mode: int  # its index
    worst: float  # levels, at the worst pixel and channel
    mean: float  # levels, over the pixels in which the possible frames differ

    def sharp(self, strictness: float = 1.0) -> bool:
        """Off by at most 10 % of the range anywhere and 3 % on average where futures differ.

        `strictness` multiplies both bounds.
        """
        return self.worst <= SHARP_WORST * strictness and self.mean <= SHARP_MEAN * strictness


def match(frame: NDArray[np.uint8], possible: NDArray[np.uint8]) -> Match:
    """Hold `frame` `(H, W, 3)` against the M >= 2 `possible` ones `(M, H, W, 3)`.

    Nearest is by mean absolute difference.
    """
    error = np.abs(possible.astype(np.int16) - frame.astype(np.int16))  # (M, H, W, 3)
    nearest = int(error.mean(axis=(1, 2, 3)).argmin())
    mean = error[nearest][_differing(possible)].mean()
    return Match(nearest, float(error[nearest].max()), float(mean))


def place_of(possible: NDArray[np.uint8]) -> str:
    """One of PLACES: where the choice between `possible` `(M, H, W, 3)` shows.

    Choices that are apart (a lamp, and a ball elsewhere) are independent and looked at one by
    one: what counts is the widest of them, as a connected set of cells.
    """
    differing = _differing(possible)
    height, width = (side // CELL * CELL for side in differing.shape)
    cells = differing[:height, :width].reshape(height // CELL, CELL, width // CELL, CELL)
    widest = 0
    for choice in connected(np.asarray(cells.any(axis=(1, 3)))):
        blocks = {(y * CELL // BLOCK, x * CELL // BLOCK) for y, x in choice}
        widest = max(widest, 2 if len(blocks) > 1 else int(len(choice) > 1))
    return PLACES[widest]


def _differing(possible: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """`(H, W)`: the pixels in which the possible frames differ."""
    return np.asarray((possible != possible[0]).any(axis=(0, 3)))


class _Branch(NamedTuple):
    """One branching step, judged."""

    kind: tuple[float, ...]  # the probabilities of its futures
    matches: list[Match]  # of each draw
    place: str  # one of PLACES
    objects: list[int]  # whole objects in each draw where each future has one; [] if not told


class ModeFigures(NamedTuple):
    """How branching steps came out; shares are None of nothing."""

    steps: int
    error_max: float | None  # in [0, 1], see `ModeTally.figures`
    error_by_chance: float | None  # the same of a perfect sampler with as many draws, by chance
    sharp: float | None  # share of sharp frames
    lost: float | None  # share of frames without the object
    doubled: float | None  # share of frames with two of it or more


class Frequency(NamedTuple):
    """How often one future of one kind of step was drawn."""

    probability: float
    frequency: float
    steps: int


class ModeTally:
    """Holds drawn frames against the true distribution, step by step.

    Steps with one possible frame are *determined*, all others *branching*. Branching steps with
    the same probabilities are of one kind: over them, the i-th future should come up with the
    i-th probability, whatever it looks like.
    """

    def __init__(self, small: SmallObject | None = None) -> None:
        """`small`: an object of which every possible frame shows one."""
        self._small = small
        self._determined: list[float] = []  # dB
        self._branches: list[_Branch] = []

    def add(
        self,
        frames: NDArray[np.uint8],
        possible: NDArray[np.uint8],
        probabilities: NDArray[np.float64],
    ) -> None:
        """Judge the draws `frames` `(D, H, W, 3)` of a step after which `possible` `(M, H, W, 3)`
        could follow, with `probabilities` `(M,)`.
        """
        if len(possible) == 1:
            self._determined += [float(psnr(frame, possible[0])) for frame in frames]
            return
        kind = tuple(probabilities.round(6).tolist())
        matches = [match(frame, possible) for frame in frames]
        small = self._small
        objects = [_count(small, frame, possible[0]) for frame in frames] if small else []
        self._branches.append(_Branch(kind, matches, place_of(possible), objects))

    @property
    def determined_psnr(self) -> float | None:
        """Mean PSNR in dB over the determined steps; None if there was none."""
        return float(np.mean(self._determined)) if self._determined else None

    def figures(self, place: str | None = None) -> ModeFigures:
        """Over all branching steps, or those whose choice shows in one of PLACES.

        `error_max` is the largest difference between a frequency and its probability, over the
        kinds with at least 100 steps; `error_by_chance` the median of what it is by chance.
        """
        branches = [branch for branch in self._branches if place in (None, branch.place)]
        counted = [count for branch in branches for count in branch.objects]
        matches = [match for branch in branches for match in branch.matches]
        errors = [abs(each.frequency - each.probability) for each in _frequencies(branches)]
        return ModeFigures(
            steps=len(branches),
            error_max=max(errors, default=None),
            error_by_chance=_error_by_chance(branches),
            sharp=_share([match.sharp() for match in matches]),
            lost=_share([objects == 0 for objects in counted]),
            doubled=_share([objects > 1 for objects in counted]),
        )

    def frequencies(self) -> list[Frequency]:
        """Of every future of every kind with at least 100 steps: the calibration plot."""
        return _frequencies(self._branches)

    def sharp_curve(self, strictness: NDArray[np.float64]) -> NDArray[np.float64]:
        """The share of sharp frames with both bounds multiplied by each of `strictness`."""
        matches = [match for branch in self._branches for match in branch.matches]
        shares = [np.mean([match.sharp(factor) for match in matches]) for factor in strictness]
        return np.array(shares) if matches else np.full(len(strictness), np.nan)


def _count(small: SmallObject, frame: NDArray[np.uint8], possible: NDArray[np.uint8]) -> int:
    """How many objects `frame` shows, by mass: two faint ones are none, two whole ones two."""
    one = sum(blob.mass for blob in find_blobs(small.strength(possible)))
    return sum(int(blob.mass / one + 0.5) for blob in find_blobs(small.strength(frame)))


def _by_kind(branches: list[_Branch]) -> dict[tuple[float, ...], list[list[int]]]:
    """The futures drawn at each step of each kind that has enough of them, in order."""
    drawn: dict[tuple[float, ...], list[list[int]]] = defaultdict(list)
    for branch in branches:
        drawn[branch.kind].append([match.mode for match in branch.matches])
    return {kind: steps for kind, steps in sorted(drawn.items()) if len(steps) >= ENOUGH_STEPS}


def _frequencies(branches: list[_Branch]) -> list[Frequency]:
    return [
        Frequency(probability, float((np.concatenate(steps) == mode).mean()), len(steps))
        for kind, steps in _by_kind(branches).items()
        for mode, probability in enumerate(kind)
    ]


def _error_by_chance(branches: list[_Branch]) -> float | None:
    """The median over RUNS runs of the largest error of frequencies drawn by the truth's odds."""
    random, worst = np.random.default_rng(0), np.zeros(RUNS)
    by_kind = _by_kind(branches)
    for kind, steps in by_kind.items():
        draws = sum(map(len, steps))
        frequencies = random.multinomial(draws, np.array(kind) / sum(kind), RUNS) / draws
        worst = np.maximum(worst, np.abs(frequencies - kind).max(axis=1))
    return float(np.median(worst)) if by_kind else None


def _share(hits: list[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
