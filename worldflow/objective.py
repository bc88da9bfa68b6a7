"""What training minimises, for a batch of clips."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from worldflow.dataset import Clips
from worldflow.model import WorldModel, to_bytes, to_signed


@dataclass(frozen=True)
class ObjectiveConfig:
    """The parts of the loss beside the two likelihoods, and what the context goes through."""

    context_noise: float = 0.02  # largest standard deviation of noise on the context frames
    reconstructed: float = 0.3  # share of updates whose context is the model's own pictures
    reconstruction_depth: int = 4  # rolled 1 to this many steps
    event_weight: float = 0.05  # of the reward's and termination's cross-entropies
    mean_weight: float = 1.0  # of the base's mean as a Gaussian of the noise's own width


class Targets(NamedTuple):
    """What N = B*T steps lead to."""

    frame: Tensor  # (N, 3, H, W)
    y: Tensor  # (N, 3, H, W), the frame with noise
    reward: Tensor  # (N, R), weights on the reward support
    terminated: Tensor  # (N,), 0 or 1
    weight: Tensor  # (N,), 0 past an episode's end


def training_loss(
    model: WorldModel,
    clips: Clips,
    generator: torch.Generator,
    config: ObjectiveConfig,
    parts: "Parts | None" = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss (a scalar, about nats per dimension) and what it is made of.

    Args:
        clips: with the L-1 frames before them.
        generator: of all noise, on the model's device.
        parts: `loss_parts`, or that compiled.
    """
    device = model.reward_support.device
    frames = to_signed(torch.from_numpy(clips.frames).to(device))
    actions = torch.from_numpy(clips.actions).to(device)
    frame = frames[:, model.config.history :].flatten(0, 1)
    targets = Targets(
        frame=frame,
        y=frame + model.config.sigma * _normal(frame.shape, generator),
        reward=two_hot(torch.from_numpy(clips.rewards).to(device).flatten(), model.reward_support),
        terminated=torch.from_numpy(clips.terminated).to(device).flatten().float(),
        weight=torch.from_numpy(clips.valid).to(device).flatten().float(),
    )
    context = _rough_context(model, frames, actions, generator, config)
    figures = (parts or loss_parts)(model, context, actions, targets)
    likelihood = (figures["nll_excess_nats"] + figures["base_nll_excess_nats"]) / frame[0].numel()
    pictures = figures["denoised_mse"] + config.mean_weight * figures["mean_mse"]
    events = figures["reward_loss"] + figures["termination_loss"]
    loss = likelihood + pictures / (2 * model.config.sigma**2) + config.event_weight * events
    return loss, figures


def loss_parts(
    model: WorldModel, context: Tensor, actions: Tensor, targets: Targets
) -> dict[str, Tensor]:
    """The figures that the loss is made of; pure tensor work, to be compiled as a whole.

    `NLL(base)` and `NLL(flow)`, both exact and above the noise's entropy; the squared errors
    of the base's mean and of the denoiser; the cross-entropies of reward and termination.
    The error of the mean keeps hard pixels from being called uncertain and given up
    (beta-NLL, arXiv 2203.09168, section 3).
    """
    given = model.conditions(context, actions)
    outcome = model.outcome(targets.y, given)

    def mean(values: Tensor) -> Tensor:
        return (targets.weight * values).sum() / targets.weight.sum()

    def squared(frame: Tensor) -> Tensor:
        return mean((frame - targets.frame).square().mean(dim=(1, 2, 3)))

    reward = F.cross_entropy(outcome.reward_logits, targets.reward, reduction="none")
    termination = F.binary_cross_entropy_with_logits(
        outcome.termination_logit, targets.terminated, reduction="none"
    )
    return {
        "nll_excess_nats": mean(model.nll_excess(targets.y, given)),
        "base_nll_excess_nats": mean(model.base_nll_excess(targets.y, given)),
        "mean_mse": squared(given.mean),
        "denoised_mse": squared(outcome.frame),
        "reward_loss": mean(reward),
        "termination_loss": mean(termination),
    }


Parts = Callable[[WorldModel, Tensor, Tensor, Targets], dict[str, Tensor]]


def two_hot(rewards: Tensor, support: Tensor) -> Tensor:
    """`(N,)` -> `(N, R)`: weight on the two nearest of the ascending `support` `(R,)`."""
    rewards = rewards.clamp(support[0], support[-1])
    above = torch.searchsorted(support, rewards).clamp(max=len(support) - 1)
    below = (above - 1).clamp(min=0)
    width = (support[above] - support[below]).clamp(min=1e-6)
    share = ((rewards - support[below]) / width).clamp(0, 1)
    share = torch.where(above == below, torch.ones_like(share), share)[:, None]
    count = len(support)
    return share * F.one_hot(above, count) + (1 - share) * F.one_hot(below, count)


def reward_support(values: Sequence[float] | None, lowest: float, highest: float) -> Tensor:
    """The rewards that a world chooses among, ascending.

    Those seen in the data if they are few (`values`), else 64 spaced evenly in symlog
    (DreamerV3, arXiv 2301.04104) from `lowest` to `highest`.
    """
    if values is not None:
        seen: Tensor = torch.unique(torch.tensor([*values, 0.0]))
        return seen
    ends = [math.copysign(math.log1p(abs(value)), value) for value in (lowest, highest)]
    grid = torch.linspace(ends[0], ends[1], 64)
    grid = torch.cat((grid.sign() * torch.expm1(grid.abs()), torch.zeros(1)))
    support: Tensor = torch.unique(grid)
    return support


def _rough_context(
    model: WorldModel,
    frames: Tensor,
    actions: Tensor,
    generator: torch.Generator,
    config: ObjectiveConfig,
) -> Tensor:
    """The frames that the model sees in training `(B, L-1+T, 3, H, W)`: as rough as its own.

    Either the recorded ones or its own reconstructions of them, which carry its artefacts
    and stay on the recorded branch; with a little noise of random size for each clip.
    """
    context = frames[:, :-1]
    draws = torch.rand(2, generator=generator, device=frames.device)
    if float(draws[0]) < config.reconstructed:
        depth = 1 + int(draws[1] * config.reconstruction_depth)
        context = reconstruct(model, frames, actions, depth, generator)
    size = torch.rand((len(frames), 1, 1, 1, 1), generator=generator, device=frames.device)
    return context + config.context_noise * size * _normal(context.shape, generator)


@torch.no_grad()
def reconstruct(
    model: WorldModel, frames: Tensor, actions: Tensor, depth: int, generator: torch.Generator
) -> Tensor:
    """`frames[:, :-1]`, from the first step on as the model itself would show them.

    Each pass denoises the noised true next frame under the conditions of the pass before,
    so that errors compound over `depth` steps without leaving the recorded branch
    (docs/model.md).
    """
    known = model.config.history
    context, target = frames[:, :-1], frames[:, known:]
    for _ in range(depth):
        given = model.conditions(context, actions)
        y = (target + model.config.sigma * _normal(target.shape, generator)).flatten(0, 1)
        shown = to_signed(to_bytes(model.outcome(y, given).frame)).view(target.shape)
        context = torch.cat((frames[:, :known], shown[:, :-1]), dim=1)
    return context


def _normal(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)
