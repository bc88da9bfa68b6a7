"""`worldflow track`: a ripe world learns to keep what moves on its course.

Its base gets a `Tracker` (tracking.py), and that alone is trained; all other weights stay as they
are, to the bit. What it should say is known of every recorded step: where a thing is in the next
frame. In a dream it is told places that are off: those of its own pictures, and that which the
trunk has led to by them. So places are told as recorded, with errors put in, of the next one those
that a trunk makes of the last two. All that the network knows of a thing are these few numbers, so
things are followed once, by recorded frames alone, and an update takes a few milliseconds.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from worldflow.dataset import ClipSampler, Dataset
from worldflow.errors import InputError
from worldflow.model import to_signed
from worldflow.own_pictures import normal
from worldflow.ripe import RipeConfig, descend_by_adam, reshaped, train_part
from worldflow.tracking import REACH, Track, Tracker, standing, unlike
from worldflow.world import World

CLIP = 32  # steps that are looked at in a row
LOOK = 8  # clips looked at side by side
THING = 0.3  # mass from which there is something
WHOLE = 0.5  # how far within its window a thing has to be
ALIKE = (0.6, 1.6)  # of its mass, between which it is the same thing a frame before
FASTEST = 8  # pixels that a thing goes in a step
DIFFERENT = 0.3  # of its energy, by which a thing may differ from itself a frame before
STILL = 0.3  # pixels in a step, below which a thing stands still
FEW = 0.1  # of the things that stand still are kept
PICTURES = 32  # in an update that learns how far things come
FIRST = 0.3  # of the training, in which it is learned how far things come
EXACT = 0.02  # pixels, below which an error counts little
LEAST = 0.02  # of `error`, the least that places are off
EXTRAPOLATED = (1.6, -0.6)  # how the trunk's place follows the last one and that before (96)


@dataclass(frozen=True)
class TrackConfig(RipeConfig):
    """See `conf/track.yaml` for what each key means and its default."""

    kept: int
    width: int
    error: float


class Things(NamedTuple):
    """Things of recorded next frames: rows of numbers."""

    step: Tensor  # (C,), in which of the steps that were looked at
    cell: Tensor  # (C,), which cell of it
    by: Tensor  # (C, 2), how far it has come in the last step, pixels


def track(config: TrackConfig) -> None:
    """Give a world a tracker and train it; writes `out`.

    Raises:
        InputError: as `train_part`; `kept` below the steps of one look, `batch` or `width` below
            1, an `error` of 0 or less, or recordings in which nothing moves.
        WorkError: as `train_part`.
    """
    if config.kept < LOOK * CLIP or min(config.batch, config.width) < 1 or config.error <= 0:
        raise InputError(
            f"kept={config.kept} batch={config.batch} width={config.width} error={config.error}: "
            f"expected {LOOK * CLIP} or more steps, 1 or more things, 1 or more channels, and "
            "more than 0 pixels"
        )
    train_part(config, "tracked", partial(_tracked, config))


def _tracked(
    config: TrackConfig, world: World, training: Dataset, device: str
) -> tuple[World, int]:
    world = reshaped(world, tracking=world.model.config.tracking or config.width)
    tracker = world.model.base.tracker
    assert tracker is not None
    pictures = look(tracker, training, config, device)
    things = find(tracker, pictures, config.seed)
    print(f"{len(things.step)} things in {len(pictures)} steps", flush=True)
    if not len(things.step):
        raise InputError(f"kept={config.kept}: nothing moves in the steps that were looked at")
    updates = learn_displacements(tracker, pictures, things, part_of(config, FIRST))
    tracks = follow(tracker, pictures, things)
    updates += learn_courses(tracker, tracks, things, part_of(config, 1 - FIRST))
    world.model.requires_grad_(False)
    return world, updates


def part_of(config: TrackConfig, share: float) -> TrackConfig:
    """The same, for a share of its time."""
    steps = max(1, round(config.steps * share)) if config.steps else 0
    return replace(config, steps=steps, minutes=config.minutes * share)


@torch.no_grad()
def look(tracker: Tracker, dataset: Dataset, config: TrackConfig, device: str) -> Tensor:
    """What moves in some steps' last frames, and in the next one `(M, L+1, H, W)`, float16."""
    history = tracker.history
    sampler = ClipSampler(dataset, 1, 1, config.seed, past=history - 1)
    starts = np.random.default_rng(config.seed).permutation(np.arange(0, dataset.steps, CLIP))
    found = []
    for first in tqdm(range(0, min(len(starts), config.kept // CLIP), LOOK), desc="looking"):
        clips = sampler.steps(starts[first : first + LOOK], CLIP)
        frames = to_signed(clips.frames.to(device))
        pictures = frames.unfold(1, history + 1, 1).movedim(-1, 2).flatten(0, 1)
        pictures = pictures[torch.from_numpy(clips.valid.flatten()).to(device)]
        still = standing(pictures[:, :-1], tracker.sigma)
        found.append(unlike(pictures, still).half())
    return torch.cat(found)


@torch.no_grad()
def find(tracker: Tracker, pictures: Tensor, seed: int) -> Things:
    """The cells with a thing in the next frame that is in the one before, too.

    All of those that move, and few of the others.
    """
    generator = torch.Generator(pictures.device).manual_seed(seed)
    found = []
    for first in range(0, len(pictures), LOOK * CLIP):
        *_, before, after = pictures[first : first + LOOK * CLIP].float().unbind(dim=1)
        place, mass, whole = tracker.there(after)
        old, old_mass, _ = tracker.find(before, place)
        stands = ((place - old).abs().amax(dim=1) < STILL) & like(old_mass, mass)
        lots = torch.rand(mass.shape, generator=generator, device=mass.device)
        step, y, x = ((mass > THING) & (whole > WHOLE) & (~stands | (lots < FEW))).nonzero(
            as_tuple=True
        )
        by, right = come(before, after, step, place[step, :, y, x])
        cell = y * mass.shape[2] + x
        found.append((first + step[right], cell[right], by[right]))
    return Things(*(torch.cat(part) for part in zip(*found, strict=True)))


def like(one: Tensor, other: Tensor) -> Tensor:
    """Whether masses are alike enough to be one thing's."""
    return (one > ALIKE[0] * other) & (one < ALIKE[1] * other)


def come(before: Tensor, after: Tensor, step: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """How far things have come, by what looks most like them in the frame before.

    Args:
        before: M pictures `(M, H, W)` of what moves.
        after: the same a step later.
        step: which of the M steps each of C things is of.
        place: where it is then `(C, 2)`.

    Returns:
        By how much each has come `(C, 2)`, pixels, and whether anything there was like it `(C,)`.
    """
    size, side, rim = after.shape[-1], 2 * REACH + 1, FASTEST + REACH
    at = place.round().long().clamp(0, size - 1)
    thing = F.unfold(_around(after, step, at, REACH)[:, None], side)  # (C, 49, 1)
    others = F.unfold(_around(before, step, at, rim)[:, None], side)  # (C, 49, 17*17)
    off = (others - thing).square().sum(dim=1)
    shifts = torch.arange(-FASTEST, FASTEST + 1, device=after.device)
    shifts = torch.cartesian_prod(shifts, shifts)
    best = (off + 1e-3 * shifts.square().sum(dim=1)).argmin(dim=1)  # of what is alike, the nearest
    right = off.gather(1, best[:, None])[:, 0] < DIFFERENT * thing.square().sum(dim=(1, 2))
    return -shifts[best].float(), right


def _around(pictures: Tensor, step: Tensor, at: Tensor, rim: int) -> Tensor:
    """The squares of `2*rim + 1` pixels about places `at` `(C, 2)` of M `pictures`."""
    span = torch.arange(2 * rim + 1, device=at.device)
    rows, columns = at[:, :1] + span, at[:, 1:] + span
    return F.pad(pictures, 4 * [rim])[step[:, None, None], rows[:, :, None], columns[:, None]]


def learn_displacements(
    tracker: Tracker, pictures: Tensor, things: Things, config: TrackConfig
) -> int:
    """Train the part that guesses how far things have come in a step; updates made."""
    generator = torch.Generator(pictures.device).manual_seed(config.seed)
    cells = tracker.cells[0].numel()
    came = pictures.new_zeros((len(pictures) * cells, 2))
    there = pictures.new_zeros(len(came))
    at = things.step * cells + things.cell
    came[at], there[at] = things.by.half(), 1
    came, there = came.unflatten(0, (-1, cells)), there.unflatten(0, (-1, cells))
    moving = (came.abs().amax(dim=2) > STILL).any(dim=1).nonzero()[:, 0]
    if not len(moving):
        moving = things.step

    def loss() -> Tensor:
        lots = torch.randint(len(moving), (PICTURES,), generator=generator, device=generator.device)
        rows = moving[lots]
        by = tracker.displacements(pictures[rows].float()).flatten(2).transpose(1, 2)
        off = F.smooth_l1_loss(by, came[rows].float(), reduction="none").sum(dim=2)
        total: Tensor = (off * there[rows]).sum() / there[rows].sum().clamp(min=1)
        return total

    return _learn(tracker.displacement, loss, config)


@torch.no_grad()
def follow(tracker: Tracker, pictures: Tensor, things: Things) -> Track:
    """The tracks of all things, as of cells `(C, ..., 1, 1)`; each ends where the thing is."""
    places, masses, whole = [], [], []
    for first in range(0, len(pictures), LOOK * CLIP):
        track = tracker.track(pictures[first : first + LOOK * CLIP].float())
        here = (things.step >= first) & (things.step < first + LOOK * CLIP)
        step, cell = things.step[here] - first, things.cell[here]
        places.append(track.places.flatten(3)[step, :, :, cell])
        masses.append(track.masses.flatten(2)[step, :, cell])
        whole.append(track.whole.flatten(2)[step, :, cell])
    return Track(*(torch.cat(part)[..., None, None] for part in (places, masses, whole)))


def learn_courses(tracker: Tracker, tracks: Track, things: Things, config: TrackConfig) -> int:
    """Train the part that tells by how much things are off their course; updates made."""
    generator = torch.Generator(things.by.device).manual_seed(config.seed)
    moves = (things.by.abs().amax(dim=1) > STILL).double()
    odds = moves / moves.sum().clamp(min=1) + (1 - moves) / (1 - moves).sum().clamp(min=1)
    cumulative = odds.cumsum(0)

    def loss() -> Tensor:
        lots = torch.rand(
            config.batch, dtype=torch.float64, generator=generator, device=generator.device
        )
        rows = torch.searchsorted(cumulative, lots * cumulative[-1]).clamp(max=len(odds) - 1)
        true = Track(*(part[rows] for part in tracks))
        told = with_errors(true, config.error, generator)
        off = told.places[:, -1] + tracker.correction(told) - true.places[:, -1]
        # A distance, and not its square: some things turn, and nobody knows which way.
        return (off.square().sum(dim=1) + EXACT**2).sqrt().mean()

    return _learn(tracker.course, loss, config)


def with_errors(track: Track, most: float, generator: torch.Generator) -> Track:
    """`track` with places that are off as a dream's are: by up to `most` pixels, or so.

    Each by itself, and all together as those of a thing that is too slow or too fast. The last one,
    where the trunk has the thing, follows the two before, and is off by itself besides.
    """
    n, length = track.masses.shape[:2]

    def size() -> Tensor:
        lots = torch.rand((n, 1, 1, 1, 1), generator=generator, device=generator.device)
        return most * LEAST**lots

    def errors(*shape: int) -> Tensor:
        return normal(torch.Size((n, *shape, 1, 1)), generator)

    amount = size()
    ages = torch.arange(length - 2, -1.0, -1.0, device=generator.device)[:, None, None, None]
    off = amount * (errors(length - 1, 2) + 0.5 * errors(1, 2) + 0.3 * ages * errors(1, 2)) / 1.5
    led = EXTRAPOLATED[0] * off[:, -1:] + EXTRAPOLATED[1] * off[:, -2:-1]
    led = led * torch.rand((n, 1, 1, 1, 1), generator=generator, device=generator.device)
    led = led + size() * errors(1, 2)
    masses = track.masses * torch.exp(0.2 * errors(length))
    return Track(track.places + torch.cat((off, led), dim=1), masses, track.whole)


def _learn(part: nn.Module, loss: Callable[[], Tensor], config: TrackConfig) -> int:
    parameters = list(part.requires_grad_(True).parameters())
    return descend_by_adam(parameters, loss, config)
