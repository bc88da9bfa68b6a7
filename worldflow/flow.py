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
from worldflow.mixture_head import SCALE_FLOOR, MixtureHead
from worldflow.trunk import Features, full_precision, zeroed

LEVELS = 3  # 64 -> 32 -> 16 -> 8: at 8x8 one bright pixel still stands 4 sigma out of the noise
FAVOUR = 6.0  # log-odds of the newest frame against another picture, before anything is learned
BEND = 100.0  # squared distances in units of the noise beyond which mismatch grows slowly
OTHER = 4.0  # the same of colours that are another: how far does not matter


class Conditions(NamedTuple):
    """What a density may know of the next frame."""

    features: Features
    mean: Tensor  # (N, 3, H, W), the base's mean, float32
    log_scale: Tensor  # (N, 3, H, W), the base's log standard deviation, float32
    pictures: Tensor  # (N, K*3, H/2, W/2), K candidate frames at half size, less the mean
    details: Tensor  # (N, K*9, H/2, W/2), and the Haar details that make them whole


class GaussianBase(nn.Module):
    """Features -> mean and scale of a diagonal Gaussian.

    Each pixel of the mean is recalled: from one of the last L frames, or from one of a few
    `backdrops`, pictures that are learned, as far as weights that sum to one say; and put right
    by a residual. So what a moving thing uncovers is as it was before, to the bit, and what stands
    still is drawn in the colours that the backdrops keep, however often it was drawn before.

    Beside them K candidate frames, among which the flow chooses at every place and scale.
    """

    def __init__(
        self,
        channels: int,
        history: int,
        backdrops: int,
        candidates: int,
        sigma: float,
        size: int,
    ) -> None:
        super().__init__()
        self.floor, self.sigma = math.log(SCALE_FLOOR * sigma), sigma
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.backdrops = nn.Parameter(torch.zeros(backdrops, 3, size, size))
        self.likeness = nn.Parameter(torch.zeros(()))
        self.recall = zeroed(nn.Conv2d(channels, 4 * (history + backdrops), 1))
        favour = torch.zeros(history + backdrops)
        favour[history - 1] = FAVOUR
        self.recall.bias = nn.Parameter(favour.repeat_interleave(4))
        self.out = zeroed(nn.Conv2d(channels, 24, 1))
        # A scale of about 2 sigma to begin with, so that no change is a catastrophe.
        self.out.bias = nn.Parameter(torch.tensor([0.0, -1.0]).repeat_interleave(12))
        self.pictures = zeroed(nn.Conv2d(channels, 3 * candidates, 1))
        self.details = zeroed(nn.Conv2d(channels, 9 * candidates, 1))

    def forward(self, features: Features, past: Tensor) -> Conditions:
        """`past` `(N, L, 3, H, W)`, the last frames in [-1, 1], newest last."""
        h = F.silu(self.conv(features.fine))
        recalled = self._recalled(F.pixel_shuffle(full_precision(self.recall(h)), 2), past)
        raw = full_precision(self.out(h))
        residual, spread = F.pixel_shuffle(raw, 2).chunk(2, dim=1)
        log_scale = self.floor * (1 - torch.sigmoid(spread))  # within [floor, 0]
        return Conditions(
            features,
            mean=recalled + residual,
            log_scale=log_scale,
            pictures=full_precision(self.pictures(h)),
            details=full_precision(self.details(h)),
        )

    def _recalled(self, logits: Tensor, past: Tensor) -> Tensor:
        """`logits` `(N, L + B, H, W)` -> each pixel as some of the pictures have it.

        A backdrop is the likelier the nearer its colour is to that of the newest frame.
        """
        if len(self.backdrops) == 0:
            return (torch.softmax(logits, dim=1)[:, :, None] * past).sum(dim=1)
        length, backdrops = past.shape[1], self.backdrops[None]
        unlike = F.softplus(self.likeness) * mismatch(past[:, -1], backdrops, self.sigma, OTHER)
        logits = torch.cat((logits[:, :length], logits[:, length:] - unlike), dim=1)
        frames, pictures = torch.softmax(logits, dim=1)[:, :, None].tensor_split([length], dim=1)
        return (frames * past).sum(dim=1) + (pictures * backdrops).sum(dim=1)


def gaussian_log_prob(y: Tensor, given: Conditions) -> Tensor:
    """The log-density of each pixel of `y` under the base alone `(N, H, W)`, nats."""
    z = (y - given.mean) * torch.exp(-given.log_scale)
    log_prob = -0.5 * z.square() - given.log_scale - 0.5 * math.log(2 * math.pi)
    return log_prob.sum(dim=1)


class Scale(NamedTuple):
    """The K candidate frames at one scale of the pyramid."""

    pictures: Tensor  # (N, K, 3, h, w)
    details: Tensor  # (N, K, 9, h, w)


def candidate_scales(given: Conditions) -> list[Scale]:
    """The candidates' Haar pyramids, coarse to fine."""
    means = haar.pyramid(given.mean.detach(), LEVELS)
    k = given.pictures.shape[1] // 3
    own = haar.pyramid(given.pictures, LEVELS - 1)
    pictures = [part.unflatten(1, (k, 3)) for part in (*own.pictures, given.pictures)]
    # The pyramid has each band of all candidates together.
    details = [part.unflatten(1, (3, k, 3)).transpose(1, 2).flatten(2, 3) for part in own.details]
    details.append(given.details.unflatten(1, (k, 9)))
    return [
        Scale(picture + mean[:, None], detail + detail_mean[:, None])
        for picture, mean, detail, detail_mean in zip(
            pictures, means.pictures, details, means.details, strict=True
        )
    ]


def mismatch(drawn: Tensor, pictures: Tensor, sigma: float, bend: float = BEND) -> Tensor:
    """How far `drawn` `(N, 3, h, w)` is from each of `pictures` `(N, K, 3, h, w)`: `(N, K, h, w)`.

    The squared distance in units of the noise, bent where it is large, so that candidates that
    are not yet learned well are told apart, too.
    """
    distance = ((drawn[:, None] - pictures) / sigma).square().sum(dim=2)
    return bend * torch.log1p(distance / bend)


class CoarseStep(nn.Module):
    """Draws the 8x8 picture in four interleaved groups of cells, each seeing those before.

    Neighbours are never drawn together, so that two possible places of one object can see
    each other; a mixture for each cell, so that independent choices stay independent. The
    components of a cell are the candidate frames, and a candidate that its neighbours have
    been drawn from is the likelier one, as far as the network finds that they belong together.
    """

    GROUPS = ((0, 0), (1, 1), (0, 1), (1, 0))  # offsets of a 2x2 interleaving
    masks: Tensor  # (G, 5, h, w): three of zeros, then 1 at cells drawn before, and to be drawn

    def __init__(
        self, features: int, hidden: int, candidates: int, sigma: float, grid: int
    ) -> None:
        super().__init__()
        self.sigma = sigma
        self.from_features = nn.Conv2d(features + 3 + 3 * candidates, hidden, 1)
        self.from_drawn = nn.Conv2d(5 + candidates, hidden, 3, padding=1)
        self.conv1 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.bond = zeroed(nn.Conv2d(hidden, 1, 1))
        self.head = MixtureHead(hidden, 3, candidates, sigma, reach=2.0**LEVELS, free=False)
        masks = torch.zeros(len(self.GROUPS), 5, grid, grid)
        for index, (y, x) in enumerate(self.GROUPS):
            masks[index + 1 :, 3, y::2, x::2] = 1
            masks[index, 4, y::2, x::2] = 1
        self.register_buffer("masks", masks, persistent=False)

    def _group(self, index: int, drawn: Tensor, context: Tensor, pictures: Tensor) -> Mixture:
        """The mixtures of group `index`, given `drawn` (only the groups before it count)."""
        conditioned = self._conditioned(index, drawn, context, pictures)
        mixtures: Mixture = self.head(*(self.cells(values, index) for values in conditioned))
        return mixtures

    def _conditioned(
        self, index: int, drawn: Tensor, context: Tensor, pictures: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the head needs for group `index`, on the grid of all cells."""
        masks = self.masks[index : index + 1]
        apart = asinh_units(drawn - pictures[:, 0], self.sigma)
        far = mismatch(drawn, pictures, self.sigma) * masks[:, 3:4]
        seen = F.pad(apart * masks[:, 3:4], (0, 0, 0, 0, 0, 2)) + masks
        seen = torch.cat((seen, far / BEND), dim=1)
        h = F.silu(context + self.from_drawn(seen))
        h = F.silu(self.conv2(F.silu(self.conv1(h))))
        bond = F.softplus(full_precision(self.bond(h)) - 2)
        return h, pictures, -9 * bond * F.avg_pool2d(far, 3, stride=1, padding=1)

    def cells(self, values: Tensor, index: int) -> Tensor:
        """Group `index` of a grid `(..., h, w)` -> `(..., h/2, w/2)`."""
        y, x = self.GROUPS[index]
        return values[..., y::2, x::2]

    def _context(self, features: Tensor, pictures: Tensor) -> Tensor:
        first = pictures[:, 0]
        apart = asinh_units(pictures - first[:, None], self.sigma).flatten(1, 2)
        return self.from_features(torch.cat((features, first, apart), dim=1))  # type: ignore[no-any-return]

    def log_prob(self, value: Tensor, features: Tensor, pictures: Tensor) -> Tensor:
        """The log-density of each cell `(N, h, w)`."""
        context = self._context(features, pictures)
        sites = torch.zeros_like(value[:, 0])
        for index, (y, x) in enumerate(self.GROUPS):
            cells = self._group(index, value, context, pictures)
            sites[:, y::2, x::2] = mixture.log_prob(cells, self.cells(value, index))
        return sites

    def decode(
        self, eps: Tensor, selector: Tensor, features: Tensor, pictures: Tensor, temperature: Tensor
    ) -> Tensor:
        context = self._context(features, pictures)
        drawn = pictures[:, 0]  # of which nothing is seen or kept
        for index in range(len(self.GROUPS)):
            # All cells are drawn and those of the group kept: exported, that is far cheaper
            # than to take cells out and to put them back.
            conditioned = self._conditioned(index, drawn, context, pictures)
            value = self.head.decode(*conditioned, eps, selector, temperature)
            drawn = torch.where(self.masks[index, 4] > 0, value, drawn)
        return drawn

    def encode(
        self, value: Tensor, features: Tensor, pictures: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        context = self._context(features, pictures)
        eps, selector, drawn = (
            torch.zeros_like(value),
            torch.zeros_like(value[:, 0]),
            pictures[:, 0],
        )
        for index in range(len(self.GROUPS)):
            conditioned = self._conditioned(index, drawn, context, pictures)
            told = self.head.encode(*conditioned, value, generator)
            kept = self.masks[index, 4] > 0
            eps, selector, drawn = (
                torch.where(kept, new, old)
                for new, old in zip(told, (eps, selector, drawn), strict=True)
            )
        return eps, selector, drawn


def asinh_units(apart: Tensor, sigma: float) -> Tensor:
    """A distance as a network wants to see it: asinh of it, in units of the noise.

    Written out: `torch.asinh` takes four times as long on a CPU, and ONNX Runtime has none on GPUs.
    """
    units = apart / sigma
    size = units.abs()
    return units.sign() * torch.log(size + torch.sqrt(size.square() + 1))


class DetailStep(nn.Module):
    """The mixture of one scale's details: all cells at once, three bands of a cell together.

    The coarser picture, drawn already, tells which of the candidate frames each cell is of.
    Where it may not tell enough yet the components are the candidates (`choose`); at the
    finest scale they lie around the candidates' mean, weighted by how well each of them fits.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        candidates: int,
        components: int,
        sigma: float,
        reach: float,
    ) -> None:
        super().__init__()
        self.sigma, self.choose = sigma, components == candidates
        self.prior = zeroed(nn.Conv2d(features, candidates, 1))
        self.sharpness = nn.Parameter(torch.zeros(()))
        self.conv1 = nn.Conv2d(features + 15, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.head = MixtureHead(hidden, 9, components, sigma, reach, free=not self.choose)

    def forward(self, features: Tensor, coarser: Tensor, scale: Scale) -> Mixture:
        """All on the grid of the coarser picture; `coarser` `(N, 3, h, w)` is drawn already."""
        mixtures: Mixture = self.head(*self.conditioned(features, coarser, scale))
        return mixtures

    def conditioned(
        self, features: Tensor, coarser: Tensor, scale: Scale
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the head needs: its input, centres and prior logits."""
        far = F.softplus(self.sharpness) * mismatch(coarser, scale.pictures, self.sigma)
        fit = torch.log_softmax(full_precision(self.prior(features)) - far, dim=1)
        weights = torch.exp(fit)[:, :, None]
        picture, detail = ((weights * values).sum(dim=1) for values in scale)
        surprise = asinh_units(coarser - picture, self.sigma)
        h = torch.cat((features, surprise, picture, detail), dim=1)
        h = F.silu(self.conv2(F.silu(self.conv1(h))))
        return (h, scale.details, fit) if self.choose else (h, detail[:, None], None)


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
        hidden: tuple[int, int, int, int],
        candidates: int,
        components: int,
        sigma: float,
    ) -> None:
        super().__init__()
        fine, middle, coarse = features
        self.coarse = CoarseStep(coarse, hidden[0], candidates, sigma, size // 2**LEVELS)
        self.details = nn.ModuleList(
            DetailStep(channels, width, candidates, count, sigma, reach=2.0**level)
            for channels, width, count, level in (
                (coarse, hidden[1], candidates, 3),
                (middle, hidden[2], candidates, 2),
                (fine, hidden[3], components, 1),
            )
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
        scales = candidate_scales(given)
        sites = [self.coarse.log_prob(pictures[0], given.features.coarse, scales[0].pictures)]
        for i, step in enumerate(self.details):
            parts = step(given.features[2 - i], pictures[i], scales[i])
            sites.append(mixture.log_prob(parts, details[i]))
        return sites

    def decode(self, noise: Tensor, given: Conditions, temperature: Tensor) -> Tensor:
        eps, picks = self.split_noise(noise)
        scales = candidate_scales(given)
        picture = self.coarse.decode(
            eps[0], picks[0], given.features.coarse, scales[0].pictures, temperature
        )
        for i, step in enumerate(self.details):
            assert isinstance(step, DetailStep)
            conditioned = step.conditioned(given.features[2 - i], picture, scales[i])
            detail = step.head.decode(*conditioned, eps[i + 1], picks[i + 1], temperature)
            picture = haar.synthesise(picture, detail)
        return picture

    def encode(self, y: Tensor, given: Conditions, generator: torch.Generator | None) -> Tensor:
        (picture, *_), details = haar.pyramid(y, LEVELS)
        scales = candidate_scales(given)
        *part, picture = self.coarse.encode(
            picture, given.features.coarse, scales[0].pictures, generator
        )
        parts = [part]
        for i, step in enumerate(self.details):
            assert isinstance(step, DetailStep)
            conditioned = step.conditioned(given.features[2 - i], picture, scales[i])
            *part, detail = step.head.encode(*conditioned, details[i], generator)
            parts.append(part)
            picture = haar.synthesise(picture, detail)
        return torch.cat([part[j].flatten(1) for j in (0, 1) for part in parts], dim=1)

    def split_noise(self, noise: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """`(N, noise_size)` -> eps `(N, d, h, w)` and selector `(N, h, w)` of each step."""
        eps_sizes = [d * g * g for d, g in zip(self.depths, self.grids, strict=True)]
        pieces = noise.split(eps_sizes + [g * g for g in self.grids], dim=1)
        steps = range(len(self.grids))
        eps = [pieces[i].view(-1, self.depths[i], self.grids[i], self.grids[i]) for i in steps]
        return eps, [
            pieces[len(self.grids) + i].view(-1, self.grids[i], self.grids[i]) for i in steps
        ]
