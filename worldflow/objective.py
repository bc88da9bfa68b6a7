"""What training minimises, for a batch of clips."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from worldflow import haar, places
from worldflow.base import Conditions, gaussian_log_prob
from worldflow.coarse import LEVELS
from worldflow.dataset import Clips
from worldflow.doubt import doubt
from worldflow.model import WorldModel, to_signed
from worldflow.own_pictures import Show, normal, reconstruct
from worldflow.sites import Sites
from worldflow.trunk import Features

SURE = 4.0  # standard deviation, in units of the noise, up to which a squared error counts whole


@dataclass(frozen=True)
class ObjectiveConfig:
    """The parts of the loss beside the two likelihoods, and what the context goes through."""

    context_noise: float = 0.004  # largest standard deviation of noise on the context frames
    reconstructed: float = 0.4  # share of updates whose context is the model's own pictures
    reconstruction_depth: int = 4  # rolled 1 to this many steps
    sampled: float = 0.5  # share of these updates that use free samples where nothing is open
    redrawn: float = 0.5  # share of updates whose denoiser sees what the flow itself draws
    ghosts: float = 0.5  # largest share of the base's mean mixed into those pictures
    focus: float = 8.0  # weight of places that moved lately or are in doubt; 1 elsewhere
    event_weight: float = 1.0  # of the reward's and termination's cross-entropies
    mean_weight: float = 1.0  # of squared errors of the base's mean and the mixtures' centres
    bounded: float = 0.4  # share of the training after which these begin to be bounded


class Targets(NamedTuple):
    """What N = B*T steps lead to."""

    frame: Tensor  # (N, 3, H, W)
    y: Tensor  # (N, 3, H, W), the frame with noise
    drawn: Tensor  # (N, 3, H, W), what the denoiser makes the frame of: that, or a draw like it
    reward: Tensor  # (N, R), weights on the reward support
    terminated: Tensor  # (N,), 0 or 1
    weight: Tensor  # (N,), 0 past an episode's end
    moved: Tensor  # (N, 1, H, W), 1 where something moved in the L frames before, else 0
    bound: Tensor  # scalar: the power to which `_sure` counts, 0 to 1


class Batch(NamedTuple):
    """What an update learns from: B clips of T steps, all on the model's device."""

    context: Tensor  # (B, L-1+T, 3, H, W), the frames that the model is shown
    actions: Tensor  # (B, L-1+T)
    targets: Targets
    noise: Tensor  # (N, noise_size) that the flow draws the same futures with; or no rows


def prepared(
    model: WorldModel,
    clips: Clips,
    generator: torch.Generator,
    config: ObjectiveConfig,
    bound: float = 0.0,
    show: Show | None = None,
) -> Batch:
    """`clips`, with the L-1 frames before them, as they are to be learned from.

    Args:
        generator: of all noise, on the model's device.
        bound: from 0, all squared errors count whole, to 1, they are bounded where much is open.
        show: `shown` of this model, or that captured.
    """
    device = model.reward_support.device
    frames = to_signed(clips.frames.to(device))
    actions = torch.from_numpy(clips.actions).to(device)
    # One layout, however long the clips are: `parts` is compiled for one. So below, and `past`.
    frame = frames[:, model.config.history :].flatten(0, 1).contiguous()
    y = frame + model.config.sigma * normal(frame.shape, generator)
    targets = Targets(
        frame=frame,
        y=y,
        drawn=y,
        reward=two_hot(torch.from_numpy(clips.rewards).to(device).flatten(), model.reward_support),
        terminated=torch.from_numpy(clips.terminated).to(device).flatten().float(),
        weight=torch.from_numpy(clips.valid).to(device).flatten().float(),
        moved=places.moved(frames, model.config.history),
        bound=torch.tensor(bound, device=device),
    )
    context = _rough_context(model, frames, actions, generator, config, show)
    again = bool(torch.rand((), generator=generator, device=device) < config.redrawn)
    noise = normal(torch.Size((len(y) if again else 0, model.flow.noise_size)), generator)
    return Batch(context, actions, targets, noise)


def training_loss(
    model: WorldModel, batch: Batch, config: ObjectiveConfig, parts: "Parts | None" = None
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """The loss (a scalar, about nats per dimension), what it is made of, and doubts `(B*T,)`.

    Args:
        parts: `loss_parts`, or that compiled.
    """
    context, actions, targets, noise = batch
    features, past = model.trunk(context, actions), model.past(context)
    known = features, past, model.taken(actions), model.recency(past, len(context))
    if len(noise):
        with torch.no_grad():
            drawn = model.flow.redraw(targets.y, model.base(*known), noise)
        targets = targets._replace(drawn=drawn)
    figures, doubts = (parts or loss_parts)(model, *known, targets, config.focus)
    likelihood = figures["weighted_nll"] + figures["weighted_base_nll"]
    means = figures["mean_mse"] + figures["centre_mse"]
    pictures = figures["denoised_mse"] + config.mean_weight * means
    events = figures["reward_loss"] + figures["termination_loss"]
    loss = likelihood / targets.frame[0].numel()
    loss = loss + pictures / (2 * model.config.sigma**2) + config.event_weight * events
    return loss, figures, doubts


def loss_parts(
    model: WorldModel,
    features: Features,
    past: Tensor,
    actions: Tensor,
    recency: Tensor,
    targets: Targets,
    focus: float,
) -> tuple[dict[str, Tensor], Tensor]:
    """The figures that the loss is made of, and the doubt of each row `(N,)`.

    All that comes after the trunk: it knows no clips, only N steps, so that compiled it is the
    same for many short clips and for few long ones.

    `NLL(base)` and `NLL(flow)`, both exact and above the noise's entropy, plain and with each
    place weighted; the weighted squared errors of the base's mean, of the centres of the flow's
    mixtures and of the denoiser; the cross-entropies of reward and termination.
    The errors of mean and centres keep hard pixels from being called uncertain and given up
    (beta-NLL, arXiv 2203.09168, section 3), as far as they are not open anyway (`_sure`).
    """
    given: Conditions = model.base(features, past, actions, recency)
    outcome = model.outcome(targets.drawn, given)
    counts = places.weights(targets.moved, given, model.base.floor, focus)
    depths, entropy = model.flow.depths, model.entropy_per_dim
    sites = model.flow.sites(targets.y, given)
    flow = [-part.log_prob - depth * entropy for part, depth in zip(sites, depths, strict=True)]
    base = [-gaussian_log_prob(targets.y, given) - 3 * entropy]

    def mean(values: Tensor) -> Tensor:
        return (targets.weight * values).sum() / targets.weight.sum()

    def total(parts: list[Tensor], counts: Tensor) -> Tensor:
        return mean(counted(parts, counts))

    def squared(frame: Tensor, counts: Tensor) -> Tensor:
        return mean((counts * (frame - targets.frame).square()).mean(dim=(1, 2, 3)))

    (coarse, *_), details = haar.pyramid(targets.frame, LEVELS)
    off = centre_errors(sites, [coarse, *details], model.base.sigma, targets.bound)
    sure = _sure(torch.exp(2 * given.log_scale.detach()), model.base.sigma) ** targets.bound

    reward = F.cross_entropy(outcome.reward_logits, targets.reward, reduction="none")
    termination = F.binary_cross_entropy_with_logits(
        outcome.termination_logit, targets.terminated, reduction="none"
    )
    everywhere = torch.ones_like(counts)
    figures = {
        "nll_excess_nats": total(flow, everywhere),
        "base_nll_excess_nats": total(base, everywhere),
        "weighted_nll": total(flow, counts),
        "weighted_base_nll": total(base, counts),
        "mean_mse": squared(given.mean, counts * sure),
        "centre_mse": total(off, counts) / targets.frame[0].numel(),
        "denoised_mse": squared(outcome.frame, counts),
        "reward_loss": mean(reward),
        "termination_loss": mean(termination),
    }
    return figures, doubt(given, model.base.floor)


def counted(parts: list[Tensor], counts: Tensor) -> Tensor:
    """The sum of `parts`, each `(N, h, w)`, over all their cells `(N,)`: each as its place counts.

    `counts` `(N, 1, H, W)`; a cell counts as the pixel in it that counts most.
    """
    return torch.stack([(_pool(counts, p) * p).sum(dim=(1, 2)) for p in parts]).sum(0)


def centre_errors(
    sites: list[Sites], true: Sequence[Tensor], sigma: float, bound: Tensor | float
) -> list[Tensor]:
    """Squared errors of the mixtures' centres `(N, h, w)`, of `true` coefficients `(N, d, h, w)`.

    `bound`: from 0, all count whole, to 1, they are bounded where much is open.
    """
    return [
        (_sure(part.variance, sigma) ** bound * (part.centre - coefficients).square()).sum(dim=1)
        for part, coefficients in zip(sites, true, strict=True)
    ]


def _sure(variance: Tensor, sigma: float) -> Tensor:
    """What the squared error of something counts of which `variance` is held to be open.

    All of it if that is little. What stays open in truth is an error that nobody can mend: its
    gradient is nothing but noise, on Bounce's launches and lamps forty to ninety times that of
    the flow's own likelihood (docs/experiments.md, 67). While little is learned yet all is open,
    and a mean that nothing pulls learns slowly: so this sets in late (70, 73).
    """
    return ((SURE * sigma) ** 2 / variance).clamp(max=1)


def _pool(counts: Tensor, part: Tensor) -> Tensor:
    """`counts` `(N, 1, H, W)` on the grid of `part` `(N, h, w)`: the most of each cell."""
    return F.max_pool2d(counts, counts.shape[-1] // part.shape[-1])[:, 0]


Parts = Callable[
    [WorldModel, Features, Tensor, Tensor, Tensor, Targets, float], tuple[dict[str, Tensor], Tensor]
]


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
    show: Show | None,
) -> Tensor:
    """The frames that the model sees in training `(B, L-1+T, 3, H, W)`: as rough as its own.

    Either the recorded ones or its own reconstructions of them, which carry its artefacts
    and stay on the recorded branch; with a little noise of random size for each clip.
    """
    context = frames[:, :-1]
    draws = torch.rand(3, generator=generator, device=frames.device)
    own = frames.shape[1] - model.config.history > 1  # a single step's context is all recorded
    if own and float(draws[0]) < config.reconstructed:
        depth = 1 + int(draws[1] * config.reconstruction_depth)
        sampled = bool(draws[2] < config.sampled)
        context = reconstruct(
            model, frames, actions, depth, generator, config.ghosts, sampled, show
        )
    size = torch.rand((len(frames), 1, 1, 1, 1), generator=generator, device=frames.device)
    return context + config.context_noise * size * normal(context.shape, generator)
