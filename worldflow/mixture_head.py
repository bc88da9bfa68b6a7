"""The last layer of each of the flow's conditioners: from features to a mixture, and its noise."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflow import mixture
from worldflow.mixture import Mixture
from worldflow.trunk import full_precision, zeroed

SCALE_FLOOR = 0.9  # of sigma: no density is narrower, so none is unbounded
UNSURE = -4.0  # log-odds of each component on the line, before anything is learned
LINE = 0.4  # half of the line's length to begin with, as a share of the reach
NARROW = -2.0  # before softplus: a component starts a little wider than the floor


class Told(NamedTuple):
    """What a conditioner tells its head."""

    hidden: Tensor  # (N, C, h, w)
    centre: Tensor  # (N, d, h, w), what is expected if all is determined
    evidence: Tensor | None = None  # (N, K, h, w), nats, for each component; None: the same for all

    def favoured(self, favour: Tensor | None) -> "Told":
        """The same, with `favour` `(N, K, h, w)` beside the evidence that there is."""
        if favour is None:
            return self
        return self._replace(evidence=favour if self.evidence is None else self.evidence + favour)


class MixtureHead(nn.Module):
    """The last layer of a conditioner: parameters of a mixture about one centre.

    Component 0 lies at the centre and is narrow: what is determined. The others stand in a row
    on a *line* through it, evenly from one end to the other, each as wide as the `gap` says: one
    that what is left open stretches, and along which several futures fall to several components
    at once. (Components that all begin at the centre do not part: the widest takes all that is
    open, and the others die out.) Then each is put right by a shift of its own. Starts with a line
    across the range of a coefficient, `reach`: heavy-tailed and safe from the first step.
    """

    places: Tensor  # (K, 1, 1, 1), of the components on the line
    on_line: Tensor  # the same: 1, but 0 for component 0

    def __init__(
        self, channels: int, size: int, components: int, sigma: float, reach: float
    ) -> None:
        super().__init__()
        self.grid, self.sigma, self.reach = (components, size), sigma, reach
        self.floor, self.widest = math.log(SCALE_FLOOR * sigma), math.log(2 * reach)
        places = F.pad(torch.linspace(-1, 1, components - 1), (1, 0))
        on_line = torch.tensor([0.0] + [1.0] * (components - 1))
        self.register_buffer("places", places.view(-1, 1, 1, 1), persistent=False)
        self.register_buffer("on_line", on_line.view(-1, 1, 1, 1), persistent=False)
        # One layer each: the parts of a single one would be put together again in every
        # backward pass, which costs more than the layer.
        self.weigh = zeroed(nn.Conv2d(channels, components, 1))
        self.shift = zeroed(nn.Conv2d(channels, components * size, 1))
        self.spread = zeroed(nn.Conv2d(channels, components * size, 1))
        self.line = zeroed(nn.Conv2d(channels, size, 1))
        self.gap = zeroed(nn.Conv2d(channels, 1, 1))
        self.weigh.bias = nn.Parameter(UNSURE * on_line)
        nn.init.constant_(self.spread.bias, NARROW)  # type: ignore[arg-type]
        nn.init.constant_(self.line.bias, LINE)  # type: ignore[arg-type]

    def forward(self, told: Told) -> Mixture:
        return self.of_ways(told, [None])[0]

    def of_ways(self, told: Told, favours: Sequence[Tensor | None]) -> list[Mixture]:
        """The mixtures of ways that each favour other components; but for weights, one."""
        logits, line, gap, shift, spread = (
            full_precision(
                layer(told.hidden)
            ).contiguous()  # channels last would be the slowest order
            for layer in (self.weigh, self.line, self.gap, self.shift, self.spread)
        )
        shift, spread = (each.unflatten(1, self.grid) for each in (shift, spread))
        parts = self._placed(told.centre, line * self.reach, gap, shift, spread)
        return [
            Mixture(_log_weights(logits, told.favoured(favour).evidence), *parts)
            for favour in favours
        ]

    def decode(self, told: Told, eps: Tensor, selector: Tensor, temperature: Tensor) -> Tensor:
        """`mixture.decode` of what `forward` gives, but only chosen components are worked out."""
        logits, line, gap, of_each = self._at_once(told.hidden)
        gap = torch.sigmoid(gap)

        def component(index: Tensor) -> tuple[Tensor, Tensor]:
            place, on_line = (each.view(-1)[index][:, None] for each in (self.places, self.on_line))
            shift, spread = mixture.chosen(of_each, index).chunk(2, dim=1)
            # `_log_scale` without the logarithm: e^softplus(x) = 1 + e^x
            own, stretched = math.exp(self.floor) * (1 + torch.exp(spread)), on_line * gap * line
            scale = torch.sqrt(own * own + stretched * stretched).clamp(max=math.exp(self.widest))
            return self._mean(told.centre, line, place, shift), scale

        log_weights = _log_weights(logits, told.evidence)
        return mixture.decode(log_weights, component, eps, selector, temperature, self.sigma)

    def encode(
        self, told: Told, value: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`eps` and `selector` of `value`, and what `decode` makes of them: it, but for rounding.

        What comes after is to be conditioned on that, to the bit. So the weights are those that
        `decode` computes, by the same layer: not even a rounding may make a component rare.
        """
        logits, line, gap, of_each = self._at_once(told.hidden)
        shift, spread = of_each.chunk(2, dim=2)
        placed = self._placed(told.centre, line, gap, shift, spread)
        parts = Mixture(_log_weights(logits, told.evidence), *placed)
        eps, selector = mixture.encode(parts, value, generator)
        warm = torch.ones_like(eps[:, 0, 0, 0])
        return eps, selector, self.decode(told, eps, selector, warm)

    def _placed(
        self, centre: Tensor, line: Tensor, gap: Tensor, shift: Tensor, spread: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of all components `(N, K, d, h, w)`."""
        line, gap = line[:, None], torch.sigmoid(gap)[:, None]
        mean = self._mean(centre[:, None], line, self.places, shift)
        return mean, self._log_scale(line, self.on_line * gap, spread)

    def _at_once(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits, line, gap, and shift and spread of each `(N, K, 2d, h, w)`, by one layer.

        Where nothing goes backward, that is the cheaper way.
        """
        components, size = self.grid

        def whole(name: str) -> Tensor:
            shift, spread = (
                getattr(layer, name).unflatten(0, self.grid) for layer in (self.shift, self.spread)
            )
            of_each = torch.cat((shift, spread), dim=1).flatten(0, 1)
            others = (getattr(layer, name) for layer in (self.weigh, self.line, self.gap))
            return torch.cat((*others, of_each))

        weight = whole("weight")
        told = full_precision(F.conv2d(hidden.to(weight.dtype), weight, whole("bias"))).contiguous()
        logits, line, gap, of_each = told.split((components, size, 1, 2 * components * size), dim=1)
        return logits, line * self.reach, gap, of_each.unflatten(1, (components, 2 * size))

    def _mean(self, centre: Tensor, line: Tensor, place: Tensor, shift: Tensor) -> Tensor:
        # A component moves in units of what is open at its site.
        unit = torch.sqrt(line * line + self.sigma**2)
        return centre + place * line + shift * unit

    def _log_scale(self, line: Tensor, gap: Tensor, spread: Tensor) -> Tensor:
        own = torch.exp(2 * (self.floor + F.softplus(spread)))
        # Bounded, so that no frame, however strange, leads to an infinite one after it.
        return (0.5 * torch.log(own + (gap * line).square())).clamp(max=self.widest)


def _log_weights(logits: Tensor, evidence: Tensor | None) -> Tensor:
    return mixture.floored_log_weights(logits if evidence is None else logits + evidence)
