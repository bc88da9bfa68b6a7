"""Which way a whole frame goes: a mixture over all that the flow's first two steps draw."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflow import mixture
from worldflow.sites import Sites
from worldflow.trunk import full_precision, zeroed

PART = 3.0  # nats by which ways differ at each component to begin with: alike, they do not part
GAIN = 8.0  # nats that a weight of 1 favours: to rule something out is to take few small steps


class Fork(NamedTuple):
    """The ways of N frames."""

    odds: Tensor  # (N, W, 1, 1), log-weights
    favours: tuple[Tensor, ...]  # each (N, W, K, h, w): nats for each component of a step's cells

    def way(self, index: Tensor) -> list[Tensor]:
        """The favours of the ways `index` `(N, 1, 1)`, each `(N, K, h, w)`."""
        return [mixture.chosen(each, index.expand(-1, *each.shape[3:])) for each in self.favours]

    def ways(self) -> list[list[Tensor]]:
        """Those of each way."""
        return [
            list(way) for way in zip(*(each.unbind(dim=1) for each in self.favours), strict=True)
        ]


class Ways(nn.Module):
    """What a whole frame may turn out to be.

    A thing that comes at one of several distant places comes at exactly one. Cells that are drawn
    side by side cannot tell each other; that the frame goes one way, they can be told. A way
    favours components of each cell, in each of the steps that choose. With its odds in the
    density, that stays exact.
    """

    def __init__(self, count: int, hidden: int, components: tuple[int, ...], grid: int) -> None:
        super().__init__()
        self.grid = (count, sum(components))
        self.components = components
        self.look = nn.Linear(2 * hidden, hidden)
        self.odds = zeroed(nn.Linear(hidden, count))
        self.favour = zeroed(nn.Conv2d(hidden, count * sum(components), 1))
        self.here = nn.Parameter(PART / GAIN * torch.randn(*self.grid, grid, grid))

    def forward(self, context: Tensor) -> Fork:
        """`context` `(N, C, h, w)`, what the first step is told."""
        h = F.silu(context)
        pooled = torch.cat((h.mean(dim=(2, 3)), h.amax(dim=(2, 3))), dim=1)
        odds = full_precision(self.odds(F.silu(self.look(pooled))))
        favours = full_precision(self.favour(h)).unflatten(1, self.grid) + self.here
        log_weights = mixture.floored_log_weights(odds)[:, :, None, None]
        return Fork(log_weights, (GAIN * favours).split(self.components, dim=2))


def encoded_way(
    fork: Fork, by_way: list[list[Sites]], generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """The way that a frame came, by its posterior, and a selector that picks it."""
    odds = mixture.drawable(fork.odds)
    joint = _joint(fork, by_way).masked_fill(odds.isinf(), -torch.inf)
    draw, place = torch.rand((2, len(odds), 1, 1), generator=generator, device=odds.device)
    way = mixture.drawn_by(torch.softmax(joint, dim=1), draw)
    return way, mixture.selector_of(odds, way, place)


def way_again(fork: Fork, by_way: list[list[Sites]], selector: Tensor) -> Tensor:
    """The way that a frame came, by its posterior, as `selector` picks it."""
    draw = mixture.standard_normal_cdf(selector)
    return mixture.drawn_by(torch.softmax(_joint(fork, by_way), dim=1), draw)


def mixed(fork: Fork, by_way: list[list[Sites]]) -> list[Sites]:
    """The sites of each step, of what they are of each way; the density of the whole is exact.

    The logsumexp over ways, and its gradient, told as a sum over cells.
    """
    posterior = torch.log_softmax(_joint(fork, by_way).detach(), dim=1)
    share, expected = posterior.exp(), fork.odds.detach().exp()
    steps: list[Sites] = []
    for step in zip(*by_way, strict=True):
        alone = torch.stack([sites.log_prob for sites in step], dim=1)  # (N, W, h, w)
        variance = torch.stack([sites.variance for sites in step], dim=1)
        if not steps:
            alone = alone + (fork.odds - posterior) / alone[0, 0].numel()
        steps.append(
            Sites(
                log_prob=(share * alone).sum(dim=1),
                centre=step[0].centre,
                variance=(expected[:, :, None] * variance).sum(dim=1),
            )
        )
    return steps


def _joint(fork: Fork, by_way: list[list[Sites]]) -> Tensor:
    """The log-density of way and frame together `(N, W, 1, 1)`."""
    each = [
        torch.stack([sites.log_prob.sum(dim=(1, 2)) for sites in way]).sum(dim=0) for way in by_way
    ]
    return fork.odds + torch.stack(each, dim=1)[:, :, None, None]
