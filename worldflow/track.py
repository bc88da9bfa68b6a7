"""`worldflow track`: a ripe world learns to keep its game's object on its course.

Its base gets a `Tracker` (tracking.py), and that alone is trained; all other weights stay as they
are, to the bit. What it should say is known of every recorded step: where the object is in the next
frame. In a dream it is told places that are off, those of the world's own pictures. So places are
told as recorded, with errors put in, and what is around the object is cut out about the place that
is told. All that the network knows are these numbers and that small view, so objects are followed
once, in recorded frames alone, and an update takes some milliseconds.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from worldflow.dataset import Clips, ClipSampler, Dataset
from worldflow.envs.objects import Look, look_of
from worldflow.errors import InputError
from worldflow.model import to_signed
from worldflow.own_pictures import normal
from worldflow.ripe import RipeConfig, descend_by_adam, reshaped, train_part
from worldflow.tracking import AROUND, CERTAIN, Track, Tracker, line
from worldflow.world import World

CLIP = 32  # steps that are looked at in a row
LOOKED = 16  # clips looked at side by side
MARGIN = 3  # pixels by which the place that is told may be off
BACKDROP = 256  # frames whose median is what is behind an object
TURN = 0.8  # pixels off a straight line, from which on an object has turned
SHARES = {"turns": 0.5, "goes on": 0.4, "goes out of sight": 0.1}  # of the objects of an update
RIGHT = 1.0  # pixels, within which the network is right
EXACT = 0.03  # pixels, below which an error counts little
REST = 0.1  # weight of saying whether it is right, and how great it is
PALE = 0.6  # of its colour, that an object lacks in a view at most
LEAST = 0.05  # of `error`, the least that places are off


@dataclass(frozen=True)
class TrackConfig(RipeConfig):
    """See `conf/track.yaml` for what each key means and its default."""

    kept: int
    width: int
    error: float


class Flights(NamedTuple):
    """Objects of recorded frames, and where they are in the next: C of them."""

    track: Track
    views: Tensor  # uint8 (C, 6, V, V), the last two frames around them
    corner: Tensor  # (C, 2), the pixel in the middle of those
    action: Tensor  # (C,)
    next: Tensor  # (C, 2), pixels, where it is in the next frame
    mass: Tensor  # (C,), of the usual mass, that it has there

    @property
    def there(self) -> Tensor:
        """Whether it is in sight in the next frame `(C,)`."""
        return self.mass > CERTAIN[1]

    @property
    def kinds(self) -> list[Tensor]:
        """Which of them do each thing of SHARES."""
        turns = (self.next - line(self.track).leads).norm(dim=1) > TURN
        return [self.there & turns, self.there & ~turns, ~self.there]


def track(config: TrackConfig) -> None:
    """Give a world a tracker and train it; writes `out`.

    Raises:
        InputError: as `train_part`; `kept`, `batch` or `width` below 1, an `error` of 0 or less or
            of more than 1 pixel, a game without an object, or recordings that do not show it.
        WorkError: as `train_part`.
    """
    if min(config.kept, config.batch, config.width) < 1 or not 0 < config.error <= 1:
        raise InputError(
            f"kept={config.kept} batch={config.batch} width={config.width} error={config.error}: "
            "expected 1 or more objects, 1 or more of them, 1 or more channels, and more than 0 "
            "pixels, 1 at most"
        )
    train_part(config, "tracked", partial(_tracked, config))


def _tracked(
    config: TrackConfig, world: World, training: Dataset, device: str
) -> tuple[World, int]:
    source, size = training.header.source, training.frame_shape[0]
    look = look_of(source, training.frame_shape)
    if not look:
        raise InputError(
            f"no object is defined of {source} at {size} pixels (envs/objects.py), so there is "
            "nothing to track"
        )
    world = reshaped(world, tracking=world.model.config.tracking or config.width)
    tracker = world.model.base.tracker
    assert tracker is not None
    show(tracker, look, training, config.seed)
    flights = follow(tracker, training, config, device)
    print(f"{len(flights.action)} objects followed", flush=True)
    updates = learn(tracker, flights, config)
    world.model.requires_grad_(False)
    return world, updates


@torch.no_grad()
def show(tracker: Tracker, look: Look, dataset: Dataset, seed: int) -> None:
    """Tell `tracker` what the object looks like: as the game defines it, and in which colour.

    Its colour is what frames differ by, in proportion to its strength, from their median.

    Raises:
        InputError: it is in none of some frames of `dataset`.
    """
    tell_look(tracker, look)
    sampler = ClipSampler(dataset, 1, 1, seed, past=0)
    steps = np.random.default_rng(seed).permutation(dataset.steps)[:BACKDROP]
    frames = to_signed(sampler.steps(steps).frames[:, 0]).to(tracker.seen)
    behind = frames.median(dim=0).values
    strength = tracker.strength(frames)[:, None]
    if not strength.any():
        raise InputError(f"the object of {dataset.header.source} is in none of {len(steps)} frames")
    tracker.colour.copy_(
        (strength * (frames - behind)).sum(dim=(0, 2, 3)) / strength.square().sum()
    )


@torch.no_grad()
def tell_look(tracker: Tracker, look: Look) -> None:
    """The same but for its colour: by its contrast, on the [-1, 1] range."""
    contrast, channels = look.all_of_it - look.none, torch.tensor(look.channels)
    tracker.channels.copy_(channels * 127.5 / contrast)
    tracker.bias.fill_((127.5 * float(channels.sum()) - look.none) / contrast)
    tracker.seen.copy_(torch.from_numpy(look.seen))
    tracker.usual.fill_(look.mass)


@torch.no_grad()
def follow(tracker: Tracker, dataset: Dataset, config: TrackConfig, device: str) -> Flights:
    """The greatest object of each frame, followed back, and where it is in the next.

    Of frames in clips all over `dataset`, until `kept` of them show one.

    Raises:
        InputError: none does.
    """
    sampler = ClipSampler(dataset, 1, 1, config.seed, past=tracker.history - 1)
    starts = np.random.default_rng(config.seed).permutation(np.arange(0, dataset.steps, CLIP))
    found: list[Flights] = []
    with tqdm(total=config.kept, desc="looking", unit="object") as bar:
        for first in range(0, len(starts), LOOKED):
            clips = sampler.steps(starts[first : first + LOOKED], CLIP)
            found.append(_of_clips(tracker, clips, device))
            bar.update(len(found[-1].action))
            if bar.n >= config.kept:
                break
    flights = chosen(_joined(found), slice(config.kept))
    if not len(flights.action):
        raise InputError(f"the object of {dataset.header.source} is in none of the frames")
    return flights


def _of_clips(tracker: Tracker, clips: Clips, device: str) -> Flights:
    frames, length = to_signed(clips.frames.to(device)), tracker.history
    valid = torch.from_numpy(clips.valid.flatten()).to(device)
    actions = torch.from_numpy(clips.actions).to(device)[:, length - 1 :].flatten()
    strength = tracker.strength(frames)
    before = strength[:, :-1].unfold(1, length, 1).movedim(-1, 2).flatten(0, 1)
    track = tracker.track(before)
    after = strength[:, length:].flatten(0, 1)
    place, mass = tracker.look(after, track.places[:, -1])
    corner = track.places[:, -1].round().long().clamp(0, tracker.size - 1)
    pictures = clips.frames.to(device).movedim(-1, 2)  # (B, L+T, 3, H, W)
    last = torch.cat((pictures[:, length - 2 : -2], pictures[:, length - 1 : -1]), dim=2)
    views = _around(last.flatten(0, 1), corner, AROUND + MARGIN)
    all_of_them = Flights(track, views, corner, actions, place, mass)
    return chosen(all_of_them, (track.mass > CERTAIN[1]) & valid)


def _around(pictures: Tensor, corner: Tensor, rim: int) -> Tensor:
    """Squares of `2*rim + 1` pixels about `corner` `(N, 2)` of `pictures` `(N, C, H, W)`."""
    span = torch.arange(2 * rim + 1, device=corner.device)
    rows, columns = corner[:, :1] + span, corner[:, 1:] + span
    padded = F.pad(pictures.float(), 4 * [rim], mode="replicate").to(pictures.dtype)
    each = torch.arange(len(corner), device=corner.device)[:, None, None]
    return padded.movedim(1, -1)[each, rows[:, :, None], columns[:, None]].movedim(-1, 1)


def chosen(flights: Flights, rows: Tensor | slice) -> Flights:
    """Some of `flights`."""
    track, *rest = flights
    return Flights(Track(*(part[rows] for part in track)), *(part[rows] for part in rest))


def _joined(flights: list[Flights]) -> Flights:
    tracks, *rest = zip(*flights, strict=True)
    track = Track(*(torch.cat(parts) for parts in zip(*tracks, strict=True)))
    return Flights(track, *(torch.cat(parts) for parts in rest))


def learn(tracker: Tracker, flights: Flights, config: TrackConfig) -> int:
    """Train the network that tells where objects will be, and how sure that is; updates made."""
    device = flights.action.device
    generator = torch.Generator(device).manual_seed(config.seed)
    chances = torch.zeros(len(flights.action), dtype=torch.float64, device=device)
    for share, kind in zip(SHARES.values(), flights.kinds, strict=True):
        chances[kind] = share / max(1, int(kind.sum()))
    cumulative = chances.cumsum(0)

    def loss() -> Tensor:
        lots = torch.rand(config.batch, dtype=torch.float64, generator=generator, device=device)
        rows = torch.searchsorted(cumulative, lots * cumulative[-1]).clamp(max=len(chances) - 1)
        some = chosen(flights, rows)
        told = with_errors(some.track, config.error, generator)
        views = paled(tracker, views_of(tracker, some, told), generator)
        foretold = tracker.foretold(views, told, some.action)
        off = (foretold.place - some.next).square().sum(dim=1)
        # A distance, and not its square: some objects turn, and nobody knows which way.
        distance = (off * some.there + EXACT**2).sqrt()
        right = (some.there & (off.detach() < RIGHT**2)).float()
        odds = F.binary_cross_entropy_with_logits(foretold.odds, right)
        mass = ((foretold.mass - some.mass).abs() * some.there).mean()
        return distance.mean() + REST * (odds + mass)

    parameters = list(tracker.requires_grad_(True).parameters())
    return descend_by_adam(parameters, loss, config)


def with_errors(track: Track, most: float, generator: torch.Generator) -> Track:
    """`track` with places that are off as a dream's are: by up to `most` pixels, or so.

    Each by itself, and all together as those of an object that is too slow or too fast.
    """
    n, length, _ = track.places.shape
    device = generator.device
    amount = most * LEAST ** torch.rand((n, 1, 1), generator=generator, device=device)
    ages = torch.arange(length - 1, -1.0, -1.0, device=device)[:, None]

    def errors(count: int) -> Tensor:
        return normal(torch.Size((n, count, 2)), generator)

    off = amount * (errors(length) + 0.5 * errors(1) + 0.3 * ages * errors(1)) / 1.2
    return track._replace(places=track.places + off.clamp(-MARGIN + 0.5, MARGIN - 0.5))


def views_of(tracker: Tracker, flights: Flights, told: Track) -> Tensor:
    """As `Tracker.views`, about the places that are `told`."""
    rim = AROUND + MARGIN
    off = told.places[:, -1] - flights.corner
    grid = (off[:, None, None] + tracker.around).flip(-1) / rim
    views = F.grid_sample(flights.views.float() / 127.5 - 1, grid, align_corners=True)
    return views.flatten(1)


def paled(tracker: Tracker, views: Tensor, generator: torch.Generator) -> Tensor:
    """`views` with what has the object's colours paler, by up to PALE, as a dream may have it.

    Or a network that sees a pale object says that it will be pale, and so it fades away.
    """
    frames = views.reshape(len(views), 2, 3, 2 * AROUND + 1, 2 * AROUND + 1)
    by = PALE * torch.rand((len(views), 1, 1, 1), generator=generator, device=generator.device)
    lacks = by * tracker.likeness(frames)
    return (frames - lacks[:, :, None] * tracker.colour[:, None, None]).flatten(1)
