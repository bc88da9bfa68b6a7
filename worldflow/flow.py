"""The density of the next frame: the multiscale flow, on top of the Gaussian base.

A density is an `nn.Module` with three methods, all exact, given the `Conditions` of a step:

    log_prob(y, given) -> (N,)
    decode(noise, given, temperature) -> y
    encode(y, given, generator) -> noise

`y` is `(N, 3, H, W)`, `noise` `(N, noise_size)`; each row of noise is N(0, I). Likelihoods are
in nats, in float32.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflow import haar, mixture
from worldflow.base import Conditions
from worldflow.evidence import Evidence
from worldflow.mixture import Mixture
from worldflow.mixture_head import MixtureHead, Told
from worldflow.trunk import full_precision, zeroed

LEVELS = 3  # 64 -> 32 -> 16 -> 8: at 8x8 one bright pixel still stands 4 sigma out of the noise


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


def _sites(parts: Mixture, centre: Tensor, value: Tensor) -> Sites:
    with torch.no_grad():
        variance = mixture.variance_about(parts, centre)
    return Sites(mixture.log_prob(parts, value), centre, variance)


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
        self.sigma, self.reach = sigma, 2.0**LEVELS
        self.from_features = nn.Conv2d(features + 3, hidden, 1)
        self.from_drawn = nn.Conv2d(5, hidden, 3, padding=1)
        self.conv1 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.rendering = Rendering(hidden, 3, self.reach)
        self.head = MixtureHead(hidden, 3, components, sigma, self.reach)
        masks = torch.zeros(len(self.GROUPS), 5, grid, grid)
        for index, (y, x) in enumerate(self.GROUPS):
            masks[index + 1 :, 3, y::2, x::2] = 1
            masks[index, 4, y::2, x::2] = 1
        self.register_buffer("masks", masks, persistent=False)

    def group(self, index: int, drawn: Tensor, context: Tensor, mean: Tensor) -> Told:
        """What the head needs for group `index`, given `drawn` (only groups before it count).

        On the grid of all cells; `mean` `(N, 3, h, w)` is the base's coarse picture.
        """
        masks = self.masks[index : index + 1]
        # Before the first group nothing is drawn: exported, what is the same for all is no work.
        apart = (drawn - mean) * masks[:, 3:4] if index else torch.zeros_like(mean[:1])
        return self._told(masks, apart, context, mean)

    def _told(self, masks: Tensor, apart: Tensor, context: Tensor, mean: Tensor) -> Told:
        seen = F.pad(asinh_units(apart, self.sigma), (0, 0, 0, 0, 0, 2)) + masks
        h = F.silu(context + self.from_drawn(seen))
        h = F.silu(self.conv2(F.silu(self.conv1(h))))
        return Told(h, mean + self.rendering(h, apart))

    def cells(self, values: Tensor, index: int) -> Tensor:
        """Group `index` of a grid `(..., h, w)` -> `(..., h/2, w/2)`."""
        y, x = self.GROUPS[index]
        return values[..., y::2, x::2]

    def context(self, features: Tensor, mean: Tensor) -> Tensor:
        """What all groups are told."""
        return self.from_features(torch.cat((features, mean / self.reach), dim=1))  # type: ignore[no-any-return]

    def sites(self, value: Tensor, features: Tensor, mean: Tensor) -> Sites:
        context, groups = self.context(features, mean), len(self.GROUPS)
        # All is known, so all groups at once: a GPU's time goes into the number of its kernels.
        rows = value.shape[0]  # and not `len`, of which an export would make a constant
        masks = self.masks[:, None].expand(-1, rows, -1, -1, -1).flatten(0, 1)
        apart, context, mean = (
            each.expand(groups, -1, -1, -1, -1).flatten(0, 1)
            for each in (value - mean, context, mean)
        )
        on_grid = self._told(masks, apart * masks[:, 3:4], context, mean)
        hidden, centre = (
            torch.cat([self.cells(group, i) for i, group in enumerate(self._by_group(each))])
            for each in (on_grid.hidden, on_grid.centre)
        )
        cells = torch.cat([self.cells(value, index) for index in range(groups)])
        found = _sites(self.head(Told(hidden, centre)), centre, cells)
        log_prob, *others = (self._grid(part) for part in (found[0][:, None], *found[1:]))
        return Sites(log_prob[:, 0], *others)

    def _by_group(self, rows: Tensor) -> list[Tensor]:
        """`(G*N, ...)` -> G times `(N, ...)`."""
        return list(rows.unflatten(0, (len(self.GROUPS), -1)).unbind())

    def _grid(self, parts: Tensor) -> Tensor:
        """The cells of all groups `(G*N, d, h/2, w/2)`, one group after the other, as one grid."""
        by_group = self._by_group(parts)
        raster = [by_group[self.GROUPS.index((y, x))] for y in (0, 1) for x in (0, 1)]
        return F.pixel_shuffle(torch.stack(raster, dim=2).flatten(1, 2), 2)

    def decode(
        self, eps: Tensor, selector: Tensor, features: Tensor, mean: Tensor, temperature: Tensor
    ) -> Tensor:
        context = self.context(features, mean)
        drawn = mean  # of which nothing is seen or kept
        for index in range(len(self.GROUPS)):
            # All cells are drawn and those of the group kept: exported, that is far cheaper
            # than to take cells out and to put them back.
            told = self.group(index, drawn, context, mean)
            value = self.head.decode(told, eps, selector, temperature)
            drawn = torch.where(self.masks[index, 4] > 0, value, drawn)
        return drawn

    def encode(
        self,
        value: Tensor,
        features: Tensor,
        mean: Tensor,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        context = self.context(features, mean)
        eps, selector, drawn = torch.zeros_like(value), torch.zeros_like(value[:, 0]), mean
        for index in range(len(self.GROUPS)):
            told = self.group(index, drawn, context, mean)
            found = self.head.encode(told, value, generator)
            kept = self.masks[index, 4] > 0
            eps, selector, drawn = (
                torch.where(kept, new, old)
                for new, old in zip(found, (eps, selector, drawn), strict=True)
            )
        return eps, selector, drawn

    def redraw(
        self, value: Tensor, eps: Tensor, selector: Tensor, features: Tensor, mean: Tensor
    ) -> Tensor:
        context, drawn = self.context(features, mean), mean
        for index in range(len(self.GROUPS)):
            told = self.group(index, drawn, context, mean)
            again = mixture.redraw(self.head(told), value, eps, selector)
            drawn = torch.where(self.masks[index, 4] > 0, again, drawn)
        return drawn


class Further(nn.Module):
    """Two more layers, through half the channels, that begin as nothing."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(hidden, hidden // 2, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(hidden // 2, hidden, 3, padding=1))

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.conv2(F.silu(self.conv1(hidden)))  # type: ignore[no-any-return]


class DetailStep(nn.Module):
    """The mixture of one scale's details: all cells at once, three bands of a cell together.

    Mostly the coarser picture, drawn already, tells what they are: then they are rendered from it.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        components: int,
        sigma: float,
        reach: float,
        further: int = 0,
        evidence: bool = False,
    ) -> None:
        super().__init__()
        self.sigma, self.reach = sigma, reach
        self.conv1 = nn.Conv2d(features + 15, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.further = nn.Sequential(*(Further(hidden) for _ in range(further)))
        self.rendering = Rendering(hidden, 9, reach)
        self.evidence = Evidence(hidden, components, sigma, reach) if evidence else None
        self.head = MixtureHead(hidden, 9, components, sigma, reach)

    def conditioned(self, features: Tensor, coarser: Tensor, mean: Tensor, detail: Tensor) -> Told:
        """What the head needs, all on the grid of the coarser picture `(N, 3, h, w)`.

        `mean` and `detail` `(N, 9, h, w)` are the base's.
        """
        apart = coarser - mean
        h = torch.cat((features, asinh_units(apart, self.sigma), mean / self.reach, detail), dim=1)
        h = self.further(F.silu(self.conv2(F.silu(self.conv1(h)))))
        evidence = self.evidence(h, apart) if self.evidence else None
        return Told(h, detail + self.rendering(h, apart), evidence)

    def sites(self, value: Tensor, *known: Tensor) -> Sites:
        """Of details `(N, 9, h, w)`; `known` as `conditioned` has it."""
        told = self.conditioned(*known)
        return _sites(self.head(told), told.centre, value)


def _known(
    index: int, coarser: Tensor, given: Conditions, means: haar.Pyramid
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the detail step `index` is conditioned on; `means` is the pyramid of the base's mean."""
    return given.features[2 - index], coarser, means.pictures[index], means.details[index]


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
        components: tuple[int, int, int, int],
        sigma: float,
        further: int = 0,
        evidence: bool = False,
    ) -> None:
        super().__init__()
        fine, middle, coarse = features
        self.coarse = CoarseStep(coarse, hidden[0], components[0], sigma, size // 2**LEVELS)
        self.details = nn.ModuleList(
            DetailStep(
                channels,
                hidden[i],
                components[i],
                sigma,
                reach=2.0 ** (LEVELS + 1 - i),
                further=further if i == 1 else 0,
                evidence=evidence and i == 1,
            )
            for i, channels in ((1, coarse), (2, middle), (3, fine))
        )
        self.grids = [size // 2**level for level in (LEVELS, LEVELS, 2, 1)]  # of each site map
        self.depths = [3, 9, 9, 9]  # coefficients of a site
        self.eps_size = 3 * size * size
        self.noise_size = self.eps_size + sum(grid * grid for grid in self.grids)

    def log_prob(self, y: Tensor, given: Conditions) -> Tensor:
        sites = [step.log_prob.sum(dim=(1, 2)) for step in self.sites(y, given)]
        return torch.stack(sites).sum(dim=0)

    def sites(self, y: Tensor, given: Conditions) -> list[Sites]:
        """Of each step, coarse to fine; all log_probs of a row together are its `log_prob`."""
        pictures, details = haar.pyramid(y, LEVELS)
        means = haar.pyramid(given.mean.detach(), LEVELS)
        sites = [self.coarse.sites(pictures[0], given.features.coarse, means.pictures[0])]
        for i, step in enumerate(self.details):
            assert isinstance(step, DetailStep)
            sites.append(step.sites(details[i], *_known(i, pictures[i], given, means)))
        return sites

    def choosing(self) -> tuple[CoarseStep, DetailStep]:
        """The steps that draw the picture of a quarter of the size, by which all is decided."""
        first = self.details[0]
        assert isinstance(first, DetailStep)
        return self.coarse, first

    def choosing_sites(self, y: Tensor, features: Tensor, mean: Tensor) -> list[Sites]:
        """Of these two, as `sites` has them.

        Args:
            y: that picture of the noised frame `(N, 3, H/4, W/4)`.
            features: the trunk's coarse ones.
            mean: that picture of the base's mean.
        """
        coarse, first = self.choosing()
        picture, detail = haar.analyse(y)
        of_mean, mean_detail = haar.analyse(mean)
        return [
            coarse.sites(picture, features, of_mean),
            first.sites(detail, features, picture, of_mean, mean_detail),
        ]

    def choosing_draw(self, noise: Tensor, features: Tensor, mean: Tensor) -> Tensor:
        """What these draw of `noise` `(N, noise_size)`, as `decode` would; else as above."""
        coarse, first = self.choosing()
        eps, picks = self.split_noise(noise)
        warm = torch.ones_like(noise[:, 0])
        of_mean, mean_detail = haar.analyse(mean)
        picture = coarse.decode(eps[0], picks[0], features, of_mean, warm)
        told = first.conditioned(features, picture, of_mean, mean_detail)
        return haar.synthesise(picture, first.head.decode(told, eps[1], picks[1], warm))

    def decode(self, noise: Tensor, given: Conditions, temperature: Tensor) -> Tensor:
        eps, picks = self.split_noise(noise)
        means = haar.pyramid(given.mean, LEVELS)
        picture = self.coarse.decode(
            eps[0], picks[0], given.features.coarse, means.pictures[0], temperature
        )
        for i, step in enumerate(self.details):
            assert isinstance(step, DetailStep)
            told = step.conditioned(*_known(i, picture, given, means))
            detail = step.head.decode(told, eps[i + 1], picks[i + 1], temperature)
            picture = haar.synthesise(picture, detail)
        return picture

    def encode(self, y: Tensor, given: Conditions, generator: torch.Generator | None) -> Tensor:
        (picture, *_), details = haar.pyramid(y, LEVELS)
        means = haar.pyramid(given.mean, LEVELS)
        *part, picture = self.coarse.encode(
            picture, given.features.coarse, means.pictures[0], generator
        )
        parts = [part]
        for i, step in enumerate(self.details):
            assert isinstance(step, DetailStep)
            told = step.conditioned(*_known(i, picture, given, means))
            *part, detail = step.head.encode(told, details[i], generator)
            parts.append(part)
            picture = haar.synthesise(picture, detail)
        return torch.cat([part[j].flatten(1) for j in (0, 1) for part in parts], dim=1)

    def redraw(self, y: Tensor, given: Conditions, noise: Tensor) -> Tensor:
        """Another draw of the future that `y` shows: its components, with `noise` of their own."""
        eps, picks = self.split_noise(noise)
        (picture, *_), details = haar.pyramid(y, LEVELS)
        means = haar.pyramid(given.mean, LEVELS)
        picture = self.coarse.redraw(
            picture, eps[0], picks[0], given.features.coarse, means.pictures[0]
        )
        for i, step in enumerate(self.details):
            assert isinstance(step, DetailStep)
            parts = step.head(step.conditioned(*_known(i, picture, given, means)))
            detail = mixture.redraw(parts, details[i], eps[i + 1], picks[i + 1])
            picture = haar.synthesise(picture, detail)
        return picture

    def split_noise(self, noise: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """`(N, noise_size)` -> eps `(N, d, h, w)` and selector `(N, h, w)` of each step."""
        eps_sizes = [d * g * g for d, g in zip(self.depths, self.grids, strict=True)]
        pieces = noise.split(eps_sizes + [g * g for g in self.grids], dim=1)
        steps = range(len(self.grids))
        eps = [pieces[i].view(-1, self.depths[i], self.grids[i], self.grids[i]) for i in steps]
        return eps, [
            pieces[len(self.grids) + i].view(-1, self.grids[i], self.grids[i]) for i in steps
        ]
