"""`worldflow polish`: what makes a picture of a choice, and reads it, trained alone.

With the picture of a quarter of the size drawn, all is decided (settle.py). The flow's steps that
follow make the whole picture of that; the denoiser cleans it, and it is read for reward and end.
They are small and come last: they follow while all others learn, and are never done
(docs/experiments.md, 92). What was rare in training, like a launch, they show pale, however sure
the choice was; and a world that sees a pale ball may launch another (101).

All that they know of a step is what the trunk and the base have made of it, so that is worked out
once, and kept: then an update costs a tenth of one of the whole model. All other weights stay as
they are, to the bit. The steps are shown after recorded frames: after the world's own pictures of
them, most of the error is what those are off by, and nothing is learned. Of each clip those that
leave most open are kept, and as many at random; half of an update is drawn by what they leave open,
as `settle` does, half is any of them. Steps with the game's object out of sight can be kept, too.
With `learns=finer` the finer steps move alone: a head that has seen all steps may read rewards
better than one that was shown the open ones (98, 101). With `learns=verdict` what reads rewards and
ends moves alone, and no picture changes: it is shown the steps around them, and some others (109).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from worldflow import haar, places
from worldflow.base import Conditions
from worldflow.coarse import LEVELS
from worldflow.cost import quick_type
from worldflow.dataset import Clips, ClipSampler, Dataset
from worldflow.errors import InputError
from worldflow.model import WorldModel
from worldflow.objective import ObjectiveConfig, centre_errors, counted, two_hot
from worldflow.own_pictures import normal
from worldflow.ripe import RipeConfig, autocast, descend_by_adam, train_part
from worldflow.settle import LEAST, out_of_sight, seen, watched
from worldflow.small_objects import SmallObject
from worldflow.trunk import Features
from worldflow.world import World

LOOK = 16  # clips looked at side by side
OF_CLIP = 16  # steps kept of a clip
AROUND_EVENT = np.arange(-1, 4)  # a reward is told too early or again, if it is told in vain
BESIDE_EVENT = 3  # other steps kept of each clip that holds an event
COUNT_BESIDE = 3.0  # how often each of these is drawn, for they stand for many
TRAINING = ObjectiveConfig()  # what parts of the loss count
LEARNS = ("all", "finer", "verdict")


@dataclass(frozen=True)
class PolishConfig(RipeConfig):
    """See `conf/polish.yaml` for what each key means and its default."""

    kept: int
    unseen: float
    learns: str


class Kept(NamedTuple):
    """What flow and denoiser know, and are to make, of M steps."""

    fine: Tensor  # (M, C0, H/2, W/2), the trunk's features
    middle: Tensor  # (M, C1, H/4, W/4)
    coarse: Tensor  # (M, C2, H/8, W/8)
    mean: Tensor  # (M, 3, H, W), the base's
    recency: Tensor  # (M,), how lately the game's object was in sight
    frame: Tensor  # (M, 3, H, W), the recorded next frame
    counts: Tensor  # (M, 1, H, W), what each pixel counts
    reward: Tensor  # (M, R), weights on the reward support
    terminated: Tensor  # (M,), 0 or 1

    def conditions(self) -> Conditions:
        """All but the base's scale, which neither of them looks at."""
        features = (
            part.float().contiguous(memory_format=torch.channels_last)
            for part in (self.fine, self.middle, self.coarse)
        )
        return Conditions(Features(*features), self.mean, self.mean.new_zeros(0), self.recency)


def polish(config: PolishConfig) -> None:
    """Look at some clips, keep what is known of their steps, train on that; writes `out`.

    Raises:
        InputError: as `train_part`; `kept` below the steps of one look, `batch` below 1, an
            `unseen` that is no share, or of a game without an object, or told of a verdict, another
            `learns` than these, or a verdict to be learned where nothing is rewarded and nothing
            ends.
        WorkError: as `train_part`.
    """
    if config.kept < LOOK * OF_CLIP or config.batch < 1:
        raise InputError(
            f"kept={config.kept} batch={config.batch}: expected {LOOK * OF_CLIP} or more steps, "
            "and batches of 1 or more"
        )
    if not 0 <= config.unseen < 1:
        raise InputError(f"unseen={config.unseen}: expected a share, 0 to below 1")
    if config.learns not in LEARNS:
        raise InputError(f"learns={config.learns}: expected {', '.join(LEARNS)}")
    if config.learns == "verdict" and config.unseen:
        raise InputError(
            f"learns=verdict unseen={config.unseen}: rewards and ends are looked for, not what is "
            "out of sight; leave unseen out"
        )
    train_part(config, "polished", partial(_polished, config))


def _polished(
    config: PolishConfig, world: World, training: Dataset, device: str
) -> tuple[World, int]:
    model = world.model
    kept, odds = look(model, training, config, device)
    generator = torch.Generator(device).manual_seed(config.seed)
    parameters = list(_moving(model, config.learns).requires_grad_(True).parameters())

    def loss() -> Tensor:
        rows = odds.multinomial(config.batch, replacement=True, generator=generator)
        batch = Kept(*(part[rows] for part in kept))
        y = batch.frame + model.config.sigma * normal(batch.frame.shape, generator)
        given, total = batch.conditions(), y.new_zeros(())
        if config.learns != "verdict":
            total = total + _making_loss(model, batch, given, y)
        if config.learns != "finer":
            total = total + _reading_loss(model, batch, given, y, generator)
        return total

    updates = descend_by_adam(parameters, loss, config)
    model.requires_grad_(False)
    return world, updates


def _moving(model: WorldModel, learns: str) -> nn.ModuleList:
    outcome, finer = model.outcome, [step for _, step in model.flow.following()]
    if learns == "verdict":
        return nn.ModuleList([outcome.shrink, outcome.events, outcome.verdict])
    return nn.ModuleList(finer if learns == "finer" else [*finer, outcome])


def look(
    model: WorldModel, dataset: Dataset, config: PolishConfig, device: str
) -> tuple[Kept, Tensor]:
    """`kept` steps, and how likely each is drawn `(M,)`."""
    generator = torch.Generator(device).manual_seed(config.seed)
    if config.learns == "verdict":
        return _look_at_events(model, dataset, config, generator)
    small = watched(dataset, config.unseen)
    kept, odds = _look_at_clips(model, dataset, config, generator)
    if small is None:
        return kept, odds
    unseen, its_odds = _look_at_unseen(model, dataset, small, config, generator)
    together = Kept(*(torch.cat(parts) for parts in zip(kept, unseen, strict=True)))
    return together, torch.cat(((1 - config.unseen) * odds, config.unseen * its_odds))


def _look_at_clips(
    model: WorldModel, dataset: Dataset, config: PolishConfig, generator: torch.Generator
) -> tuple[Kept, Tensor]:
    """Some steps of random clips that are longer than the attention's window."""
    length, of_these = model.config.window + OF_CLIP, config.kept * (1 - config.unseen)
    sampler = ClipSampler(dataset, LOOK, length, config.seed, past=model.config.history - 1)

    def choose(clips: Clips, left: Tensor) -> Tensor:
        valid = torch.from_numpy(clips.valid).to(left.device)
        return of_clips(left.view(valid.shape).masked_fill(~valid, -torch.inf), generator)

    looks = max(1, int(of_these) // (LOOK * OF_CLIP))
    clips = (sampler.clips(number, LOOK, length) for number in range(looks))
    kept, left = _known(model, tqdm(clips, "looking", looks), choose, generator)
    left = left.clamp(min=LEAST)
    return kept, 0.5 * (left / left.sum() + 1 / len(left))


def _look_at_unseen(
    model: WorldModel,
    dataset: Dataset,
    small: SmallObject,
    config: PolishConfig,
    generator: torch.Generator,
) -> tuple[Kept, Tensor]:
    """Steps with the game's object out of sight, as many of each action as there are or are due."""
    quota = int(config.kept * config.unseen / len(dataset.header.action_names))
    by_action = unseen_steps(dataset, small, model.config.history, quota, config.seed)
    steps = np.sort(np.concatenate(by_action))
    if not len(steps):
        raise InputError(f"unseen={config.unseen}: the object is never out of sight; leave it out")
    kept, _ = _look_at_steps(model, dataset, steps, 0, generator)
    filled = [of_action for of_action in by_action if len(of_action)]
    odds = np.zeros(len(steps))
    for of_action in filled:
        odds[np.searchsorted(steps, of_action)] = 1 / (len(filled) * len(of_action))
    return kept, torch.from_numpy(odds).to(kept.mean)


def _look_at_events(
    model: WorldModel, dataset: Dataset, config: PolishConfig, generator: torch.Generator
) -> tuple[Kept, Tensor]:
    """The steps around some rewards and ends, and some beside them."""
    events = dataset.columns.events
    if not len(events):
        raise InputError("learns=verdict: no reward and no end is recorded; record more")
    some = np.random.default_rng(config.seed).permutation(events)
    some = some[: max(1, config.kept // (len(AROUND_EVENT) + BESIDE_EVENT))]
    steps = np.unique(some[:, None] + AROUND_EVENT)
    steps = steps[(steps >= 0) & (steps < dataset.steps)]
    kept, due = _look_at_steps(model, dataset, steps, BESIDE_EVENT, generator)
    return kept, torch.where(due, 1.0, COUNT_BESIDE).to(kept.mean)


def _look_at_steps(
    model: WorldModel,
    dataset: Dataset,
    steps: NDArray[np.int64],
    beside: int,
    generator: torch.Generator,
) -> tuple[Kept, Tensor]:
    """The `steps`, ascending, and up to so many others of each clip; which are of the former."""
    window, history = model.config.window, model.config.history
    length, begun = window + OF_CLIP, np.cumsum([0, *(len(each) for each in dataset.episodes)])
    starts = windows(steps, begun, window, length)
    sampler = ClipSampler(dataset, 1, 1, 0, past=history - 1)
    after, wanted = {int(start): int(first) for start, first in starts}, []

    def choose(clips: Clips, left: Tensor) -> Tensor:
        first = np.array([after[start] for start in clips.index[:, 0].tolist()])
        may = (clips.index >= first[:, None]) & clips.valid
        due = may & np.isin(clips.index, steps)
        others = may & ~due
        lots = torch.rand(due.shape, generator=generator, device=left.device).cpu().numpy()
        ranks = np.argsort(np.argsort(np.where(others, lots, 2.0), axis=1), axis=1)
        rows = np.flatnonzero(due | (others & (ranks < beside)))
        wanted.append(torch.from_numpy(due.flatten()[rows]))
        return torch.from_numpy(rows).to(left.device)

    looks = range(0, len(starts), LOOK)
    clips = (sampler.steps(starts[number : number + LOOK, 0], length) for number in looks)
    kept, _ = _known(model, tqdm(clips, "looking at these", len(looks)), choose, generator)
    return kept, torch.cat(wanted).to(kept.mean.device)


@torch.no_grad()
def _known(
    model: WorldModel,
    looks: Iterable[Clips],
    choose: Callable[[Clips, Tensor], Tensor],
    generator: torch.Generator,
) -> tuple[Kept, Tensor]:
    """What is known of some steps of all clips, and what the choosing steps leave open of them.

    Args:
        choose: of clips, and what is left open of their B*T steps, the rows of some.
    """
    device, history, found = str(generator.device), model.config.history, []
    for clips in looks:
        frames, given, left = seen(model, clips, generator, device)
        rows = choose(clips, left)
        rewards, terminated = (
            torch.from_numpy(part.flatten()).to(device)[rows]
            for part in (clips.rewards, clips.terminated)
        )
        lately = places.moved(frames, history)
        fine, middle, coarse = (part[rows].to(quick_type(device)) for part in given.features)
        kept = Kept(
            fine=fine,
            middle=middle,
            coarse=coarse,
            mean=given.mean[rows],
            recency=given.recency[rows],
            frame=frames[:, history:].flatten(0, 1)[rows],
            counts=places.weights(lately, given, model.base.floor, TRAINING.focus)[rows],
            reward=two_hot(rewards, model.reward_support),
            terminated=terminated.float(),
        )
        found.append((*kept, left[rows]))
    *parts, left = (torch.cat(part) for part in zip(*found, strict=True))
    return Kept(*parts), left


def unseen_steps(
    dataset: Dataset, small: SmallObject, history: int, quota: int, seed: int
) -> list[NDArray[np.int64]]:
    """For each action, `quota` steps with the object out of sight, or all that there are."""
    sampler = ClipSampler(dataset, 1, 1, seed, past=history - 1)
    draws, begun = np.random.default_rng(seed), 0
    gone, taken = [], []
    for episode in dataset.episodes:
        clips = sampler.steps(np.array([begun]), len(episode))
        rows = np.flatnonzero(out_of_sight(small, clips, history).gone)
        gone.append(begun + rows)
        taken.append(clips.actions[0, history - 1 :][rows])
        begun += len(episode)
    steps, actions = np.concatenate(gone), np.concatenate(taken)
    by_action = (steps[actions == a] for a in range(len(dataset.header.action_names)))
    return [draws.permutation(each)[:quota] for each in by_action]


def windows(
    steps: NDArray[np.int64], begun: NDArray[np.int64], before: int, length: int
) -> NDArray[np.int64]:
    """Clips of `length` that hold all `steps`, each after `before` others if its episode has them.

    Args:
        steps: ascending.
        begun: where each episode begins, and the last one ends.

    Returns:
        Of each clip where it starts, and the first of its `steps` `(C, 2)`.
    """
    clips: list[tuple[int, int]] = []
    episode = np.searchsorted(begun, steps, side="right")
    for step, first in zip(steps.tolist(), begun[episode - 1].tolist(), strict=True):
        if not clips or step >= clips[-1][0] + length or clips[-1][0] < first:
            clips.append((max(step - before, first), step))
    return np.array(clips, np.int64).reshape(-1, 2)


def of_clips(left: Tensor, generator: torch.Generator) -> Tensor:
    """Of what is left open `(B, T)`, -inf past an episode's end: the rows of B*T that are kept.

    Of each clip half are those that leave most open, the others any; fewer if there are not
    so many.
    """
    lots = torch.rand(left.shape, generator=generator, device=left.device)
    lots = lots.masked_fill(left.isinf(), -torch.inf)
    chosen = torch.cat([ranks.topk(OF_CLIP // 2).indices for ranks in (left, lots)], dim=1)
    clips = torch.arange(len(left), device=left.device)[:, None]
    rows = (chosen + left.shape[1] * clips).flatten()
    return rows[left.flatten()[rows].isfinite()]


def _making_loss(model: WorldModel, kept: Kept, given: Conditions, y: Tensor) -> Tensor:
    """The finer steps' part of the training loss, of noised frames `y`."""
    sigma = model.config.sigma
    with autocast(y.device.type):
        sites = model.flow.following_sites(y, given)
    true = haar.pyramid(kept.frame, LEVELS).details[-len(sites) :]
    off = counted(centre_errors(sites, true, sigma, 1.0), kept.counts).mean()
    nll = -counted([part.log_prob for part in sites], kept.counts).mean()
    return (nll + off / (2 * sigma**2)) / y[0].numel()


def _reading_loss(
    model: WorldModel, kept: Kept, given: Conditions, y: Tensor, generator: torch.Generator
) -> Tensor:
    """The outcome head's part of it, of `y` or of draws like it."""
    with autocast(y.device.type):
        if torch.rand((), generator=generator, device=y.device) < TRAINING.redrawn:
            noise = normal(torch.Size((len(y), model.flow.noise_size)), generator)
            with torch.no_grad():
                y = model.flow.redraw(y, given, noise)
        frame, reward, termination = model.outcome(y, given)
    off = (kept.counts * (frame - kept.frame).square()).mean() / (2 * model.config.sigma**2)
    told = F.binary_cross_entropy_with_logits(termination, kept.terminated)
    loss: Tensor = off + TRAINING.event_weight * (F.cross_entropy(reward, kept.reward) + told)
    return loss
