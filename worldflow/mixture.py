"""Mixtures of diagonal Gaussians at many sites, as one step of a normalizing flow.

At each site (h, w) a vector of d coefficients has the density of K components. As a
density it is the logsumexp; as a sampler it is a closed-form function of noise: a
*selector* picks the component, `eps` places the vector within it. A mixture's conditional
CDFs make it a triangular monotone map (Flow++, arXiv 1902.00275, section 3.1); selector and
`eps` are the form of the same density that is stable in float32.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

WEIGHT_FLOOR = 1e-6  # every component keeps some density, however sure training has been
# A frame has over a thousand sites: what is left of a component that was given up, one draw in some
# hundred of a site, is a blot that stays, now and then (docs/experiments.md, 84).
RARE = 0.005  # components of less weight have a density, but none is drawn
SELECTOR_MARGIN = 2.5e-7  # encode stays this far from an interval's ends, so decode finds it


class Mixture(NamedTuple):
    """K components at each site; float32."""

    log_weights: Tensor  # (N, K, h, w), normalised, each >= log(WEIGHT_FLOOR)
    mean: Tensor  # (N, K, d, h, w)
    log_scale: Tensor  # (N, K, d, h, w)

    def component(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale `(N, d, h, w)` of the components `index` `(N, h, w)`."""
        return chosen(self.mean, index), torch.exp(chosen(self.log_scale, index))


Component = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From component indices `(N, h, w)` to mean and scale `(N, d, h, w)`."""


def floored_log_weights(logits: Tensor) -> Tensor:
    """Log-softmax over dim 1 with every weight >= WEIGHT_FLOOR."""
    components = logits.shape[1]
    weights = torch.softmax(logits, dim=1)
    return torch.log(weights * (1 - components * WEIGHT_FLOOR) + WEIGHT_FLOOR)


def within_log_prob(mixture: Mixture, value: Tensor) -> Tensor:
    """Log-density of `value` `(N, d, h, w)` in each component alone -> `(N, K, h, w)`, nats."""
    z = (value[:, None] - mixture.mean) * torch.exp(-mixture.log_scale)
    inside = -0.5 * z.square() - mixture.log_scale
    return inside.sum(dim=2) - 0.5 * math.log(2 * math.pi) * value.shape[1]


def component_log_prob(mixture: Mixture, value: Tensor) -> Tensor:
    """Joint log-density of component and `value` `(N, d, h, w)` -> `(N, K, h, w)`, nats."""
    return mixture.log_weights + within_log_prob(mixture, value)


def log_prob(mixture: Mixture, value: Tensor) -> Tensor:
    """Log-density of `value` `(N, d, h, w)` at each site -> `(N, h, w)`, nats."""
    return torch.logsumexp(component_log_prob(mixture, value), dim=1)


def squares_about(mixture: Mixture, centre: Tensor) -> Tensor:
    """The expected square of each component, `(N, K, d, h, w)`, from `centre` `(N, d, h, w)`."""
    return (mixture.mean - centre[:, None]).square() + torch.exp(2 * mixture.log_scale)


def expected(log_weights: Tensor, of_each: Tensor) -> Tensor:
    """What `of_each` component `(N, K, d, h, w)` is on average `(N, d, h, w)`."""
    return (torch.exp(log_weights)[:, :, None] * of_each).sum(dim=1)


def decode(
    log_weights: Tensor,
    component: Component,
    eps: Tensor,
    selector: Tensor,
    temperature: Tensor,
    noise_floor: float,
) -> Tensor:
    """Noise -> value: `eps` `(N, d, h, w)`, `selector` `(N, h, w)` -> `(N, d, h, w)`.

    The component is chosen first, so that `component` need not work the others out.
    `temperature` `(N,)` divides the logits and multiplies the noise within a component,
    which never falls below `noise_floor` (the noise that a denoiser expects) unless the
    component itself is narrower.
    """
    mean, scale = component(picked(log_weights, selector, temperature))
    return mean + eps * torch.maximum(scale * _heat(temperature), scale.clamp(max=noise_floor))


def picked(log_weights: Tensor, selector: Tensor, temperature: Tensor) -> Tensor:
    """The component `(N, h, w)` of whose interval Φ(`selector`) is; log-weights `(N, K, h, w)`."""
    below = boundaries(log_weights, temperature)
    return (below <= standard_normal_cdf(selector)[:, None]).sum(dim=1)


def encode(
    mixture: Mixture, value: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Value -> one noise that decodes to it at temperature 1: `eps`, `selector`.

    The component is drawn from its posterior and the selector uniformly inside that
    component's interval, so that noise of a value drawn from the mixture is N(0, 1). The
    map is therefore not unique; `generator` fixes it. Of a component that is never drawn no
    noise can tell: such a value is taken for another's, however far off.
    """
    mixture = mixture._replace(log_weights=drawable(mixture.log_weights))
    draw, place = torch.rand((2, *value[:, 0].shape), generator=generator, device=value.device)
    index = origin(mixture, value, draw)
    eps = (value - chosen(mixture.mean, index)) * torch.exp(-chosen(mixture.log_scale, index))
    return eps, selector_of(mixture.log_weights, index, place)


def selector_of(log_weights: Tensor, index: Tensor, place: Tensor) -> Tensor:
    """The selector `(N, h, w)` that picks component `index`: at `place` of its interval, 0 to 1."""
    weights = torch.softmax(log_weights, dim=1)  # as decode computes them
    upper = torch.cumsum(weights, dim=1).gather(1, index[:, None])[:, 0]
    width = weights.gather(1, index[:, None])[:, 0]
    u = upper - SELECTOR_MARGIN - place * (width - 2 * SELECTOR_MARGIN).clamp(min=0)
    selector: Tensor = torch.special.ndtri(u.clamp(SELECTOR_MARGIN, 1 - SELECTOR_MARGIN))
    return selector


def origin(mixture: Mixture, value: Tensor, draw: Tensor) -> Tensor:
    """The component that `value` came from, by its posterior: `draw` in [0, 1) -> `(N, h, w)`."""
    return drawn_by(torch.softmax(component_log_prob(mixture, value), dim=1), draw)


def drawn_by(weights: Tensor, draw: Tensor) -> Tensor:
    """Which of the `weights` `(N, K, h, w)` a `draw` in [0, 1) falls to: `(N, h, w)`."""
    return (torch.cumsum(weights, dim=1)[:, :-1] <= draw[:, None]).sum(dim=1)


def redraw(mixture: Mixture, value: Tensor, eps: Tensor, selector: Tensor) -> Tensor:
    """Another draw from the component that `value` came from; noise as `decode` takes it."""
    index = origin(mixture, value, standard_normal_cdf(selector))
    mean, scale = mixture.component(index)
    return mean + eps * scale


def boundaries(log_weights: Tensor, temperature: Tensor) -> Tensor:
    """Where one component's interval of selectors ends and the next begins `(N, K-1, h, w)`."""
    weights = torch.softmax(drawable(log_weights) / _heat(temperature), dim=1)
    return torch.cumsum(weights, dim=1)[:, :-1]


def drawable(log_weights: Tensor) -> Tensor:
    """Without the components that are RARE: -inf in their places."""
    return log_weights.masked_fill(log_weights < math.log(RARE), -math.inf)


def _heat(temperature: Tensor) -> Tensor:
    """`(N,)`, never quite zero, as the maps of sites want it."""
    return temperature.clamp(min=1e-3).view(-1, 1, 1, 1)


def standard_normal_cdf(z: Tensor) -> Tensor:
    """Phi(z), by erf alone, so that every engine computes it alike."""
    return 0.5 * (1 + torch.erf(z * math.sqrt(0.5)))


def chosen(values: Tensor, index: Tensor) -> Tensor:
    """`(N, K, d, h, w)` at `index` `(N, h, w)` -> `(N, d, h, w)`."""
    d = values.shape[2]
    return values.gather(1, index[:, None, None].expand(-1, -1, d, -1, -1)).squeeze(1)
