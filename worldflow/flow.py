"""The density of the next frame: a Gaussian base, and the multiscale flow on top of it.

A density is an `nn.Module` with four methods, all exact, given the `Conditions` of a step:

    site_log_probs(y, given) -> the terms (N, h, w) whose sum over maps and sites is log_prob
    log_prob(y, given) -> (N,)
    decode(noise, given, temperature) -> y
    encode(y, given, generator) -> noise

`y` is `(N, 3, H, W)`, `noise` `(N, noise_size)`; each row of noise is N(0, I). Likelihoods are
in nats, in float32.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflow import haar, mixture
from worldflow.mixture import Mixture
from worldflow.trunk import Features, full_precision, zeroed

LEVELS = 3  # 64 -> 32 -> 16 -> 8: at 8x8 one bright pixel still stands 4 sigma out of the noise
SCALE_FLOOR = 0.9  # of sigma: no density is narrower, so none is unbounded


class Conditions(NamedTuple):
    """What a density may know of the next frame."""

    features: Features
    mean: Tensor  # (N, 3, H, W), the base's mean, float32
    log_scale: Tensor  # (N, 3, H, W), the base's log standard deviation, float32


class GaussianBase(nn.Module):
    """Features -> mean and scale of a diagonal Gaussian: a residual on the last frame."""

    def __init__(self, channels: int, sigma: float) -> None:
        super().__init__()
        self.floor = math.log(SCALE_FLOOR * sigma)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.out = zeroed(nn.Conv2d(channels, 24, 1))
        # A scale of about 2 sigma to begin with, so that no change is a catastrophe.
        self.out.bias = nn.Parameter(torch.tensor([0.0, -1.0]).repeat_interleave(12))

    def forward(self, features: Features, last_frame: Tensor) -> Conditions:
        """`last_frame` `(N, 3, H, W)` in [-1, 1]."""
        raw = full_precision(self.out(F.silu(self.conv(features.fine))))
        residual, spread = F.pixel_shuffle(raw, 2).chunk(2, dim=1)
        log_scale = self.floor * (1 - torch.sigmoid(spread))  # within [floor, 0]
        return Conditions(features, last_frame + residual, log_scale)


def gaussian_log_prob(y: Tensor, given: Conditions) -> Tensor:
    """The log-density of each pixel of `y` under the base alone `(N, H, W)`, nats."""
    z = (y - given.mean) * torch.exp(-given.log_scale)
    log_prob = -0.5 * z.square() - given.log_scale - 0.5 * math.log(2 * math.pi)
    return log_prob.sum(dim=1)


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
        self.out = zeroed(nn.Conv2d(channels, components * (1 + 2 * size), 1))
        logits = -torch.arange(components, dtype=torch.float32)
        above = (ladder - self.floor).repeat_interleave(size)
        spread = above + torch.log(-torch.expm1(-above))  # the inverse of softplus
        self.out.bias = nn.Parameter(torch.cat((logits, torch.zeros_like(spread), spread)))

    def forward(self, hidden: Tensor, centre: Tensor) -> Mixture:
        """`hidden` `(N, C, h, w)`, `centre` `(N, d, h, w)`."""
        log_weights, places = self._raw(hidden)
        shift, spread = places.unbind(1)
        reach = torch.exp(self.ladder)[None, :, None, None, None]
        return Mixture(log_weights, *self._placed(shift, spread, reach, centre[:, None]))

    def decode(
        self, hidden: Tensor, centre: Tensor, eps: Tensor, selector: Tensor, temperature: Tensor
    ) -> Tensor:
        """`mixture.decode` of what `forward` gives, but only the chosen components are made."""
        log_weights, places = self._raw(hidden)

        def component(index: Tensor) -> tuple[Tensor, Tensor]:
            where = index.view(-1, 1, 1, 1, *index.shape[1:]).expand(-1, 2, -1, self.size, -1, -1)
            shift, spread = places.gather(2, where).flatten(1, 3).chunk(2, dim=1)
            reach = F.embedding(index, torch.exp(self.ladder)[:, None]).movedim(-1, 1)
            return self._placed(shift, spread, reach, centre)

        return mixture.decode(log_weights, component, eps, selector, temperature, self.sigma)

    def _raw(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Log-weights `(N, K, h, w)`; shifts and spreads `(N, 2, K, d, h, w)`."""
        # Channels last would put the sites' densities in the slowest of orders.
        raw = full_precision(self.out(hidden)).contiguous()
        k, d = self.components, self.size
        logits, places = raw.split((k, 2 * k * d), dim=1)
        return mixture.floored_log_weights(logits), places.unflatten(1, (2, k, d))

    def _placed(
        self, shift: Tensor, spread: Tensor, reach: Tensor, centre: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Means and log-scales, from the layer's own numbers."""
        # A component moves in units of its own rung, so that one step of the optimiser
        # means as much to the far ones as to the near.
        return centre + shift * reach, self.floor + F.softplus(spread)


def regression(gains: Tensor, apart: Tensor) -> Tensor:
    """What `apart` `(N, b, h, w)`, drawn so far and told as a distance from its mean, moves.

    `gains` `(N, a*b, h, w)` is a matrix at each site, as in the conditional mean of a Gaussian:
    `(N, a, h, w)`. A lamp's edges are as strong as its drawn colour says; a network that sees the
    colour squashed would have to learn that product.
    """
    n, count, h, w = apart.shape
    gains = full_precision(gains).contiguous().view(n, -1, count, h, w)
    return (gains * apart[:, None]).sum(dim=2)


class CoarseStep(nn.Module):
    """Draws the 8x8 picture in four interleaved groups of cells, each seeing those before.

    Neighbours are never drawn together, so that two possible places of one object can see
    each other; a mixture for each cell, so that independent choices stay independent.
    """

    GROUPS = ((0, 0), (1, 1), (0, 1), (1, 0))  # offsets of a 2x2 interleaving
    masks: Tensor  # (G, 5, h, w): three of zeros, then 1 at cells drawn before, and to be drawn

    def __init__(
        self, features: int, hidden: int, components: int, sigma: float, grid: int
    ) -> None:
        super().__init__()
        self.sigma = sigma
        self.from_features = nn.Conv2d(features + 3, hidden, 1)
        self.from_drawn = nn.Conv2d(5, hidden, 3, padding=1)
        self.conv1 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.gains = zeroed(nn.Conv2d(hidden, 3 * 27, 1))
        self.head = MixtureHead(hidden, 3, components, sigma, reach=2.0**LEVELS)
        masks = torch.zeros(len(self.GROUPS), 5, grid, grid)
        for index, (y, x) in enumerate(self.GROUPS):
            masks[index + 1 :, 3, y::2, x::2] = 1
            masks[index, 4, y::2, x::2] = 1
        self.register_buffer("masks", masks, persistent=False)

    def _group(self, index: int, drawn: Tensor, context: Tensor, centre: Tensor) -> Mixture:
        """The mixtures of group `index`, given `drawn` (only the groups before it count)."""
        h, centre = self._conditioned(index, drawn, context, centre)
        mixtures: Mixture = self.head(self.cells(h, index), self.cells(centre, index))
        return mixtures

    def _conditioned(
        self, index: int, drawn: Tensor, context: Tensor, centre: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the head needs for group `index`, on the grid of all cells."""
        masks = self.masks[index : index + 1]
        apart = (drawn - centre) * masks[:, 3:4]
        seen = F.pad(torch.asinh(apart / self.sigma), (0, 0, 0, 0, 0, 2)) + masks
        h = F.silu(context + self.from_drawn(seen))
        h = F.silu(self.conv2(F.silu(self.conv1(h))))
        around = F.unfold(apart, 3, padding=1).unflatten(2, apart.shape[2:])
        return h, centre + regression(self.gains(h), around)

    def cells(self, values: Tensor, index: int) -> Tensor:
        """Group `index` of a grid `(..., h, w)` -> `(..., h/2, w/2)`."""
        y, x = self.GROUPS[index]
        return values[..., y::2, x::2]

    def _context(self, features: Tensor, centre: Tensor) -> Tensor:
        return self.from_features(torch.cat((features, centre), dim=1))  # type: ignore[no-any-return]

    def log_prob(self, value: Tensor, features: Tensor, centre: Tensor) -> Tensor:
        """The log-density of each cell `(N, h, w)`."""
        context = self._context(features, centre)
        sites = torch.zeros_like(value[:, 0])
        for index, (y, x) in enumerate(self.GROUPS):
            cells = self._group(index, value, context, centre)
            sites[:, y::2, x::2] = mixture.log_prob(cells, self.cells(value, index))
        return sites

    def decode(
        self, eps: Tensor, selector: Tensor, features: Tensor, centre: Tensor, temperature: Tensor
    ) -> Tensor:
        context = self._context(features, centre)
        drawn = centre  # of which nothing is seen or kept
        for index in range(len(self.GROUPS)):
            # All cells are drawn and those of the group kept: exported, that is far cheaper
            # than to take cells out and to put them back.
            h, moved = self._conditioned(index, drawn, context, centre)
            value = self.head.decode(h, moved, eps, selector, temperature)
            drawn = torch.where(self.masks[index, 4] > 0, value, drawn)
        return drawn

    def encode(
        self, value: Tensor, features: Tensor, centre: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        context = self._context(features, centre)
        eps, selector = torch.zeros_like(value), torch.zeros_like(value[:, 0])
        for index, (y, x) in enumerate(self.GROUPS):
            cells = self._group(index, value, context, centre)
            part = mixture.encode(cells, self.cells(value, index), generator)
            eps[:, :, y::2, x::2], selector[:, y::2, x::2] = part
        return eps, selector


class DetailStep(nn.Module):
    """The mixture of one scale's details: all cells at once, three bands of a cell together."""

    def __init__(
        self, features: int, hidden: int, components: int, sigma: float, reach: float
    ) -> None:
        super().__init__()
        self.sigma = sigma
        self.conv1 = nn.Conv2d(features + 15, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.gains = zeroed(nn.Conv2d(hidden, 9 * 3, 1))
        self.head = MixtureHead(hidden, 9, components, sigma, reach)

    def forward(
        self, features: Tensor, coarser: Tensor, coarser_mean: Tensor, detail_mean: Tensor
    ) -> Mixture:
        """All on the grid of the coarser picture; `coarser` `(N, 3, h, w)` is drawn already."""
        mixtures: Mixture = self.head(
            *self.conditioned(features, coarser, coarser_mean, detail_mean)
        )
        return mixtures

    def conditioned(
        self, features: Tensor, coarser: Tensor, coarser_mean: Tensor, detail_mean: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the head needs."""
        apart = coarser - coarser_mean
        surprise = torch.asinh(apart / self.sigma)
        h = torch.cat((features, surprise, coarser_mean, detail_mean), dim=1)
        h = F.silu(self.conv2(F.silu(self.conv1(h))))
        return h, detail_mean + regression(self.gains(h), apart)


class MultiscaleFlow(nn.Module):
    """An orthonormal Haar pyramid drawn coarse to fine (docs/model.md).

    Ancestors: parallel multiscale autoregression (arXiv 1703.03664), Wavelet Flow
    (2010.13821), mixture CDFs (Flow++, 1902.00275).
    """

    def __init__(
        self,
        *,
        size: int,
        features: tuple[int, int, int],
        hidden: int,
        components: int,
        sigma: float,
    ) -> None:
        super().__init__()
        fine, middle, coarse = features
        self.coarse = CoarseStep(coarse, 2 * hidden, components, sigma, size // 2**LEVELS)
        self.details = nn.ModuleList(
            DetailStep(channels, hidden, components, sigma, reach=2.0**level)
            for channels, level in ((coarse, 3), (middle, 2), (fine, 1))
        )
        self.grids = [size // 2**level for level in (LEVELS, LEVELS, 2, 1)]  # of each site map
        self.depths = [3, 9, 9, 9]  # coefficients of a site
        self.eps_size = 3 * size * size
        self.noise_size = self.eps_size + sum(grid * grid for grid in self.grids)

    def log_prob(self, y: Tensor, given: Conditions) -> Tensor:
        sites = [part.sum(dim=(1, 2)) for part in self.site_log_probs(y, given)]
        return torch.stack(sites).sum(dim=0)

    def site_log_probs(self, y: Tensor, given: Conditions) -> list[Tensor]:
        pictures, details = haar.pyramid(y, LEVELS)
        means, detail_means = haar.pyramid(given.mean.detach(), LEVELS)
        sites = [self.coarse.log_prob(pictures[0], given.features.coarse, means[0])]
        for i, step in enumerate(self.details):
            parts = step(given.features[2 - i], pictures[i], means[i], detail_means[i])
            sites.append(mixture.log_prob(parts, details[i]))
        return sites

    def decode(self, noise: Tensor, given: Conditions, temperature: Tensor) -> Tensor:
        eps, picks = self.split_noise(noise)
        means, detail_means = haar.pyramid(given.mean, LEVELS)
        picture = self.coarse.decode(eps[0], picks[0], given.features.coarse, means[0], temperature)
        for i, step in enumerate(self.details):
            assert isinstance(step, DetailStep)
            h, moved = step.conditioned(given.features[2 - i], picture, means[i], detail_means[i])
            detail = step.head.decode(h, moved, eps[i + 1], picks[i + 1], temperature)
            picture = haar.synthesise(picture, detail)
        return picture

    def encode(self, y: Tensor, given: Conditions, generator: torch.Generator | None) -> Tensor:
        (picture, *_), details = haar.pyramid(y, LEVELS)
        means, detail_means = haar.pyramid(given.mean, LEVELS)
        parts = [self.coarse.encode(picture, given.features.coarse, means[0], generator)]
        for i, step in enumerate(self.details):
            sites = step(given.features[2 - i], picture, means[i], detail_means[i])
            parts.append(mixture.encode(sites, details[i], generator))
            picture = haar.synthesise(picture, details[i])  # to the bit what decode will see
        eps = [eps.flatten(1) for eps, _ in parts]
        return torch.cat(eps + [selector.flatten(1) for _, selector in parts], dim=1)

    def split_noise(self, noise: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """`(N, noise_size)` -> eps `(N, d, h, w)` and selector `(N, h, w)` of each step."""
        eps_sizes = [d * g * g for d, g in zip(self.depths, self.grids, strict=True)]
        pieces = noise.split(eps_sizes + [g * g for g in self.grids], dim=1)
        steps = range(len(self.grids))
        eps = [pieces[i].view(-1, self.depths[i], self.grids[i], self.grids[i]) for i in steps]
        return eps, [
            pieces[len(self.grids) + i].view(-1, self.grids[i], self.grids[i]) for i in steps
        ]
