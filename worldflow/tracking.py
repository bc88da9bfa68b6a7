"""The game's small object keeps its course: numbers tell where it goes, and there it is drawn.

A trunk reads the speed of a ball of one or two pixels off pictures, errors and all, and what it
draws is read again: after a few steps it is asked about flights that no recording has, and where
the ball turns, its mean fades (docs/experiments.md, 96, 103). So here the ball is found in the
frames, by the colours that its game defines of it (envs/objects.py), and among things of the same
colours by what has come; its places are told to a network as numbers, with what is around the last
of them, cut out so that it is in the middle. From there it goes in a few strides, and before each
of them it looks at what is close to the ball now: what turns it is met on the way. So it says where
the ball will be, and the mean's ball is taken out and put there. All that depends on the history
alone, as the mean does: likelihoods stay exact.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflow.course import LEAST, Line, Track, ages, distance, line, near_enough, ramp
from worldflow.patch import patch_about
from worldflow.sites import asinh_units
from worldflow.trunk import full_precision, zeroed

CELL = 4  # pixels between the middles of the windows in which one is looked for first
REACH = 3  # pixels around a guess, in which all of an object is
AROUND = 7  # pixels around it that the network is shown
CLOSE = 3  # pixels around it that are close
STRIDES = 2  # in a step
EDGES = (24, 32)  # channels of what is seen around it, at a half and at a quarter of the size
CERTAIN = (0.125, 0.375)  # share of an object's usual mass: less is nothing, more is there
FLICKER = 0.1  # of its strength, by which what it flies among may change in a dream
FINE = 0.1  # pixels
FAR = 16.0  # pixels
OCTAVES = 4  # of the waves in which numbers are told
LONGEST = 6.4  # pixels: the longest wave
SPREAD = (4.0, 6.0)  # pixels from its centre: up to there it is drawn, and from there on not
DRAWN = math.ceil(SPREAD[1])  # pixels around its place, rounded: farther off none is drawn
SURE = (0.3, 0.6)  # odds of being right, from which on it is moved, and in which entirely
GONE = (0.9, 0.97)  # odds of being out of sight, from which on it fades, and in which it is gone
WHOLE = (0.5, 0.8)  # share of its mass, from which on the mean's object is whole
NEAR = (0.75, 1.5)  # pixels from where it will be, up to which it is near
FITS = (0.1, 0.3)  # pixels from where it will be, up to which a solid one of the mean is right
ENTIRE = (0.85, 0.95)  # share of its mass, from which on such a one is entire
ALONE = (1.15, 1.3)  # of what the mean has of it in all, up to which it is the only one
ELSEWHERE = (1.0, 1.5)  # pixels from where it will be, from which on it is at another place
BRIGHTER = 2.0  # times in a step, at most
BESIDE = 0.3  # pixels, at most, that it is aimed beside its place
PALE = (0.02, 0.1)  # of its strength: a pixel with less is none of it, with more is


class Foretold(NamedTuple):
    """What the network says of it."""

    place: Tensor  # (N, 2), where it will be, pixels
    mass: Tensor  # (N,), of the usual mass
    right: Tensor  # (N,), log-odds that it will be there
    in_sight: Tensor  # (N,), log-odds that it will be anywhere


class Stride(nn.Module):
    """A part of the way: what is close to where the object is now, and what that changes."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.close = nn.Linear(3 * (2 * CLOSE + 1) ** 2, hidden)
        self.where = nn.Linear(2 + 2 + 2 * 2 * OCTAVES, hidden)
        self.known = nn.Linear(hidden, hidden, bias=False)
        self.learned = nn.Linear(hidden, hidden)
        self.weighed = nn.Linear(hidden, hidden)
        self.decided = zeroed(nn.Linear(hidden, hidden))
        self.turn = zeroed(nn.Linear(hidden, 4))

    def forward(self, h: Tensor, close: Tensor, where: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is known of the object then, and how its speed and its place change `(N, 2)`."""
        seen = self.close(close) + self.where(where) + self.known(F.silu(h))
        h = h + self.learned(F.silu(seen))  # what is met
        h = h + self.decided(F.silu(self.weighed(F.silu(h))))
        faster, by = full_precision(self.turn(F.silu(h))).split([2, 2], dim=1)
        return h, faster, by


class Tracker(nn.Module):
    """Mean, frames and actions -> the mean with one of the game's objects where it will be."""

    channels: Tensor
    bias: Tensor
    seen: Tensor
    among: Tensor
    usual: Tensor
    colours: Tensor
    windows: Tensor
    middles: Tensor
    near: Tensor
    of_near: Tensor
    around: Tensor
    close: Tensor

    def __init__(
        self,
        history: int,
        size: int,
        actions: int,
        hidden: int,
        company: int = 0,
        striped: bool = False,
    ) -> None:
        """
        Args:
            company: how many other objects it is told of.
            striped: whether rows differ in `channels`, among things that are nearly like it.
        """
        super().__init__()
        self.history, self.size, self.action_count = history, size, actions
        self.striped = striped
        # The first is the smallest (envs/objects.py), and fades; but none of these is a mere ball.
        self.solid = striped or company > 0
        told = (2 + 2 + 2 + 1) * history + 2 * 2 * 2 * OCTAVES + 2
        half, quarter = EDGES
        self.surroundings = nn.Sequential(
            nn.Conv2d(2 * 3, half, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(half, quarter, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(1),
            nn.Linear(quarter * ((AROUND + 1) // 2) ** 2, hidden),
        )
        self.actions = nn.Embedding(history * (actions + 1), hidden)  # the last of each: none
        self.numbers = nn.Linear(told, hidden)
        of_each = (2 + 2 + 1) * history + 2 * 2 * 2 * OCTAVES
        self.company = nn.Linear(company * of_each, hidden) if company else None
        self.strides = nn.ModuleList(Stride(hidden) for _ in range(STRIDES))
        self.says = zeroed(nn.Linear(hidden, 3))
        # How the object shows; until that is told, nothing does.
        for name, look in (
            ("channels", torch.zeros(3, size) if striped else torch.zeros(3)),  # of each row
            ("bias", torch.zeros(size, size)),
            ("seen", torch.zeros(size, size)),
            ("among", torch.zeros(size, size)),
            ("usual", torch.ones(())),
            ("colours", torch.zeros(3, size)),  # of each row
        ):
            self.register_buffer(name, look)
        windows = _measure(_places(torch.arange(2 * CELL) - CELL + 0.5))
        middles = CELL * torch.arange(size // CELL) + (CELL - 1) / 2
        near, around, close = (
            _places(torch.arange(-rim, rim + 1.0)) for rim in (REACH, AROUND, CLOSE)
        )
        for name, constant in (
            ("windows", windows.T.reshape(3, 1, 2 * CELL, 2 * CELL)),
            ("middles", _places(middles)),
            ("near", near),
            ("of_near", _measure(near)),
            ("around", around),
            ("close", close),
        ):
            self.register_buffer(name, constant, persistent=False)

    def forward(
        self, mean: Tensor, past: Tensor, actions: Tensor, company: Sequence[Track] = ()
    ) -> tuple[Tensor, Track]:
        """The mean with the object where it will be, and where it was.

        Args:
            mean: `(N, 3, H, W)`, in [-1, 1].
            past: `(N, L, 3, H, W)`, the frames, newest last.
            actions: `(N, L)`, those taken at them; the newest is the one taken now.
            company: where the others were.
        """
        strength = self.strength(torch.cat((past, mean[:, None]), dim=1))
        before, in_mean = strength[:, :-1], strength[:, -1]
        track = self.track(before)
        foretold = self.foretold(self.views(past, before, track), track, actions, company)
        return self.drawn(mean, in_mean, before, track, foretold), track

    def sees(self, past: Tensor) -> Tensor:
        """Whether the newest frame of `past`, as above, shows it `(N,)`: 0 to 1."""
        return self.track(self.strength(past)).seen[:, -1]

    def strength(self, frames: Tensor) -> Tensor:
        """How much of each pixel is object: `(N, F, 3, H, W)`, frames in a row -> `(N, F, H, W)`.

        From 0 to 1. Where other things stand that look like it, what has come since the frames
        before; so there the first shows none.
        """
        return self.shown(self.contrast(frames))

    def contrast(self, frames: Tensor) -> Tensor:
        """How far each pixel has the object's colours: `(..., 3, H, W)` -> `(..., H, W)`."""
        return (frames * self.channels.reshape(3, -1, 1)).sum(dim=-3) + self.bias

    def shown(self, contrast: Tensor) -> Tensor:
        """`strength`, by the `contrast` of the frames."""
        first, *later = contrast.unbind(dim=1)
        shows, least = [first * (1 - self.among)], first
        for frame in later:
            shows.append(frame - self.among * (least.clamp(min=0.0) + FLICKER))
            least = torch.minimum(least, frame)
        return torch.stack(shows, dim=1).clamp(0, 1) * self.seen

    def track(self, strength: Tensor) -> Track:
        """The greatest object of each frame, if it is the newest's; `strength` `(N, L, H, W)`."""
        length = strength.shape[1]
        # By -1, and not by N: a graph with a free batch would ask for its shape in every step.
        place, mass = self.greatest(strength.reshape(-1, self.size, self.size))
        track = Track(place.reshape(-1, length, 2), ramp(mass, CERTAIN).reshape(-1, length))
        return track._replace(seen=track.seen * near_enough(track.places, ages(track), track))

    def greatest(self, strength: Tensor) -> tuple[Tensor, Tensor]:
        """The greatest object of pictures `(M, H, W)`: its centre `(M, 2)` and its mass `(M,)`."""
        found = F.conv2d(strength[:, None], self.windows, stride=CELL, padding=CELL // 2)
        mass, moments = found.flatten(2).transpose(1, 2).split([1, 2], dim=2)
        guesses: Tensor = self.middles + moments / (mass + LEAST)
        best = mass.argmax(dim=1, keepdim=True).expand(-1, -1, 2)
        return self.near_by(strength, guesses.gather(1, best)[:, 0])

    def near_by(self, strength: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
        """The same of the object near `guess` `(M, 2)`; its mass in those of a usual one."""
        grid = self._grid(guess[:, None, None] + self.near)
        seen = F.grid_sample(strength[:, None], grid, align_corners=False)[:, 0, 0]  # (M, P)
        mass, moments = (seen @ self.of_near).split([1, 2], dim=1)
        return guess + moments / (mass + LEAST), mass[:, 0] / self.usual

    def _grid(self, points: Tensor) -> Tensor:
        """Rows and columns in pixels, as `grid_sample` wants them."""
        return (2 * points.flip(-1) + 1) / self.size - 1

    def views(self, past: Tensor, strength: Tensor, track: Track) -> Tensor:
        """The last two frames around where the object was seen last `(N, 6, V, V)`, without it."""
        grid = self._grid(track.here[:, None, None] + self.around)
        frames = self.without(past[:, -2:], strength[:, -2:]).flatten(1, 2)
        views = F.grid_sample(frames, grid, padding_mode="border", align_corners=False)
        return views.reshape(-1, 6, 2 * AROUND + 1, 2 * AROUND + 1)

    def without(self, frames: Tensor, strength: Tensor) -> Tensor:
        """`frames` `(N, F, 3, H, W)` with the object of that `strength` taken out.

        Where it is, numbers tell; and a picture of it would tell something else than these where
        they are off, in training, but not in a dream, whose pictures are off as well.
        """
        return frames - strength[:, :, None] * self.colours[..., None]

    def foretold(
        self, views: Tensor, track: Track, actions: Tensor, company: Sequence[Track] = ()
    ) -> Foretold:
        """Where the object will be, by all that is known; `views` as `views` has them."""
        straight = line(track)
        told = self.numbers(self._told(track, straight))
        slots = torch.arange(self.history, device=actions.device) * (self.action_count + 1)
        h = self.surroundings(views) + told + self.actions(actions + slots).sum(dim=1)
        if self.company is not None:
            h = h + self.company(torch.cat([_beside(track, other) for other in company], dim=1))
        place, speed = straight.leads - straight.speed, straight.speed / STRIDES
        for stride in self.strides:
            gone = place - track.here
            # Where it looks is no way to be right: that gradient would be noise, and costs time.
            grid = ((gone.detach()[:, None, None] + self.close) / AROUND).flip(-1)
            close = F.grid_sample(views[:, 3:], grid, padding_mode="border", align_corners=True)
            where = torch.cat((_waves(place), speed, gone / 3), dim=1)
            h, faster, by = stride(h, close.flatten(1), where)
            speed = speed + faster
            place = place + speed + by
        rest = full_precision(self.says(F.silu(h)))
        return Foretold(place, 1 + rest[:, 0], rest[:, 1], rest[:, 2])

    def _told(self, track: Track, straight: Line) -> Tensor:
        """A track as a network wants to see it `(N, told)`.

        Places as distances from the last one and from a straight line, in which a tenth of a pixel
        counts; where the line leads and its speed in waves, by which it can tell where between two
        pixels an object is, and which of some speeds it has.
        """
        here, seen = track.here[:, None], track.seen[..., None]
        come = (here - track.places) * seen
        steps = ages(track)[:, None] + 1
        apart = track.places - straight.leads[:, None] + steps * straight.speed[:, None]
        apart = apart * track.known[:, :1, None]
        parts = (
            asinh_units(come, FINE).flatten(1) / 3,
            come.flatten(1) / 3,
            asinh_units(apart, FINE).flatten(1),
            track.seen,
            _waves(torch.cat((straight.speed, straight.leads), dim=1)),
            2 * here[:, 0] / self.size - 1,
        )
        return torch.cat(parts, dim=1)

    def drawn(
        self, mean: Tensor, in_mean: Tensor, before: Tensor, track: Track, foretold: Foretold
    ) -> Tensor:
        """`mean` with its object taken out, and put where it will be.

        What is put there is the mean's own object, if that is whole and near, for it has the shape
        of a next one; else that of the frame that shows it last. A pale one gets its mass back, by
        twice of what it has at most. One that will not be in sight is taken out alone. Among things
        nearly like it, only what is near its place is taken out. What is solid neither fades nor
        blurs: the mean's is moved as it is, and only where that is wrong.

        Args:
            mean: `(N, 3, H, W)`.
            in_mean: its strength `(N, H, W)`.
            before: that of the last frames `(N, L, H, W)`.
            track: of the object.
            foretold: of the same.
        """
        place = foretold.place
        led, mass = self.near_by(in_mean, place)
        put = track.last.sum(dim=1)
        if self.solid:
            place, trusted = self.reconciled(in_mean, led, foretold)
            put = put * trusted
        whole = ramp(mass / (foretold.mass + LEAST), WHOLE)
        near = (whole * (1 - ramp(distance(led - place), NEAR)))[:, None]
        last = (before * track.last[..., None, None]).sum(dim=1)
        patch = patch_about(place, DRAWN, self.size)
        window = (1 - ramp(distance(patch.points - place[:, None]), SPREAD)) * patch.of(self.seen)

        def at(aim: Tensor) -> Tensor:
            """How much of each pixel of the patch is object, moved to `aim`: `(N, P)`."""
            new = self._sampled(in_mean, patch.points - (aim - led)[:, None])
            old = self._sampled(last, patch.points - (aim - track.here)[:, None])
            shape = torch.lerp(old, new, near) * window
            sharp = shape * ramp(shape, PALE)  # or its blur would spread from frame to frame
            brighter = foretold.mass * self.usual / (sharp.sum(dim=1) + LEAST)
            made = (sharp * brighter.clamp(0.0, BRIGHTER)[:, None]).clamp(max=1.0)
            return torch.lerp(made, shape, near) if self.solid else made

        # What is cut off, at an edge or where it is pale, moves its centre: aim as far beside.
        missed, _ = self.near_by(patch.put(at(place)), place)
        there = patch.put(at(place + (place - missed).clamp(-BESIDE, BESIDE)))
        gate = ramp(torch.sigmoid(foretold.right), SURE) * put
        gone = ramp(torch.sigmoid(-foretold.in_sight), GONE) * put
        out = torch.maximum(gate, gone)[:, None, None] * in_mean
        if self.striped:  # what is nearly of its colour may drive by elsewhere
            out = out * patch.put(window)
        change = gate[:, None, None] * there - out
        return mean + change[:, None] * self.colours[..., None]

    def reconciled(self, in_mean: Tensor, led: Tensor, foretold: Foretold) -> tuple[Tensor, Tensor]:
        """Where a solid object is put `(N, 2)`, and whether it is `(N,)`, by what the mean has.

        The trunk knows more than some numbers of four frames, and draws what is solid exactly,
        where it is sure. So what it has within a tenth of a pixel or so stays there; and if it has
        one, whole and alone, at another place, nothing is done.
        """
        place = torch.lerp(led, foretold.place, ramp(distance(led - foretold.place), FITS)[:, None])
        there, mass = self.greatest(in_mean)
        told = foretold.mass + LEAST
        entire = ramp(mass / told, ENTIRE)
        alone = 1 - ramp(in_mean.sum(dim=(1, 2)) / (told * self.usual), ALONE)
        elsewhere = entire * alone * ramp(distance(there - foretold.place), ELSEWHERE)
        return place, 1 - elsewhere

    def _sampled(self, strength: Tensor, points: Tensor) -> Tensor:
        """`strength` `(N, H, W)` at `points` `(N, P, 2)`, pixels: `(N, P)`."""
        grid = self._grid(points[:, None])
        seen = F.grid_sample(strength[:, None], grid, mode="bicubic", align_corners=False)
        return seen[:, 0, 0].clamp(0, 1)


def _beside(track: Track, other: Track) -> Tensor:
    """The track of another object as a network wants to see it, from where this one is."""
    here = track.here
    apart = (other.places - here[:, None]) * other.seen[..., None]
    last = (other.here - here) * other.last.sum(dim=1, keepdim=True)
    parts = (
        asinh_units(apart, FINE).flatten(1) / 3,
        apart.flatten(1) / FAR,
        other.seen,
        _waves(torch.cat((last, line(other).speed), dim=1)),
    )
    return torch.cat(parts, dim=1)


def _places(along: Tensor) -> Tensor:
    """All pairs of row and column `(n*n, 2)`."""
    return torch.cartesian_prod(along, along)


def _waves(numbers: Tensor) -> Tensor:
    """Numbers `(N, n)` in pixels as waves of some lengths `(N, 2 * n * OCTAVES)`."""
    octaves = 2.0 ** torch.arange(OCTAVES, device=numbers.device) * 2 * math.pi / LONGEST
    phases = (numbers[..., None] * octaves).flatten(1)
    return torch.cat((phases.sin(), phases.cos()), dim=1)


def _measure(offsets: Tensor) -> Tensor:
    """What pixels at `offsets` `(n, 2)` add to mass and moments `(n, 3)`.

    At the window's edge they count half: objects do not come and go by less than a pixel.
    """
    counts = (1 - 0.5 * (offsets.abs() == offsets.amax()).float()).prod(dim=1, keepdim=True)
    return counts * torch.cat((torch.ones_like(counts), offsets), dim=1)
