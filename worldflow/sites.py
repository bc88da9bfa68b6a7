"""What the steps of the flow have in common: how they see what is drawn, and their densities."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from worldflow import mixture
from worldflow.mixture import Mixture
from worldflow.trunk import full_precision, zeroed


def asinh_units(apart: Tensor, sigma: float) -> Tensor:
    """A distance as a network wants to see it: asinh of it, in units of the noise.

    Written out: `torch.asinh` takes four times as long on a CPU, and ONNX Runtime has none on GPUs.
    """
    units = apart / sigma
    size = units.abs()
    return units.sign() * torch.log(size + torch.sqrt(size * size + 1))


class Rendering(nn.Module):
    """What is drawn already -> where the next coefficients lie, beside where the mean has them.

    Bilinear: coefficients grow with what is drawn, in proportions that the features tell. A
    network of sums alone would have to learn every height of a thing by itself.
    """

    def __init__(self, hidden: int, size: int, reach: float) -> None:
        super().__init__()
        self.reach = reach  # the range of a coefficient
        self.look = nn.Conv2d(3, hidden, 3, padding=1, bias=False)
        self.gate = nn.Conv2d(hidden, hidden, 1)
        self.out = zeroed(nn.Conv2d(2 * hidden, size, 1))

    def forward(self, hidden: Tensor, apart: Tensor) -> Tensor:
        """`hidden` `(N, C, h, w)`, `apart` `(N, 3, h, w)`, drawn less the mean's."""
        rendered = self.look(apart / self.reach) * self.gate(hidden)
        return full_precision(self.out(torch.cat((hidden, rendered), dim=1))) * self.reach


class Sites(NamedTuple):
    """What one step of the flow makes of the coefficients `(N, d, h, w)` that it is given."""

    log_prob: Tensor  # (N, h, w), nats
    centre: Tensor  # (N, d, h, w), of each site's mixture: what is expected if all is determined
    variance: Tensor  # (N, d, h, w), of the mixture about that: what it leaves open, no gradient


def sites_of(ways: Sequence[Mixture], centre: Tensor, value: Tensor) -> list[Sites]:
    """The sites of `value` `(N, d, h, w)` under each of some mixtures about `centre`.

    They differ by their weights alone.
    """
    within = mixture.within_log_prob(ways[0], value)
    with torch.no_grad():
        squares = mixture.squares_about(ways[0], centre)
        variances = [mixture.expected(way.log_weights, squares) for way in ways]
    return [
        Sites(torch.logsumexp(way.log_weights + within, dim=1), centre, variance)
        for way, variance in zip(ways, variances, strict=True)
    ]
