"""The game's small object keeps its course: numbers tell where it goes, and there it is drawn.

A trunk reads the speed of a ball of one or two pixels off pictures, errors and all, and what it
draws is read again: after a few steps it is asked about flights that no recording has, and where
the ball turns, its mean fades (docs/experiments.md, 96, 103). So here the ball is found in the
frames, by the colours that its game defines of it (envs/objects.py); its places are told to a
network as numbers, with what is around it, cut out so that the ball is in the middle; the network
says where it will be, and the mean's ball is taken out and put there. All that depends on the
history alone, as the mean does: likelihoods stay exact.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflow.sites import asinh_units
from worldflow.trunk import full_precision, zeroed

CELL = 4  # pixels between the middles of the windows in which one is looked for first
REACH = 3  # pixels around a guess, in which all of an object is
FASTEST = 8  # pixels that it goes in a step
AROUND = 7  # pixels around it that the network is shown
CERTAIN = (0.125, 0.375)  # share of an object's usual mass: less is nothing, more is there
FINE = 0.1  # pixels
OCTAVES = 4  # of the waves in which numbers are told
LONGEST = 6.4  # pixels: the longest wave
SPREAD = (4.0, 6.0)  # pixels from its centre: up to there it is drawn, and from there on not
SURE = (0.3, 0.6)  # odds of being right, from which on it is moved, and in which entirely
WHOLE = (0.5, 0.8)  # share of its mass, from which on the mean's object is whole
NEAR = (0.75, 1.5)  # pixels from where it will be, up to which it is near
BRIGHTER = 2.0  # times in a step, at most
LEAST = 1e-3  # of a mass, so that nothing has a centre, too


class Track(NamedTuple):
    """Where the object is, and was."""

    places: Tensor  # (N, L, 2), row and column in pixels; oldest first
    mass: Tensor  # (N,), in the newest frame, of the usual mass
    known: Tensor  # (N, L-1), whether it was followed back as far as that frame: 0 to 1


class Foretold(NamedTuple):
    """What the network says of it."""

    place: Tensor  # (N, 2), where it will be, pixels
    mass: Tensor  # (N,), of the usual mass
    odds: Tensor  # (N,), log-odds that it will be there


class Line(NamedTuple):
    """Where it would be if it went straight on, each `(N, 2)`, pixels."""

    next: Tensor  # by the last two places
    leads: Tensor  # by all
    speed: Tensor  # in a step, by all


class Tracker(nn.Module):
    """Mean, frames and action -> the mean with the game's object where it will be."""

    channels: Tensor
    bias: Tensor
    seen: Tensor
    usual: Tensor
    colour: Tensor
    windows: Tensor
    middles: Tensor
    near: Tensor
    of_near: Tensor
    far: Tensor
    of_far: Tensor
    around: Tensor
    pixels: Tensor

    def __init__(self, history: int, size: int, actions: int, hidden: int) -> None:
        super().__init__()
        self.history, self.size = history, size
        told = 4 * (history - 1) + 2 * history + (history - 1) + 2 * 2 * 2 * OCTAVES + 2
        self.surroundings = nn.Linear(2 * 3 * (2 * AROUND + 1) ** 2, hidden)
        self.action = nn.Embedding(actions + 1, hidden)  # the last: none
        self.numbers = nn.Linear(told, hidden)
        self.course = nn.Sequential(
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            zeroed(nn.Linear(hidden, 6)),
        )
        # How the object shows; until that is told, nothing does.
        for name, look in (
            ("channels", torch.zeros(3)),
            ("bias", torch.zeros(())),
            ("seen", torch.zeros(size, size)),
            ("usual", torch.ones(())),
            ("colour", torch.zeros(3)),
        ):
            self.register_buffer(name, look)
        windows = _measure(_places(torch.arange(2 * CELL) - CELL + 0.5))
        middles = CELL * torch.arange(size // CELL) + (CELL - 1) / 2
        near, far, around = (
            _places(torch.arange(-rim, rim + 1.0)) for rim in (REACH, FASTEST, AROUND)
        )
        for name, constant in (
            ("windows", windows.T.reshape(3, 1, 2 * CELL, 2 * CELL)),
            ("middles", _places(middles)),
            ("near", near),
            ("of_near", _measure(near)),
            ("far", far),
            ("of_far", _measure(far)),
            ("around", around),
            ("pixels", _places(torch.arange(float(size)))),
        ):
            self.register_buffer(name, constant, persistent=False)

    def forward(self, mean: Tensor, past: Tensor, action: Tensor) -> Tensor:
        """The mean with the object where it will be.

        Args:
            mean: `(N, 3, H, W)`, in [-1, 1].
            past: `(N, L, 3, H, W)`, the frames, newest last.
            action: `(N,)`, the one taken now.
        """
        strength = self.strength(past)
        track = self.track(strength)
        foretold = self.foretold(self.views(past, track), track, action)
        return self.drawn(mean, strength[:, -1], track, foretold)

    def strength(self, frames: Tensor) -> Tensor:
        """How much of each pixel is object: `(..., 3, H, W)` -> `(..., H, W)`, 0 to 1."""
        return self.likeness(frames) * self.seen

    def likeness(self, pictures: Tensor) -> Tensor:
        """The same of pictures of any size, wherever they are of: by their colours alone."""
        contrast = (pictures * self.channels[:, None, None]).sum(dim=-3)
        return (contrast + self.bias).clamp(0, 1)

    def track(self, strength: Tensor) -> Track:
        """The newest frame's greatest object, followed back; `strength` `(N, L, H, W)`."""
        place, mass = self.find(strength[:, -1], self._guess(strength[:, -1:]))
        places, known = [place], [_ramp(mass, CERTAIN)]
        for frame in reversed(range(self.history - 1)):
            place, before = self.look(strength[:, frame], places[0])
            places.insert(0, place)
            known.insert(0, known[0] * _ramp(before, CERTAIN))
        return Track(torch.stack(places, dim=1), mass, torch.stack(known[:-1], dim=1))

    def _guess(self, strength: Tensor) -> Tensor:
        """Where the greatest object of a picture `(N, 1, H, W)` is, or so `(N, 2)`."""
        found = F.conv2d(strength, self.windows, stride=CELL, padding=CELL // 2)
        mass, moments = found.flatten(2).transpose(1, 2).split([1, 2], dim=2)
        guesses: Tensor = self.middles + moments / (mass + LEAST)
        best = mass.argmax(dim=1, keepdim=True).expand(-1, -1, 2)
        return guesses.gather(1, best)[:, 0]

    def look(self, strength: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
        """As `find`, of an object that may have gone a step since it was `near`."""
        guess, _ = self._centre(strength, near, self.far, self.of_far)
        return self.find(strength, guess)

    def find(self, strength: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
        """The object of a picture `(N, H, W)` near `guess` `(N, 2)`: its centre and its mass."""
        return self._centre(strength, guess, self.near, self.of_near)

    def _centre(
        self, strength: Tensor, guess: Tensor, window: Tensor, measure: Tensor
    ) -> tuple[Tensor, Tensor]:
        grid = self._grid(guess[:, None, None] + window)
        seen = F.grid_sample(strength[:, None], grid, align_corners=False)[:, 0, 0]  # (N, P)
        mass, moments = (seen @ measure).split([1, 2], dim=1)
        return guess + moments / (mass + LEAST), mass[:, 0] / self.usual

    def _grid(self, points: Tensor) -> Tensor:
        """Rows and columns in pixels, as `grid_sample` wants them."""
        return (2 * points.flip(-1) + 1) / self.size - 1

    def views(self, past: Tensor, track: Track) -> Tensor:
        """The last two frames around the object `(N, 6 * P)`, it in the middle of both."""
        grid = self._grid(track.places[:, None, -1:] + self.around)
        frames = past[:, -2:].flatten(1, 2)
        views = F.grid_sample(frames, grid, padding_mode="border", align_corners=False)
        return views.flatten(1)

    def foretold(self, views: Tensor, track: Track, action: Tensor) -> Foretold:
        """Where the object will be, by all that is known."""
        straight = line(track)
        told = self.numbers(self._told(track, straight))
        h = self.surroundings(views) + told + self.action(action)
        by, weight, rest = full_precision(self.course(h)).split([2, 2, 2], dim=1)
        place = straight.leads + weight * (straight.leads - straight.next) + by
        return Foretold(place, 1 + rest[:, 0], rest[:, 1])

    def _told(self, track: Track, straight: Line) -> Tensor:
        """A track as a network wants to see it `(N, told)`.

        Places as distances from the newest and from a straight line, in which a tenth of a pixel
        counts; where the line leads and its speed in waves, by which it can tell where between two
        pixels an object is, and which of some speeds it has.
        """
        here = track.places[:, -1:]
        come = (here - track.places[:, :-1]) * track.known[..., None]
        ages = torch.arange(self.history, 0, -1, device=here.device)[:, None]
        apart = track.places - straight.leads[:, None] + ages * straight.speed[:, None]
        apart = apart * track.known[:, :1, None]
        octaves = 2.0 ** torch.arange(OCTAVES, device=here.device) * 2 * math.pi / LONGEST
        phases = (
            torch.stack((straight.speed, straight.leads), dim=1)[..., None] * octaves
        ).flatten(1)
        parts = (
            asinh_units(come, FINE).flatten(1) / 3,
            come.flatten(1) / 3,
            asinh_units(apart, FINE).flatten(1),
            track.known,
            phases.sin(),
            phases.cos(),
            2 * here[:, 0] / self.size - 1,
        )
        return torch.cat(parts, dim=1)

    def drawn(self, mean: Tensor, newest: Tensor, track: Track, foretold: Foretold) -> Tensor:
        """`mean` with its object taken out, and put where it will be.

        What is put there is the mean's own object, if that is whole and near, for it has the shape
        of a next one; else the newest frame's. A pale one gets its mass back, by twice of what it
        has at most.

        Args:
            mean: `(N, 3, H, W)`.
            newest: the newest frame's strength `(N, H, W)`.
            track: of the object.
            foretold: of the same.
        """
        place, in_mean = foretold.place, self.strength(mean)
        led, mass = self.find(in_mean, place)
        whole = _ramp(mass / (foretold.mass + LEAST), WHOLE)
        near = whole * (1 - _ramp((led - place).norm(dim=1), NEAR))
        new = self._shifted(in_mean, place - led)
        old = self._shifted(newest, place - track.places[:, -1])
        apart = (self.pixels - place[:, None]).square().sum(dim=2)
        apart = apart.clamp(min=LEAST).sqrt()  # whose gradient at 0 is none
        window = 1 - _ramp(apart, SPREAD).reshape(-1, self.size, self.size)
        shape = torch.lerp(old, new, near[:, None, None]) * window * self.seen
        brighter = foretold.mass * self.usual / (shape.sum(dim=(1, 2)) + LEAST)
        there = (shape * brighter.clamp(0.0, BRIGHTER)[:, None, None]).clamp(max=1.0)
        gate = _ramp(torch.sigmoid(foretold.odds), SURE) * _ramp(track.mass, CERTAIN)
        change = gate[:, None, None] * (there - in_mean)
        return mean + change[:, None] * self.colour[:, None, None]

    def _shifted(self, strength: Tensor, by: Tensor) -> Tensor:
        """`strength` `(N, H, W)` moved by `by` `(N, 2)`, pixels."""
        grid = self._grid(self.pixels - by[:, None]).reshape(-1, self.size, self.size, 2)
        moved = F.grid_sample(strength[:, None], grid, mode="bicubic", align_corners=False)
        return moved[:, 0].clamp(0, 1)


def _places(along: Tensor) -> Tensor:
    """All pairs of row and column `(n*n, 2)`."""
    return torch.cartesian_prod(along, along)


def _measure(offsets: Tensor) -> Tensor:
    """What pixels at `offsets` `(n, 2)` add to mass and moments `(n, 3)`.

    At the window's edge they count half: objects do not come and go by less than a pixel.
    """
    counts = (1 - 0.5 * (offsets.abs() == offsets.amax()).float()).prod(dim=1, keepdim=True)
    return counts * torch.cat((torch.ones_like(counts), offsets), dim=1)


def _ramp(values: Tensor, span: tuple[float, float]) -> Tensor:
    """0 below a span of values, 1 above it."""
    return ((values - span[0]) / (span[1] - span[0])).clamp(0, 1)


def line(track: Track) -> Line:
    """The straight line through all places of an object that is known so far back; else two."""
    places, steps = track.places, track.places.shape[1]
    here = places[:, -1]
    came = (here - places[:, -2]) * track.known[:, -1:]
    ages = torch.arange(steps, device=places.device) - (steps - 1) / 2
    speed = (places * (ages / ages.square().sum())[:, None]).sum(dim=1)
    leads = places.mean(dim=1) + (steps + 1) / 2 * speed
    known = track.known[:, :1]
    return Line(
        here + came, here + came + known * (leads - here - came), came + known * (speed - came)
    )
