"""What moves keeps its course: its place in the base's mean, put right by where it came from.

A trunk that is shown four frames reads a ball's speed off the last two, errors and all, and what it
draws is read again: so the speed of a ball walks at random, and after a dozen steps it is where
no real ball would be (docs/experiments.md, 96). That it could be known, and that what is drawn
follows the mean, has been measured (99). So here a thing is followed back through the frames, its
places are told to a small network as numbers, and the network says by how much the mean has it
off its course. All that depends on the history alone, as the mean does: likelihoods stay exact.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflow.sites import asinh_units
from worldflow.trunk import full_precision, zeroed

CELL = 4  # pixels; there is one answer for each cell
REACH = 3  # pixels around a guess, in which a thing is looked for
UNLIKE = 0.1  # by which a pixel's colours, all three together, may be off what stands still
LEAST = 0.05  # of a thing, which counts as none: then it is where it is guessed to be
BEYOND = 4.0  # a thing with a quarter of it on its window's rim goes on beyond that
FARTHEST = 1.0  # pixels from a straight line, within which a thing is put right, and by how much
FINE = 0.1  # pixels
OCTAVES = 4  # of the waves in which numbers are told
LONGEST = 6.4  # pixels: the longest wave
OTHER = 4.0  # squared distance, in units of the noise, from which on a colour is another


class Track(NamedTuple):
    """Of each cell, the thing that the mean has near its middle, and where that was before."""

    places: Tensor  # (N, L+1, 2, h, w), row and column in pixels; oldest first, in the mean last
    masses: Tensor  # (N, L+1, h, w), how much of it was found there
    whole: Tensor  # (N, 1, h, w), whether all of it was in its window each time: 1, or down to 0


class Tracker(nn.Module):
    """Mean and frames -> the mean with things that move put right."""

    window: Tensor
    inside: Tensor
    around: Tensor
    cells: Tensor
    pixels: Tensor

    def __init__(self, history: int, size: int, sigma: float, hidden: int) -> None:
        super().__init__()
        self.history, self.size, self.sigma = history, size, sigma
        self.grid = size // CELL
        self.displacement = nn.Sequential(
            nn.PixelUnshuffle(CELL),
            nn.Conv2d(2 * CELL * CELL, hidden // 2, 5, padding=2),
            nn.SiLU(),
            nn.Conv2d(hidden // 2, hidden // 2, 3, padding=1),
            nn.SiLU(),
            zeroed(nn.Conv2d(hidden // 2, 2, 1)),
        )
        told = 3 * (history + 1) + 2 * 2 * 2 * OCTAVES
        self.course = nn.Sequential(
            nn.Conv2d(told, hidden, 1),
            nn.SiLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.SiLU(),
            zeroed(nn.Conv2d(hidden, 4, 1)),
        )
        middles = CELL * torch.arange(self.grid) + (CELL - 1) / 2
        offsets = _places(torch.arange(-REACH, REACH + 1.0))  # (49, 2)
        rim = (offsets.abs().amax(dim=1, keepdim=True) == REACH).float()
        inside = torch.cat((_measure(offsets, REACH), rim), dim=1)
        around = _measure(_places(torch.arange(2 * CELL) - CELL + 0.5), CELL - 0.5)
        for name, constant in (
            ("window", 2 * offsets.flip(1) / size),  # (49, 2), as `grid_sample` wants it
            ("inside", inside),  # (49, 4)
            ("around", around.T.reshape(3, 1, 2 * CELL, 2 * CELL)),
            ("cells", _places(middles).T.reshape(2, self.grid, self.grid)),
            ("pixels", _places(torch.arange(float(size)))),  # (H*W, 2)
        ):
            self.register_buffer(name, constant, persistent=False)

    def forward(self, mean: Tensor, past: Tensor) -> Tensor:
        """The mean `(N, 3, H, W)`, put right; `past` `(N, L, 3, H, W)`, the frames, newest last."""
        still = standing(past, self.sigma)
        track = self.track(unlike(torch.cat((past, mean[:, None]), dim=1), still))
        return self.moved(mean, still, track.masses[:, -1:], self.correction(track))

    def track(self, unlike: Tensor) -> Track:
        """Things followed back through the frames.

        Each is looked for where a straight line has it, but for the newest frame: how far it has
        come from there is guessed by what the last two pictures are like.

        Args:
            unlike: `(N, L+1, H, W)`, how far each pixel of frames and mean is off what stands
                still; the mean last.
        """
        by = self.displacements(unlike)
        place, mass, whole = self.there(unlike[:, -1])
        places, masses = [place], [mass]
        for frame in reversed(range(self.history)):
            guess = 2 * places[0] - places[1] if len(places) > 1 else place - by
            place, mass, inside = self.find(unlike[:, frame], guess)
            places.insert(0, place)
            masses.insert(0, mass)
            there = (2 * mass / (masses[-1] + LEAST)).clamp(max=1)  # half of it will do
            whole = torch.minimum(whole, inside * there)
        return Track(torch.stack(places, dim=1), torch.stack(masses, dim=1), whole[:, None])

    def displacements(self, unlike: Tensor) -> Tensor:
        """How far the thing of each cell has come in the last step `(N, 2, h, w)`, pixels."""
        return full_precision(self.displacement(unlike[:, -2:]))

    def there(self, unlike: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The things of a picture `(N, H, W)` that are near the middle of each cell, as `find`."""
        found = F.conv2d(unlike[:, None], self.around, stride=CELL, padding=CELL // 2)
        place = self.cells + found[:, 1:] / (found[:, :1] + LEAST)
        return self.find(unlike, place)  # what was at the edge of the window is in its middle now

    def find(self, unlike: Tensor, near: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is within REACH of `near` `(N, 2, h, w)`.

        Its centre, as `near`; its mass `(N, h, w)`; and 1, likewise, if all of it is within the
        window, down to 0 for what goes on beyond: that has no centre to speak of.
        """
        grid = self._grid(near.flatten(2).transpose(1, 2))[:, :, None] + self.window
        seen = F.grid_sample(unlike[:, None], grid, align_corners=False)
        found = (seen[:, 0] @ self.inside).transpose(1, 2)  # (N, 4, cells)
        found = found.reshape(-1, 4, self.grid, self.grid)
        mass, moments, rim = found[:, :1], found[:, 1:3], found[:, 3]
        whole = F.relu(1 - BEYOND * rim / (mass[:, 0] + LEAST))
        return near + moments / (mass + LEAST), mass[:, 0], whole

    def _grid(self, points: Tensor) -> Tensor:
        """Rows and columns in pixels, as `grid_sample` wants them."""
        return (2 * points.flip(-1) + 1) / self.size - 1

    def correction(self, track: Track) -> Tensor:
        """By how much the thing of each cell is off its course `(N, 2, h, w)`, pixels."""
        weight, rest = full_precision(self.course(self.told(track))).chunk(2, dim=1)
        leads, _ = self._line(track)
        off = leads - track.places[:, -1]
        distance = off.square().sum(dim=1, keepdim=True) / FARTHEST**2
        right = track.whole * F.relu(1 - distance)  # what is further off has turned
        return right * (weight * off + rest).clamp(-FARTHEST, FARTHEST)

    def told(self, track: Track) -> Tensor:
        """A track as a network wants to see it `(N, told, h, w)`.

        Places as distances from the straight line through those in the frames, in which a tenth of
        a pixel counts; where the line leads and its speed in waves, by which it can tell where
        between two pixels a thing is, and which of some speeds it has.
        """
        leads, speed = self._line(track)
        ages = torch.arange(-self.history, 1, device=leads.device)[:, None, None, None]
        apart = asinh_units(track.places - (leads[:, None] + ages * speed[:, None]), FINE)
        octaves = 2.0 ** torch.arange(OCTAVES, device=leads.device) * 2 * math.pi / LONGEST
        phases = torch.stack((speed, leads), dim=1)[:, :, :, None] * octaves[:, None, None]
        phases = phases.flatten(1, 3)
        masses = torch.log1p(track.masses)
        return torch.cat((apart.flatten(1, 2), masses, phases.sin(), phases.cos()), dim=1)

    def _line(self, track: Track) -> tuple[Tensor, Tensor]:
        """The straight line through the places in the frames: where it leads, and its speed."""
        places, steps = track.places[:, :-1], self.history
        ages = torch.arange(steps, device=places.device) - (steps - 1) / 2
        speed = (places * (ages / ages.square().sum())[:, None, None, None]).sum(dim=1)
        return places.mean(dim=1) + (steps + 1) / 2 * speed, speed

    def moved(self, mean: Tensor, still: Tensor, masses: Tensor, by: Tensor) -> Tensor:
        """`mean` with what does not stand still moved by that of the things near it."""
        sums = F.interpolate(
            torch.cat((by * masses, masses), dim=1), scale_factor=CELL, mode="bilinear"
        )
        field = sums[:, :2] / (sums[:, 2:] + LEAST)
        points = self.pixels - field.flatten(2).transpose(1, 2)
        grid = self._grid(points).reshape(-1, self.size, self.size, 2)
        drawn = F.grid_sample(
            mean - still, grid, mode="bicubic", padding_mode="border", align_corners=False
        )
        return still + drawn


def _places(along: Tensor) -> Tensor:
    """All pairs of row and column `(n*n, 2)`."""
    return torch.cartesian_prod(along, along)


def _measure(offsets: Tensor, edge: float) -> Tensor:
    """What pixels at `offsets` `(n, 2)` add to mass and moments `(n, 3)`.

    At the window's edge they count half: things do not come and go by less than a pixel.
    """
    counts = (1 - 0.5 * (offsets.abs() == edge).float()).prod(dim=1, keepdim=True)
    return counts * torch.cat((torch.ones_like(counts), offsets), dim=1)


def standing(past: Tensor, sigma: float) -> Tensor:
    """What stands still in the last frames `(N, L, 3, H, W)`: a picture `(N, 3, H, W)`.

    Each pixel is as the frames have it that agree best with all others; a thing that moves is
    alone with its colours where it is. If it is a tie, the newest frames have it.
    """
    length, device = past.shape[1], past.device
    one, other = torch.triu_indices(length, length, 1, device=device)
    apart = unlikeness(past[:, one] - past[:, other], sigma)  # (N, L(L-1)/2, H, W)
    frames = torch.arange(length, device=device)[:, None]
    of_frame = ((frames == one) | (frames == other)).to(apart)
    disagreement = F.conv2d(apart, of_frame[:, :, None, None])  # (N, L, H, W)
    newer = torch.arange(length, device=device)[:, None, None]
    weights = torch.softmax(newer - disagreement, dim=1)
    return (weights[:, :, None] * past).sum(dim=1)


def unlikeness(apart: Tensor, sigma: float) -> Tensor:
    """How unlike colours are that are `apart` `(N, P, 3, H, W)`: `(N, P, H, W)`.

    The squared distance in units of the noise, bent: of colours that are another, how far does
    not matter.
    """
    distance = (apart / sigma).square().sum(dim=2)
    return OTHER * torch.log1p(distance / OTHER)


def unlike(pictures: Tensor, still: Tensor) -> Tensor:
    """How far each pixel of `pictures` `(N, P, 3, H, W)` is off what is `still` `(N, P, H, W)`."""
    return F.relu((pictures - still[:, None]).abs().sum(dim=2) - UNLIKE)
