"""`worldflow settle`: the two steps of the flow that choose a future, trained alone.

Which of several futures comes is decided in the 8x8 picture and in the details that make 16x16 of
it: with both given, the rest follows (docs/experiments.md, 76). Both steps work on a grid of 8x8,
and all they know is the trunk's coarse features and the base's mean. So these are worked out once,
for the steps of which these two leave most open, and kept: then an update costs a tenth of one of
the whole model, and little is spent on what is determined. The more they leave open of a step, the
oftener it is drawn (docs/experiments.md, 89). All else of the world stays as it is, to the bit.

A world may be sure and wrong: of Breakout's launches, which are rare, it hardly ever thinks (83).
So steps before which the game's object is out of sight can be kept, too, and each action's are
drawn as often (87). What is kept, and how often it is drawn, depends on what was known before a
step only, or the odds of what came out would be wrong. But for one: in a world that waits, what
brings the object back is shown late as well, of which no recording tells any odds (107).
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worldflow.base import Conditions
from worldflow.cost import quick_type
from worldflow.dataset import Clips, ClipSampler, Dataset
from worldflow.envs.objects import object_of
from worldflow.errors import InputError
from worldflow.flow import MultiscaleFlow, quarter
from worldflow.model import WorldModel, to_signed
from worldflow.optimizer import make_optimizers, move
from worldflow.own_pictures import normal
from worldflow.ripe import RipeConfig, autocast, descend, reshaped, train_part
from worldflow.small_objects import SmallObject, count_objects
from worldflow.world import World

LOOK = 16  # clips looked at side by side
LEAST = 0.01  # nats that a step counts for, however little it leaves open
LATEST = 16  # steps, at most, that an object that comes in sight is shown late


@dataclass(frozen=True)
class SettleConfig(RipeConfig):
    """See `conf/settle.yaml` for what each key means and its default."""

    kept: int
    others: float
    unseen: float
    further: int
    evidence: bool
    ways: int
    waiting: bool
    weight_decay: float


class Kept(NamedTuple):
    """What the choosing steps know, and are to choose, of M recorded steps."""

    features: Tensor  # (M, C2, H/8, W/8), the trunk's coarse ones
    mean: Tensor  # (M, 3, H/4, W/4), the base's mean at a quarter of the size
    frame: Tensor  # the same of the recorded next frame
    recency: Tensor  # (M,), how lately the game's object was in sight


class Pool(NamedTuple):
    """Kept steps of one sort."""

    steps: Kept
    weights: Tensor  # (M,), how often each is drawn, beside the others of its pool
    share: float  # of the steps of an update


def settle(config: SettleConfig) -> None:
    """Look at all steps, keep the open ones, train the choosing steps on them; writes `out`.

    Raises:
        InputError: as `train_part`; shares that are none, `further` below 0, `ways` that are none
            or not as many as the world has, `unseen` of a game without an object, or `waiting` of
            a world without a tracker.
        WorkError: as `train_part`.
    """
    if min(config.others, config.unseen) < 0 or config.others + config.unseen > 1:
        raise InputError(
            f"others={config.others} unseen={config.unseen}: expected two shares, together 0 to 1"
        )
    if config.further < 0:
        raise InputError(f"further={config.further}: expected 0 or more pairs of layers")
    if config.ways < 0 or config.ways == 1:
        raise InputError(f"ways={config.ways}: expected 2 or more, or 0 to add none")
    train_part(config, "settled", partial(_settled, config))


def _settled(
    config: SettleConfig, world: World, training: Dataset, device: str
) -> tuple[World, int]:
    shape = world.model.config
    if config.ways and shape.ways not in (0, config.ways):
        raise InputError(f"ways={config.ways}: the world has {shape.ways} already; leave ways out")
    if config.waiting and not shape.tracking:
        raise InputError(
            "waiting=true: the world has no tracker, so it does not see for how long its object is "
            "gone; give it one first, by worldflow track"
        )
    world = reshaped(
        world,
        further=shape.further + config.further,
        evidence=shape.evidence or config.evidence,
        ways=config.ways or shape.ways,
        waiting=shape.waiting or config.waiting,
    )
    pools = keep(world.model, training, config, device)
    told = " + ".join(str(len(pool.weights)) for pool in pools)
    print(f"{told} of {training.steps} steps kept", flush=True)
    if not any(len(pool.weights) for pool in pools):
        raise InputError(f"kept={config.kept}: no step is kept; give more")
    return world, _train(world.model, pools, config, device)


@torch.no_grad()
def keep(model: WorldModel, dataset: Dataset, config: SettleConfig, device: str) -> list[Pool]:
    """The steps of `dataset` of which the choosing steps leave most open, and some of any.

    If `unseen` is asked for, so many of each action follow, with the game's object out of sight.
    Looked at in clips longer than the attention's window, for what a step knows must be what it
    knows in play: without a memory the features are others (docs/experiments.md, 80).
    """
    from tqdm import tqdm

    length = model.config.window + 8
    sampler = ClipSampler(dataset, 1, 1, config.seed, past=model.config.history - 1)
    draws = np.random.default_rng(config.seed)
    lots = draws.random(dataset.steps)
    generator = torch.Generator(device).manual_seed(config.seed)
    ends = np.cumsum([len(episode) for episode in dataset.episodes])
    starts = np.concatenate(
        [
            np.arange(end - len(episode), end, length)
            for end, episode in zip(ends, dataset.episodes, strict=True)
        ]
    )
    small = watched(dataset, config.unseen)
    actions = len(dataset.header.action_names) if small else 0

    def best(share: float) -> Best:
        return Best(min(int(config.kept * share), dataset.steps), model, device)

    open_ones, any_ones = best(1 - config.others - config.unseen), best(config.others)
    unseen_by_action = [best(config.unseen / actions) for _ in range(actions)]

    def offer_unseen(ranks: Tensor, taken: Tensor, found: Kept) -> None:
        for action, pool in enumerate(unseen_by_action):
            pool.offer(ranks.masked_fill(taken != action, -torch.inf), found)

    for first in tqdm(range(0, len(starts), LOOK), desc="looking"):
        clips = sampler.steps(starts[first : first + LOOK], length)
        valid = torch.from_numpy(clips.valid.flatten()).to(device)
        frames, given, left = seen(model, clips, generator, device)
        frame = frames[:, model.config.history :].flatten(0, 1)
        mean = quarter(given.mean)
        found = Kept(given.features.coarse, mean, quarter(frame), given.recency)
        lot = torch.from_numpy(lots[clips.index.flatten()]).float().to(device)
        open_ones.offer(left.masked_fill(~valid, -torch.inf), found)
        any_ones.offer(lot.masked_fill(~valid, -torch.inf), found)
        if small:
            told = out_of_sight(small, clips, model.config.history)
            gone = torch.from_numpy(told.gone).to(device) & valid
            taken = model.taken(torch.from_numpy(clips.actions).to(device))[:, -1]
            offer_unseen(lot.masked_fill(~gone, -torch.inf), taken, found)
            if model.config.waiting and told.comes.any():
                late, taken = overdue(model, clips, told.comes, draws)
                lot = torch.from_numpy(draws.random(len(taken))).float().to(device)
                # Of what has been gone for too long, nobody knows that it was there.
                offer_unseen(lot.masked_fill(late.recency == 0, -torch.inf), taken, late)
    steps, left = open_ones.kept()
    of_open = Pool(steps, left.clamp(min=LEAST), 1 - config.others - config.unseen)
    return [of_open, *alike([any_ones], config.others), *alike(unseen_by_action, config.unseen)]


def overdue(
    model: WorldModel, clips: Clips, comes: NDArray[np.bool_], draws: np.random.Generator
) -> tuple[Kept, Tensor]:
    """The steps of `clips` that bring the object back, `comes` `(B*T,)`, as if it came later.

    In a dream it may miss its step, and no recording tells what is after that: it is to come then.
    So the oldest frame that a step knows is held for some steps, 1 to LATEST, and the same follows.

    Returns:
        What is known then, and the action taken.
    """
    history, length = model.config.history, clips.valid.shape[1]
    row, step = (part[:, None] for part in np.nonzero(comes.reshape(-1, length)))
    held = draws.integers(1, LATEST + 1, row.shape)
    brings = clips.frames.shape[1] - length + step  # the frame that shows it; it comes last
    place = brings - np.arange(clips.frames.shape[1] - 1, -1, -1)
    place = np.where(place < brings - history, np.minimum(place + held, brings - history), place)
    frames = clips.frames[torch.from_numpy(row), torch.from_numpy(place.clip(min=0))]
    actions = clips.actions[row, place[:, :-1].clip(min=0)]
    actions[place[:, 1:] == place[:, :-1]] = 0
    actions[place[:, :-1] < 0] = model.action_count  # before the clip: its first frame, and none
    device = model.reward_support.device
    shown = to_signed(frames.to(device))
    with autocast(device.type):
        given = model.conditions(shown[:, :-1], torch.from_numpy(actions).to(device))
    last = slice(length - 1, None, length)
    late = Kept(
        given.features.coarse[last],
        quarter(given.mean[last]),
        quarter(shown[:, -1]),
        given.recency[last],
    )
    return late, torch.from_numpy(actions[:, -1]).to(device)


def alike(bests: "list[Best]", share: float) -> list[Pool]:
    """Each that has any steps gets as much of `share`, however few they are.

    An action that is rare while the object is out of sight, like that which brings it, is to be
    learned as well as the others. Within a pool, all steps count alike.
    """
    kept = [best.kept()[0] for best in bests]
    filled = sum(len(steps.frame) > 0 for steps in kept)
    return [
        Pool(steps, torch.ones_like(steps.frame[:, 0, 0, 0]), share / max(filled, 1))
        for steps in kept
    ]


class Best:
    """Of the steps of the greatest ranks, `places` at most, among all that are offered."""

    def __init__(self, places: int, model: WorldModel, device: str) -> None:
        small, grid = model.size // 4, model.size // 8
        shape = (places, model.config.channels[2], grid, grid)
        features = torch.empty(shape, device=device, dtype=quick_type(device))
        pictures = (torch.empty((places, 3, small, small), device=device) for _ in range(2))
        self._ranks = torch.full((places,), -torch.inf, device=device)
        mean, frame = pictures
        self._kept = Kept(features, mean, frame, recency=torch.empty(places, device=device))

    def offer(self, ranks: Tensor, found: Kept) -> None:
        """Steps of `ranks` `(N,)`, -inf for those that are not to be kept."""
        both = torch.cat((self._ranks, ranks))
        chosen = torch.zeros_like(both, dtype=torch.bool)
        chosen[both.topk(len(self._ranks)).indices] = True
        old, new = chosen.tensor_split([len(self._ranks)])
        worse, better = (~old).nonzero()[:, 0], new.nonzero()[:, 0]
        self._ranks[worse] = ranks[better]
        for rows, others in zip(self._kept, found, strict=True):
            rows[worse] = others[better].to(rows.dtype)

    def kept(self) -> tuple[Kept, Tensor]:
        """They, and their ranks."""
        filled = self._ranks > -torch.inf
        return Kept(*(rows[filled] for rows in self._kept)), self._ranks[filled]


def watched(dataset: Dataset, unseen: float) -> SmallObject | None:
    """The object of the game, if a share of steps is to be those with it out of sight.

    Raises:
        InputError: the game has none.
    """
    source, size = dataset.header.source, dataset.frame_shape[0]
    small = object_of(source, dataset.frame_shape) if unseen else None
    if unseen and not small:
        raise InputError(
            f"unseen={unseen}: no object is defined of {source} at {size} pixels "
            "(envs/objects.py), so none is out of sight; leave unseen out"
        )
    return small


class OutOfSight(NamedTuple):
    """Of the steps of clips `(B*T,)`."""

    gone: NDArray[np.bool_]  # none of the frames that are known shows the object
    comes: NDArray[np.bool_]  # nor do they, but the next one does, and one before them did


def out_of_sight(small: SmallObject, clips: Clips, history: int) -> OutOfSight:
    """Where the last `history` frames before a step of `clips` do not show the object."""
    frames = clips.frames.cpu().numpy()
    seen = count_objects(small, frames.reshape(-1, *frames.shape[2:])).reshape(frames.shape[:2]) > 0
    before = np.lib.stride_tricks.sliding_window_view(seen[:, :-1], history, axis=1)
    gone = ~before.any(axis=2)
    comes = gone & seen[:, history:] & np.maximum.accumulate(seen, axis=1)[:, history - 1 : -1]
    return OutOfSight(gone.ravel(), comes.ravel())


def seen(
    model: WorldModel, clips: Clips, generator: torch.Generator, device: str
) -> tuple[Tensor, Conditions, Tensor]:
    """The frames `(B, L+T, 3, H, W)`, in [-1, 1], and of each of the N = B*T steps what is known
    before it, and how much the choosing steps leave open `(N,)`.
    """
    frames = to_signed(clips.frames.to(device))
    with autocast(device):
        given = model.conditions(frames[:, :-1], torch.from_numpy(clips.actions).to(device))
        features = model.flow.informed(given).features.coarse
        left = left_open(model.flow, features, quarter(given.mean), generator)
    return frames, given, left


def left_open(
    flow: MultiscaleFlow, features: Tensor, mean: Tensor, generator: torch.Generator
) -> Tensor:
    """What the choosing steps leave open of each step `(N,)`, nats; near 0 if all is determined.

    How much less likely a draw of theirs is than the noise in it: an estimate of their entropy,
    above the noise's, from one draw, in which the noise is no part of the error.
    """
    noise = normal(torch.Size((len(mean), flow.noise_size)), generator)
    y = flow.choosing_draw(noise, features, mean)
    sites = flow.choosing_sites(y, features, mean)
    likelihood = torch.stack([part.log_prob.sum(dim=(1, 2)) for part in sites]).sum(dim=0)
    eps = torch.cat([part.flatten(1) for part in flow.split_noise(noise)[0][:2]], dim=1)
    alone = torch.distributions.Normal(0.0, flow.coarse.sigma)
    of_noise: Tensor = alone.log_prob(flow.coarse.sigma * eps).sum(dim=1)
    return of_noise - likelihood


def odds(pools: list[Pool]) -> NDArray[np.float64]:
    """How likely each kept step is drawn, one pool after the other."""
    each = np.concatenate(
        [
            pool.share * weights / max(weights.sum(), LEAST)
            for pool in pools
            for weights in [pool.weights.double().cpu().numpy()]
        ]
    )
    return np.asarray(each / each.sum())


def _train(model: WorldModel, pools: list[Pool], config: SettleConfig, device: str) -> int:
    """Moves the choosing steps of `model`, in place; the updates made."""
    kept = Kept(*(torch.cat(parts) for parts in zip(*(pool.steps for pool in pools), strict=True)))
    drawn_by = np.cumsum(odds(pools))
    choosing = nn.ModuleList(model.flow.choosing()).requires_grad_(True)
    optimizers = make_optimizers(choosing, config.weight_decay, quick_type(device))
    draws = np.random.default_rng(config.seed)
    generator = torch.Generator(device).manual_seed(config.seed)

    def loss() -> Tensor:
        lots = drawn_by[-1] * draws.random(config.batch)
        rows = torch.from_numpy(np.searchsorted(drawn_by, lots, side="right")).to(device)
        return _loss(model, Kept(*(part[rows] for part in kept)), generator)

    updates = descend(list(choosing.parameters()), loss, partial(move, optimizers), config)
    choosing.requires_grad_(False)
    return updates


def _loss(model: WorldModel, kept: Kept, generator: torch.Generator) -> Tensor:
    """The choosing steps' negative log-likelihood, nats per site."""
    # The pyramid is orthonormal: noise of a frame is the same noise of its smaller pictures.
    y = kept.frame + model.config.sigma * normal(kept.frame.shape, generator)
    features = kept.features.contiguous(memory_format=torch.channels_last)
    with autocast(generator.device.type):
        sites = model.flow.choosing_sites(y, model.flow.told(features, kept.recency), kept.mean)
    return -torch.stack([part.log_prob.mean() for part in sites]).sum()
