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
    """The last layer of a conditioner: parameters of a mixture, centred where it is told.

    Starts on a ladder of scales from sigma up to `reach`, the range of a coefficient, the
    narrow ones likeliest: heavy-tailed and safe from the first step.
    """

    ladder: Tensor

    def __init__(
        self, channels: int, size: int, components: int, sigma: float, reach: float
    ) -> None:
        super().__init__()
        self.components, self.size, self.sigma = components, size, sigma
        self.floor = math.log(SCALE_FLOOR * sigma)
        ladder = torch.linspace(math.log(sigma), math.log(reach), components)
        self.register_buffer("ladder", ladder, persistent=False)
        self.widest = math.log(2 * reach)
        # One layer each: the parts of a single one would be put together again in every
        # backward pass, which costs more than the layer.
        self.weigh = zeroed(nn.Conv2d(channels, components, 1))
        self.shift = zeroed(nn.Conv2d(channels, components * size, 1))
        self.spread = zeroed(nn.Conv2d(channels, components * size, 1))
        above = (ladder - self.floor).repeat_interleave(size)
        self.weigh.bias = nn.Parameter(-torch.arange(components, dtype=torch.float32))
        self.spread.bias = nn.Parameter(above + torch.log(-torch.expm1(-above)))  # softplus^-1

    def forward(self, hidden: Tensor, centre: Tensor, prior: Tensor | None = None) -> Mixture:
        """`hidden` `(N, C, h, w)`, `centre` `(N, K or 1, d, h, w)`, `prior` `(N, K, h, w)`."""
        log_weights, shift, spread = self._raw(hidden, prior)
        reach = torch.exp(self.ladder)[None, :, None, None, None]
        return Mixture(log_weights, *self._placed(shift, spread, reach, centre))

    def decode(
        self,
        hidden: Tensor,
        centre: Tensor,
        prior: Tensor | None,
        eps: Tensor,
        selector: Tensor,
        temperature: Tensor,
    ) -> Tensor:
        """`mixture.decode` of what `forward` gives, but only the chosen components are made."""
        log_weights, shift, spread = self._raw(hidden, prior)

        def component(index: Tensor) -> tuple[Tensor, Tensor]:
            reach = F.embedding(index, torch.exp(self.ladder)[:, None]).movedim(-1, 1)
            moved, width = (mixture.chosen(values, index) for values in (shift, spread))
            about = centre[:, 0] if centre.shape[1] == 1 else mixture.chosen(centre, index)
            return self._placed(moved, width, reach, about)

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

    def _raw(self, hidden: Tensor, prior: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights `(N, K, h, w)`, shifts and spreads `(N, K, d, h, w)`."""
        # Channels last would put the sites' densities in the slowest of orders.
        logits, shift, spread = (
            full_precision(layer(hidden)).contiguous()
            for layer in (self.weigh, self.shift, self.spread)
        )
        grid = (self.components, self.size)
        log_weights = mixture.floored_log_weights(logits if prior is None else logits + prior)
        return log_weights, shift.unflatten(1, grid), spread.unflatten(1, grid)

    def _placed(
        self, shift: Tensor, spread: Tensor, reach: Tensor, centre: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Means and log-scales, from the layer's own numbers."""
        # A component moves in units of its own rung, so that one step of the optimiser
        # means as much to the far ones as to the near.
        # Bounded, so that no frame, however strange, leads to an infinite one after it.
        log_scale = (self.floor + F.softplus(spread)).clamp(max=self.widest)
        return centre + shift * reach, log_scale
