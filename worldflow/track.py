"""`worldflow track`: a ripe world learns to keep its game's objects on their courses.

Its base gets a `Tracker` (tracking.py) for each of them, and these alone are trained; all other
weights stay as they are, to the bit. What one should say is known of every recorded step: where the
object is in the next frame. In a dream it is told places that are off, those of the world's own
pictures. So places are told as recorded, with errors put in, and what is around the object is cut
out about the place that is told. All that the network knows are these numbers, those of the objects
before it and that small view, so objects are followed once, in recorded frames alone, and an update
takes some milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from worldflow.cost import quick_type
from worldflow.course import Track, line, near_enough
from worldflow.dataset import Clips, ClipSampler, Dataset
from worldflow.envs.objects import Look, looks_of
from worldflow.errors import InputError
from worldflow.model import to_bytes, to_signed
from worldflow.optimizer import Muon, move
from worldflow.own_pictures import normal
from worldflow.ripe import RipeConfig, descend, reshaped, train_part
from worldflow.small_objects import WHOLE
from worldflow.tracking import AROUND, Stride, Tracker
from worldflow.world import World

CLIP = 32  # steps that are looked at in a row
LOOKED = 16  # clips looked at side by side
MARGIN = 3  # pixels by which the place that is told may be off
SHOWN = 4096  # steps that its colours are read off
TURN = 0.8  # pixels off a straight line, from which on an object has turned
# Of the objects of an update.
SHARES = {"turns": 0.5, "goes on": 0.35, "comes in sight": 0.05, "goes out of sight": 0.1}
RIGHT = 1.0  # pixels, within which the network is right
EXACT = 0.03  # pixels, below which an error counts little
REST = 0.1  # weight of saying whether it is right, and how great it is
LEAST = 0.05  # of `error`, the least that places are off
MISSED = 3  # times of it, that they are off since a turn


@dataclass(frozen=True)
class TrackConfig(RipeConfig):
    """See `conf/track.yaml` for what each key means and its default."""

    object: str
    kept: int
    width: int
    error: float


class Flights(NamedTuple):
    """An object of recorded frames, and where it is in the next: C of them."""

    track: Track
    company: list[Track]  # of the objects before it
    views: Tensor  # uint8 (C, 6, V, V), the last two frames around its last place, without it
    corner: Tensor  # (C, 2), the pixel in the middle of those
    actions: Tensor  # (C, L), the last taken; with the newest it goes to the next
    next: Tensor  # (C, 2), pixels, where it is in the next frame
    mass: Tensor  # (C,), of the usual mass, that it has there

    @property
    def there(self) -> Tensor:
        """Whether it is in sight in the next frame `(C,)`: more of it than a glimpse."""
        return self.mass > WHOLE

    @property
    def kinds(self) -> list[Tensor]:
        """Which of them do each thing of SHARES."""
        hidden = self.track.seen[:, -1] < 0.5
        turns = (self.next - line(self.track).leads).norm(dim=1) > TURN
        goes = self.there & ~hidden
        return [goes & turns, goes & ~turns, self.there & hidden, ~self.there]


def track(config: TrackConfig) -> None:
    """Give a world a tracker of each of its game's objects and train them; writes `out`.

    Raises:
        InputError: as `train_part`; `kept`, `batch` or `width` below 1, an `error` of 0 or less or
            of more than 1 pixel, a game without such an `object`, or recordings that show none.
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
    looks = looks_of(source, training.frame_shape)
    if not looks:
        raise InputError(
            f"no object is defined of {source} at {size} pixels (envs/objects.py), so there is "
            "nothing to track"
        )
    names = [look.name for look in looks]
    if config.object not in ("all", *names):
        raise InputError(f"object={config.object}: {source} has {', '.join(names)}; or give all")
    width = world.model.config.tracking or config.width
    striped = any(look.striped for look in looks)
    world = reshaped(world, tracking=width, objects=len(looks), striped=striped)
    trackers = [part for part in world.model.base.trackers if isinstance(part, Tracker)]
    for tracker, look in zip(trackers, looks, strict=True):
        show(tracker, look, training, config.seed)
    updates = 0
    for index, name in enumerate(names):
        if config.object in ("all", name):
            flights = follow(trackers[: index + 1], training, config, device)
            print(f"{name}: followed in {len(flights.actions)} steps", flush=True)
            updates += learn(trackers[index], flights, config)
    world.model.requires_grad_(False)
    return world, updates


@torch.no_grad()
def show(tracker: Tracker, look: Look, dataset: Dataset, seed: int) -> None:
    """Tell `tracker` what the object looks like: as the game defines it, and in which colours.

    If it does not define them, those of a row are what frames have more of there, in proportion to
    their contrast, than the frames before had at the least; where it was never seen, those of the
    nearest row.

    Raises:
        InputError: it is in none of some frames of `dataset`.
    """
    tell_look(tracker, look)
    if look.colours is not None:
        return
    sampler = ClipSampler(dataset, 1, 1, seed, past=tracker.history - 1)
    steps = np.random.default_rng(seed).permutation(dataset.steps)[:SHOWN]
    of_rows, all_of_it = torch.zeros_like(tracker.colours), torch.zeros_like(tracker.colours[0])
    for first in range(0, len(steps), LOOKED * CLIP):
        clips = sampler.steps(steps[first : first + LOOKED * CLIP]).frames
        frames = to_signed(clips[:, : tracker.history]).to(tracker.seen)
        contrast = tracker.contrast(frames)
        newer, newer_contrast = (
            part[:, -1] - part[:, :-1].amin(dim=1) for part in (frames, contrast)
        )
        has_come = newer_contrast.clamp(0, 1) * tracker.seen
        of_rows += (has_come[:, None] * newer).sum(dim=(0, 3))
        all_of_it += has_come.square().sum(dim=(0, 2))
    shown = all_of_it.nonzero()[:, 0]
    if not len(shown):
        raise InputError(f"the object of {dataset.header.source} is in none of {len(steps)} frames")
    nearest = shown[(torch.arange(tracker.size)[:, None] - shown.cpu()).abs().argmin(dim=1)]
    tracker.colours.copy_((of_rows / all_of_it.clamp(min=1e-9))[:, nearest])


@torch.no_grad()
def tell_look(tracker: Tracker, look: Look) -> None:
    """As the game defines it: by its contrast, on the [-1, 1] range."""
    channels = 127.5 * torch.tensor(look.channels) / torch.tensor(look.contrast)[..., None]
    none = torch.from_numpy(look.none) / torch.tensor(look.contrast)[..., None]
    tracker.channels.view(3, -1).copy_(channels.reshape(-1, 3).T)
    tracker.bias.copy_(channels.sum(dim=-1, keepdim=True) - none)
    tracker.seen.copy_(torch.from_numpy(look.seen | look.among))
    tracker.among.copy_(torch.from_numpy(look.among))
    tracker.usual.fill_(look.mass)
    if look.colours is not None:
        tracker.colours.copy_(torch.from_numpy(look.colours).T / 127.5)


@torch.no_grad()
def follow(
    trackers: Sequence[Tracker], dataset: Dataset, config: TrackConfig, device: str
) -> Flights:
    """The greatest object of each frame, followed back, and where it is in the next.

    That of the last of `trackers`; those before it tell where its company is. Of frames in clips
    all over `dataset`, until `kept` of them show one.

    Raises:
        InputError: none does.
    """
    sampler = ClipSampler(dataset, 1, 1, config.seed, past=trackers[-1].history - 1)
    starts = np.random.default_rng(config.seed).permutation(np.arange(0, dataset.steps, CLIP))
    found: list[Flights] = []
    with tqdm(total=config.kept, desc="looking", unit="object") as bar:
        for first in range(0, len(starts), LOOKED):
            clips = sampler.steps(starts[first : first + LOOKED], CLIP)
            found.append(_of_clips(trackers, clips, device))
            bar.update(len(found[-1].actions))
            if bar.n >= config.kept:
                break
    flights = chosen(_joined(found), slice(config.kept))
    if not len(flights.actions):
        raise InputError(f"the object of {dataset.header.source} is in none of the frames")
    return flights


def _of_clips(trackers: Sequence[Tracker], clips: Clips, device: str) -> Flights:
    tracker = trackers[-1]
    frames, length = to_signed(clips.frames.to(device)), tracker.history
    valid = torch.from_numpy(clips.valid.flatten()).to(device)
    actions = torch.from_numpy(clips.actions).to(device).unfold(1, length, 1).flatten(0, 1)

    def shown(tracker: Tracker) -> Tensor:
        """How much of each pixel is its object, in steps with the next frame."""
        contrast = tracker.contrast(frames).unfold(1, length + 1, 1).movedim(-1, 2)
        return tracker.shown(contrast.flatten(0, 1))  # (B*T, L+1, H, W)

    company = [other.track(shown(other)[:, :-1]) for other in trackers[:-1]]
    strength = shown(tracker)
    track = tracker.track(strength[:, :-1])
    place, mass = tracker.greatest(strength[:, -1])
    same = near_enough(place[:, None], torch.tensor([-1.0], device=device), track)[:, 0]
    # Where nothing looks like it, one that is far away is the same, and was put there.
    same = torch.maximum(same, 1 - tracker.among.amax())
    corner = track.here.round().long().clamp(0, tracker.size - 1)
    last = torch.stack((frames[:, length - 2 : -2], frames[:, length - 1 : -1]), dim=2)
    last = tracker.without(last.flatten(0, 1), strength[:, -3:-1])
    flights = Flights(
        track,
        company,
        views=_around(to_bytes(last), corner, AROUND + MARGIN),
        corner=corner,
        actions=actions,
        next=place,
        mass=mass * (same > 0.5),
    )
    return chosen(flights, (track.last.sum(dim=1) > 0.5) & valid)


def _around(pictures: Tensor, corner: Tensor, rim: int) -> Tensor:
    """Squares about `corner` `(N, 2)` of `pictures` `(N, F, H, W, 3)`: `(N, 3 * F, V, V)`.

    Of V = 2*rim + 1 pixels; what is beyond the pictures' edges is as at the edges.
    """
    span = torch.arange(-rim, rim + 1, device=corner.device)
    rows, columns = (corner[:, None] + span[:, None]).clamp(0, pictures.shape[2] - 1).unbind(2)
    each = torch.arange(len(corner), device=corner.device)[:, None, None]
    cut = pictures.movedim(1, 3)[each, rows[:, :, None], columns[:, None]]  # (N, V, V, F, 3)
    return cut.flatten(3).movedim(-1, 1)


def chosen(flights: Flights, rows: Tensor | slice) -> Flights:
    """Some of `flights`."""

    def some(track: Track) -> Track:
        return Track(*(part[rows] for part in track))

    track, company, *rest = flights
    return Flights(some(track), [some(other) for other in company], *(part[rows] for part in rest))


def _joined(flights: list[Flights]) -> Flights:
    def joined(tracks: Sequence[Track]) -> Track:
        return Track(*(torch.cat(parts) for parts in zip(*tracks, strict=True)))

    tracks, companies, *rest = zip(*flights, strict=True)
    company = [joined(others) for others in zip(*companies, strict=True)]
    return Flights(joined(tracks), company, *(torch.cat(parts) for parts in rest))


def learn(tracker: Tracker, flights: Flights, config: TrackConfig) -> int:
    """Train the network that tells where objects will be, and how sure that is; updates made."""
    device = flights.actions.device
    generator = torch.Generator(device).manual_seed(config.seed)
    chances = torch.zeros(len(flights.actions), dtype=torch.float64, device=device)
    for share, kind in zip(SHARES.values(), flights.kinds, strict=True):
        chances[kind] = share / max(1, int(kind.sum()))
    cumulative = chances.cumsum(0)

    def loss() -> Tensor:
        lots = torch.rand(config.batch, dtype=torch.float64, generator=generator, device=device)
        rows = torch.searchsorted(cumulative, lots * cumulative[-1]).clamp(max=len(chances) - 1)
        some = chosen(flights, rows)
        told = with_errors(some.track, config.error, generator)
        company = [with_errors(other, config.error, generator) for other in some.company]
        foretold = tracker.foretold(views_of(tracker, some, told), told, some.actions, company)
        off = (foretold.place - some.next).square().sum(dim=1)
        # A distance, and not its square: some objects turn, and nobody knows which way.
        distance = (off * some.there + EXACT**2).sqrt()
        right = (some.there & (off.detach() < RIGHT**2)).float()
        odds = F.binary_cross_entropy_with_logits(foretold.right, right)
        odds = odds + F.binary_cross_entropy_with_logits(foretold.in_sight, some.there.float())
        mass = ((foretold.mass - some.mass).abs() * some.there).mean()
        return distance.mean() + REST * (odds + mass)

    parameters = list(tracker.requires_grad_(True).parameters())
    optimizers = _optimizers(tracker, quick_type(device.type))
    return descend(parameters, loss, partial(move, optimizers), config)


def _optimizers(tracker: Tracker, quick: torch.dtype) -> list[torch.optim.Optimizer]:
    """Muon for what lies between what is told and what is said, and Adam for the rest.

    Adam alone learns less by half as many updates again (docs/experiments.md, 104).
    """
    between = [*tracker.surroundings, tracker.company]
    for stride in tracker.strides:
        assert isinstance(stride, Stride)
        between += [stride.close, stride.known, stride.learned, stride.weighed, stride.decided]
    inner = [layer.weight for layer in between if isinstance(layer, nn.Linear | nn.Conv2d)]
    taken = {id(weight) for weight in inner}
    rest = [weight for weight in tracker.parameters() if id(weight) not in taken]
    return [Muon(inner, 0.0, 0.0, quick), torch.optim.Adam(rest, lr=0.0, betas=(0.9, 0.99))]


def with_errors(track: Track, most: float, generator: torch.Generator) -> Track:
    """`track` with places that are off as a dream's are: by up to `most` pixels, or so.

    Each by itself; and since some frame, where it may have turned, all together, as those of an
    object that turned at another place and to another side: by up to MISSED times as much.
    """
    n, length, _ = track.places.shape
    device = generator.device
    age = torch.arange(length - 1, -1, -1, device=device)

    def amount(most: float) -> Tensor:
        return most * LEAST ** torch.rand((n, 1, 1), generator=generator, device=device)

    def errors(count: int) -> Tensor:
        return normal(torch.Size((n, count, 2)), generator)

    since = torch.randint(length, (n, 1), generator=generator, device=device)
    went_on = (since - age).clamp(min=0)[..., None]
    missed = (age <= since)[..., None] * (errors(1) + 0.5 * went_on * errors(1))
    off = amount(most) * errors(length) + amount(MISSED * most) * missed
    return track._replace(places=track.places + off.clamp(-MARGIN + 0.5, MARGIN - 0.5))


def views_of(tracker: Tracker, flights: Flights, told: Track) -> Tensor:
    """As `Tracker.views`, about the places that are `told`."""
    rim = AROUND + MARGIN
    off = told.here - flights.corner
    grid = (off[:, None, None] + tracker.around).flip(-1) / rim
    views = F.grid_sample(flights.views.float() / 127.5 - 1, grid, align_corners=True)
    return views.reshape(-1, 6, 2 * AROUND + 1, 2 * AROUND + 1)
