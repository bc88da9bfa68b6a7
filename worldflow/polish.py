"""`worldflow polish`: what reads picture, reward and end off a draw, trained alone.

The denoiser is small, comes last, and sees what all others make: it follows while they learn, and
is never done (docs/experiments.md, 92). All that it knows of a step is what the trunk and the base
have made of it, so that is worked out once, and kept: then an update costs a tenth of one of the
whole model. All other weights stay as they are, to the bit.

The steps are shown after recorded frames: after the world's own pictures of them, most of the error
is what those are off by, and nothing is learned. Of each clip those that leave most open are kept,
and as many at random; half of an update is drawn by what they leave open, as `settle` does, half is
any of them.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from worldflow import places
from worldflow.base import Conditions
from worldflow.cost import quick_type
from worldflow.dataset import ClipSampler, Dataset
from worldflow.errors import InputError
from worldflow.model import WorldModel
from worldflow.objective import ObjectiveConfig, two_hot
from worldflow.optimizer import move
from worldflow.own_pictures import normal
from worldflow.ripe import RipeConfig, autocast, descend, train_part
from worldflow.settle import LEAST, seen
from worldflow.trunk import Features
from worldflow.world import World

LOOK = 16  # clips looked at side by side
OF_CLIP = 8  # steps kept of a clip
TRAINING = ObjectiveConfig()  # what parts of the loss count


@dataclass(frozen=True)
class PolishConfig(RipeConfig):
    """See `conf/polish.yaml` for what each key means and its default."""

    kept: int


class Kept(NamedTuple):
    """What flow and denoiser know, and are to make, of M steps."""

    fine: Tensor  # (M, C0, H/2, W/2), the trunk's features
    middle: Tensor  # (M, C1, H/4, W/4)
    coarse: Tensor  # (M, C2, H/8, W/8)
    mean: Tensor  # (M, 3, H, W), the base's
    frame: Tensor  # (M, 3, H, W), the recorded next frame
    counts: Tensor  # (M, 1, H, W), what each pixel counts
    reward: Tensor  # (M, R), weights on the reward support
    terminated: Tensor  # (M,), 0 or 1
    left: Tensor  # (M,), what the choosing steps leave open, nats

    def conditions(self) -> Conditions:
        """All but the base's scale, which neither of them looks at."""
        features = (
            part.float().contiguous(memory_format=torch.channels_last)
            for part in (self.fine, self.middle, self.coarse)
        )
        return Conditions(Features(*features), self.mean, log_scale=self.mean.new_zeros(0))


def polish(config: PolishConfig) -> None:
    """Look at some clips, keep what the denoiser knows of them, train it on that; writes `out`.

    Raises:
        InputError: as `train_part`; `kept` below the steps of one look, or `batch` below 1.
        WorkError: as `train_part`.
    """
    if config.kept < LOOK * OF_CLIP or config.batch < 1:
        raise InputError(
            f"kept={config.kept} batch={config.batch}: expected {LOOK * OF_CLIP} or more steps, "
            "and batches of 1 or more"
        )
    train_part(config, "polished", partial(_polished, config))


def _polished(
    config: PolishConfig, world: World, training: Dataset, device: str
) -> tuple[World, int]:
    model, kept = world.model, look(world.model, training, config, device)
    generator = torch.Generator(device).manual_seed(config.seed)
    parameters = list(model.outcome.requires_grad_(True).parameters())
    # Not Muon, which moves every weight by as much, however right it is.
    optimizer = torch.optim.Adam(parameters, lr=0.0, betas=(0.9, 0.99))
    odds = kept.left / kept.left.sum() + 1 / len(kept.left)

    def loss() -> Tensor:
        rows = odds.multinomial(config.batch, replacement=True, generator=generator)
        return _loss(model, Kept(*(part[rows] for part in kept)), generator)

    updates = descend(parameters, loss, partial(move, [optimizer]), config)
    model.requires_grad_(False)
    return world, updates


@torch.no_grad()
def look(model: WorldModel, dataset: Dataset, config: PolishConfig, device: str) -> Kept:
    """`kept` steps, of random clips longer than the attention's window."""
    from tqdm import tqdm

    length = model.config.window + OF_CLIP
    sampler = ClipSampler(dataset, LOOK, length, config.seed, past=model.config.history - 1)
    generator = torch.Generator(device).manual_seed(config.seed)
    found: list[Kept] = []
    for number in tqdm(range(config.kept // (LOOK * OF_CLIP)), desc="looking"):
        clips = sampler.clips(number, LOOK, length)
        frames, given, left = seen(model, clips, generator, device)
        rewards, terminated, valid = (
            torch.from_numpy(part.flatten()).to(device)
            for part in (clips.rewards, clips.terminated, clips.valid)
        )
        rows = of_clips(left.masked_fill(~valid, -torch.inf).view(LOOK, length), generator)
        lately = places.moved(frames, model.config.history)
        fine, middle, coarse = (part[rows].to(quick_type(device)) for part in given.features)
        found.append(
            Kept(
                fine=fine,
                middle=middle,
                coarse=coarse,
                mean=given.mean[rows],
                frame=frames[:, model.config.history :].flatten(0, 1)[rows],
                counts=places.weights(lately, given, model.base.floor, TRAINING.focus)[rows],
                reward=two_hot(rewards[rows], model.reward_support),
                terminated=terminated[rows].float(),
                left=left[rows].clamp(min=LEAST),
            )
        )
    return Kept(*(torch.cat(parts) for parts in zip(*found, strict=True)))


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


def _loss(model: WorldModel, kept: Kept, generator: torch.Generator) -> Tensor:
    """The outcome head's part of the training loss, of noised frames or of draws like them."""
    device, given = generator.device, kept.conditions()
    y = kept.frame + model.config.sigma * normal(kept.frame.shape, generator)
    with autocast(device.type):
        if torch.rand((), generator=generator, device=device) < TRAINING.redrawn:
            noise = normal(torch.Size((len(y), model.flow.noise_size)), generator)
            y = model.flow.redraw(y, given, noise)
        frame, reward, termination = model.outcome(y, given)
    off = (kept.counts * (frame - kept.frame).square()).mean() / (2 * model.config.sigma**2)
    told = F.binary_cross_entropy_with_logits(termination, kept.terminated)
    loss: Tensor = off + TRAINING.event_weight * (F.cross_entropy(reward, kept.reward) + told)
    return loss
