"""Where a small object was in the last frames, and the straight line through its places."""

from typing import NamedTuple

import torch
from torch import Tensor

FASTEST = 8.0  # pixels that it goes in a step
FARTHER = (1.0, 1.25)  # times that far is near enough to be the same one, and is not any more
LEAST = 1e-3  # of a mass or a length, so that nothing has a centre, too


class Track(NamedTuple):
    """Where the object is, and was."""

    places: Tensor  # (N, L, 2), row and column in pixels, oldest first; anything where not seen
    seen: Tensor  # (N, L), whether it shows in that frame: 0 to 1

    @property
    def last(self) -> Tensor:
        """Which frame is the newest that shows it `(N, L)`: sums to 1, or to 0 if none does."""
        newest = [self.seen[:, -1:]]
        unseen = 1 - newest[0]
        for frame in self.seen[:, :-1].split(1, dim=1)[::-1]:
            newest.insert(0, unseen * frame)
            unseen = unseen * (1 - frame)
        return torch.cat(newest, dim=1)

    @property
    def here(self) -> Tensor:
        """Where that frame shows it `(N, 2)`."""
        weights = self.last[..., None]
        return (weights * self.places).sum(dim=1) / (weights.sum(dim=1) + LEAST**2)

    @property
    def known(self) -> Tensor:
        """Whether it shows in all frames from the newest to that one `(N, L)`: 0 to 1."""
        known = [self.seen[:, -1:]]
        for frame in self.seen[:, :-1].split(1, dim=1)[::-1]:
            known.insert(0, known[0] * frame)
        return torch.cat(known, dim=1)


class Line(NamedTuple):
    """Where it would be if it went straight on, each `(N, 2)`, pixels."""

    leads: Tensor  # in the next frame
    speed: Tensor  # in a step


def ramp(values: Tensor, span: tuple[float, float]) -> Tensor:
    """0 below a span of values, 1 above it."""
    return ((values - span[0]) / (span[1] - span[0])).clamp(0, 1)


def distance(apart: Tensor) -> Tensor:
    """The length of vectors `(..., 2)`, with a gradient at 0 too."""
    return apart.square().sum(dim=-1).clamp(min=LEAST**2).sqrt()


def ages(track: Track) -> Tensor:
    """How many steps ago its frames were `(L,)`: 0 for the newest."""
    seen = track.seen
    return torch.arange(seen.shape[1] - 1, -1, -1, device=seen.device, dtype=seen.dtype)


def near_enough(places: Tensor, ago: Tensor, track: Track) -> Tensor:
    """Whether what was at `places` `(N, P, 2)` so many steps `ago` `(P,)` is that of `track`."""
    last = track.last @ ages(track)
    steps = (ago - last[:, None]).abs().clamp(min=1.0)
    apart = distance(places - track.here[:, None])
    return 1 - ramp(apart / (steps * FASTEST), FARTHER)


def line(track: Track) -> Line:
    """The straight line through all places of an object that is known so far back; else two.

    Of one that the newest frame does not show, none: it stays where it was.
    """
    places, known, here = track.places, track.known, track.here
    came = (here - places[:, -2]) * known[:, -2:-1]
    steps = places.shape[1]
    times = (steps - 1) / 2 - ages(track)
    speed = (places * (times / times.square().sum())[:, None]).sum(dim=1)
    leads = places.mean(dim=1) + (steps + 1) / 2 * speed
    return Line(
        here + came + known[:, :1] * (leads - here - came),
        came + known[:, :1] * (speed - came),
    )
