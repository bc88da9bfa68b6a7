"""The last layer of each of the flow's conditioners: from features to a mixture, and its noise."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflow import mixture
from worldflow.mixture import Mixture
from worldflow.trunk import full_precision, zeroed

SCALE_FLOOR = 0.9  # of sigma: no density is narrower, so none is unbounded


class MixtureHead(nn.Module):
    """The last layer of a conditioner: parameters of a mixture.

    Its components lie where they are told, each at a centre of its own, or, if there is but one
    centre, `free` about it. Starts on a ladder of scales from sigma up to `reach`, the range of a
    coefficient, the narrow ones likeliest: heavy-tailed and safe from the first step.
    """

    ladder: Tensor

    def __init__(
        self, channels: int, size: int, components: int, sigma: float, reach: float, free: bool
    ) -> None:
        super().__init__()
        self.grid, self.sigma = (components, size), sigma
        self.floor = math.log(SCALE_FLOOR * sigma)
        ladder = torch.linspace(math.log(sigma), math.log(reach), components)
        self.register_buffer("ladder", ladder, persistent=False)
        self.widest = math.log(2 * reach)
        # One layer each: the parts of a single one would be put together again in every
        # backward pass, which costs more than the layer.
        self.weigh = zeroed(nn.Conv2d(channels, components, 1))
        self.shift = zeroed(nn.Conv2d(channels, components * size, 1)) if free else None
        self.spread = zeroed(nn.Conv2d(channels, components * size, 1))
        above = (ladder - self.floor).repeat_interleave(size)
        self.weigh.bias = nn.Parameter(-torch.arange(components, dtype=torch.float32))
        self.spread.bias = nn.Parameter(above + torch.log(-torch.expm1(-above)))  # softplus^-1

    def forward(self, hidden: Tensor, centre: Tensor, prior: Tensor | None = None) -> Mixture:
        """`hidden` `(N, C, h, w)`, `centre` `(N, K or 1, d, h, w)`, `prior` `(N, K, h, w)`."""
        log_weights, spread, shift = self._raw(hidden, prior)
        return Mixture(log_weights, centre + shift, self._log_scale(spread))

    def decode(
        self,
        hidden: Tensor,
        centre: Tensor,
        prior: Tensor | None,
        eps: Tensor,
        selector: Tensor,
        temperature: Tensor,
    ) -> Tensor:
        """`mixture.decode` of what `forward` gives, but only chosen components get a scale."""
        log_weights, spread, shift = self._raw(hidden, prior)
        centres = centre + shift

        def component(index: Tensor) -> tuple[Tensor, Tensor]:
            mean, width = (mixture.chosen(values, index) for values in (centres, spread))
            return mean, self._log_scale(width)

        return mixture.decode(log_weights, component, eps, selector, temperature, self.sigma)

    def encode(
        self,
        hidden: Tensor,
        centre: Tensor,
        prior: Tensor | None,
        value: Tensor,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`eps` and `selector` of `value`, and what `decode` makes of them: it, but for rounding.

        What comes after is to be conditioned on that, to the bit: a rare component's interval of
        selectors is so narrow that the weights must not differ by a rounding.
        """
        eps, selector = mixture.encode(self(hidden, centre, prior), value, generator)
        warm = torch.ones_like(eps[:, 0, 0, 0])
        return eps, selector, self.decode(hidden, centre, prior, eps, selector, warm)

    def _raw(self, hidden: Tensor, prior: Tensor | None) -> tuple[Tensor, Tensor, Tensor | float]:
        """Log-weights `(N, K, h, w)`, spreads and, of a free head, shifts `(N, K, d, h, w)`."""
        logits = self._told(self.weigh, hidden)
        log_weights = mixture.floored_log_weights(logits if prior is None else logits + prior)
        spread = self._told(self.spread, hidden).unflatten(1, self.grid)
        if self.shift is None:
            return log_weights, spread, 0.0
        # A component moves in units of its own rung, so that one step of the optimiser
        # means as much to the far ones as to the near.
        reach = torch.exp(self.ladder)[None, :, None, None, None]
        shift = self._told(self.shift, hidden).unflatten(1, self.grid) * reach
        return log_weights, spread, shift

    @staticmethod
    def _told(layer: nn.Module, hidden: Tensor) -> Tensor:
        # Channels last would put the sites' densities in the slowest of orders.
        return full_precision(layer(hidden)).contiguous()

    def _log_scale(self, spread: Tensor) -> Tensor:
        # Bounded, so that no frame, however strange, leads to an infinite one after it.
        return (self.floor + F.softplus(spread)).clamp(max=self.widest)
