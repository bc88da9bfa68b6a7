"""The density of the next frame: the multiscale flow, on top of the Gaussian base.

A density is an `nn.Module` with three methods, all exact, given the `Conditions` of a step:

    log_prob(y, given) -> (N,)
    decode(noise, given, temperature) -> y
    encode(y, given, generator) -> noise

`y` is `(N, 3, H, W)`, `noise` `(N, noise_size)`; each row of noise is N(0, I). Likelihoods are
in nats, in float32.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflow import haar, mixture
from worldflow.base import Conditions
from worldflow.coarse import LEVELS, CoarseStep
from worldflow.evidence import Evidence
from worldflow.mixture_head import MixtureHead, Told
from worldflow.sites import Rendering, Sites, asinh_units, sites_of
from worldflow.trunk import Features, zeroed
from worldflow.waiting import Waiting
from worldflow.ways import Ways, encoded_way, mixed, way_again


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

    def conditioned(
        self,
        features: Tensor,
        coarser: Tensor,
        mean: Tensor,
        detail: Tensor,
        favour: Tensor | None = None,
    ) -> Told:
        """What the head needs, all on the grid of the coarser picture `(N, 3, h, w)`.

        `mean` and `detail` `(N, 9, h, w)` are the base's, `favour` `(N, K, h, w)` that of the
        frame's way.
        """
        apart = coarser - mean
        h = torch.cat((features, asinh_units(apart, self.sigma), mean / self.reach, detail), dim=1)
        h = self.further(F.silu(self.conv2(F.silu(self.conv1(h)))))
        evidence = self.evidence(h, apart) if self.evidence else None
        return Told(h, detail + self.rendering(h, apart), evidence).favoured(favour)

    def sites(
        self, told: Told, value: Tensor, favours: Sequence[Tensor | None] = (None,)
    ) -> list[Sites]:
        """Of details `(N, 9, h, w)`, had the frame gone each of the ways that have these `favours`.

        `told` as `conditioned` has it.
        """
        return sites_of(self.head.of_ways(told, favours), told.centre, value)


def _known(
    index: int, coarser: Tensor, given: Conditions, means: haar.Pyramid
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the detail step `index` is conditioned on; `means` is the pyramid of the base's mean."""
    return given.features[2 - index], coarser, means.pictures[index], means.details[index]


def quarter(picture: Tensor) -> Tensor:
    """`(N, 3, H, W)` -> `(N, 3, H/4, W/4)`, as the choosing steps see it."""
    return haar.pyramid(picture, 2).pictures[0]


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
        ways: int = 0,
        waiting: bool = False,
    ) -> None:
        super().__init__()
        fine, middle, coarse = features
        self.waiting = Waiting(coarse) if waiting else None
        grid = size // 2**LEVELS
        self.ways = Ways(ways, hidden[0], components[:2], grid) if ways else None
        self.coarse = CoarseStep(coarse, hidden[0], components[0], sigma, grid)
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
        self.noise_size = self.eps_size + sum(grid * grid for grid in self.grids) + (ways > 0)

    def log_prob(self, y: Tensor, given: Conditions) -> Tensor:
        sites = [step.log_prob.sum(dim=(1, 2)) for step in self.sites(y, given)]
        return torch.stack(sites).sum(dim=0)

    def sites(self, y: Tensor, given: Conditions) -> list[Sites]:
        """Of each step, coarse to fine; all log_probs of a row together are its `log_prob`."""
        given, mean = self.informed(given), given.mean.detach()
        choosing = self.choosing_sites(quarter(y), given.features.coarse, quarter(mean))
        return [*choosing, *self.following_sites(y, given)]

    def choosing(self) -> list[nn.Module]:
        """What draws the picture of a quarter of the size, by which all is decided."""
        return [self.coarse, self.details[0], *filter(None, (self.ways, self.waiting))]

    def informed(self, given: Conditions) -> Conditions:
        """`given` with coarse features that tell how lately the game's object was in sight, too."""
        fine, middle, coarse = given.features
        features = Features(fine, middle, self.told(coarse, given.recency))
        return Conditions(features, *given[1:])

    def told(self, coarse: Tensor, recency: Tensor) -> Tensor:
        """Such features, of the trunk's `(N, C, h, w)` and the `recency` `(N,)`."""
        return self.waiting(coarse, recency) if self.waiting else coarse

    def choosing_sites(self, y: Tensor, features: Tensor, mean: Tensor) -> list[Sites]:
        """Of the first two steps, as `sites` has them.

        Args:
            y: that picture of the noised frame `(N, 3, H/4, W/4)`.
            features: the coarse ones, as `informed` has them.
            mean: that picture of the base's mean.
        """
        context = self.coarse.context(features, haar.analyse(mean)[0])
        if self.ways is None:
            return self._of_ways([[None, None]], context, y, features, mean)[0]
        fork = self.ways(context)
        return mixed(fork, self._of_ways(fork.ways(), context, y, features, mean))

    def following(self) -> list[tuple[int, DetailStep]]:
        """What makes the whole picture of that, and which detail step each is."""
        return list(enumerate(self._detail_steps()))[1:]

    def following_sites(self, y: Tensor, given: Conditions) -> list[Sites]:
        """Of these steps, as `sites` has them."""
        pictures, details = haar.pyramid(y, LEVELS)
        means = haar.pyramid(given.mean.detach(), LEVELS)
        return [
            step.sites(step.conditioned(*_known(i, pictures[i], given, means)), details[i])[0]
            for i, step in self.following()
        ]

    def _of_ways(
        self,
        favours: Sequence[Sequence[Tensor | None]],
        context: Tensor,
        y: Tensor,
        features: Tensor,
        mean: Tensor,
    ) -> list[list[Sites]]:
        """The sites of the first two steps, had the frame gone each of some ways.

        `context` is what the coarse step makes of `features` and `mean`.
        """
        first = self._detail_steps()[0]
        picture, detail = haar.analyse(y)
        of_mean, mean_detail = haar.analyse(mean)
        told = self.coarse.conditioned(picture, context, of_mean)
        details = first.conditioned(features, picture, of_mean, mean_detail)
        of_picture = self.coarse.sites(told, picture, [favour for favour, _ in favours])
        of_details = first.sites(details, detail, [favour for _, favour in favours])
        return [list(way) for way in zip(of_picture, of_details, strict=True)]

    def _detail_steps(self) -> list[DetailStep]:
        return [step for step in self.details if isinstance(step, DetailStep)]

    def choosing_draw(self, noise: Tensor, features: Tensor, mean: Tensor) -> Tensor:
        """What these draw of `noise` `(N, noise_size)`, as `decode` would; else as above."""
        warm = torch.ones_like(noise[:, 0])
        return self._chosen(*self.split_noise(noise), features, *haar.analyse(mean), warm)

    def _chosen(
        self,
        eps: list[Tensor],
        picks: list[Tensor],
        features: Tensor,
        mean: Tensor,
        mean_detail: Tensor,
        temperature: Tensor,
    ) -> Tensor:
        """The picture of a quarter of the size; `mean` and `mean_detail` are the base's."""
        context, first = self.coarse.context(features, mean), self._detail_steps()[0]
        favour = other = None
        if self.ways is not None:
            fork = self.ways(context)
            favour, other = fork.way(mixture.picked(fork.odds, picks[-1], temperature))
        picture = self.coarse.decode(eps[0], picks[0], context, mean, favour, temperature)
        told = first.conditioned(features, picture, mean, mean_detail, other)
        return haar.synthesise(picture, first.head.decode(told, eps[1], picks[1], temperature))

    def decode(self, noise: Tensor, given: Conditions, temperature: Tensor) -> Tensor:
        eps, picks = self.split_noise(noise)
        given, means = self.informed(given), haar.pyramid(given.mean, LEVELS)
        coarsest = means.pictures[0], means.details[0]
        picture = self._chosen(eps, picks, given.features.coarse, *coarsest, temperature)
        for i, step in self.following():
            told = step.conditioned(*_known(i, picture, given, means))
            detail = step.head.decode(told, eps[i + 1], picks[i + 1], temperature)
            picture = haar.synthesise(picture, detail)
        return picture

    def encode(self, y: Tensor, given: Conditions, generator: torch.Generator | None) -> Tensor:
        pictures, details = haar.pyramid(y, LEVELS)
        given, means = self.informed(given), haar.pyramid(given.mean, LEVELS)
        features, of_way = given.features.coarse, []
        context = self.coarse.context(features, means.pictures[0])
        favours: list[Tensor | None] = [None, None]
        if self.ways is not None:
            fork = self.ways(context)
            by_way = self._of_ways(fork.ways(), context, pictures[1], features, means.pictures[1])
            way, selector = encoded_way(fork, by_way, generator)
            favours[:], of_way = fork.way(way), [selector]
        *part, picture = self.coarse.encode(
            pictures[0], context, means.pictures[0], favours[0], generator
        )
        parts = [part]
        for i, step in enumerate(self._detail_steps()):
            told = step.conditioned(*_known(i, picture, given, means), None if i else favours[1])
            *part, detail = step.head.encode(told, details[i], generator)
            parts.append(part)
            picture = haar.synthesise(picture, detail)
        pieces = [*(part[j] for j in (0, 1) for part in parts), *of_way]
        return torch.cat([piece.flatten(1) for piece in pieces], dim=1)

    def redraw(self, y: Tensor, given: Conditions, noise: Tensor) -> Tensor:
        """Another draw of the future that `y` shows: its components, with `noise` of their own."""
        eps, picks = self.split_noise(noise)
        pictures, details = haar.pyramid(y, LEVELS)
        given, means = self.informed(given), haar.pyramid(given.mean, LEVELS)
        features = given.features.coarse
        context = self.coarse.context(features, means.pictures[0])
        favours: list[Tensor | None] = [None, None]
        if self.ways is not None:
            fork = self.ways(context)
            by_way = self._of_ways(fork.ways(), context, pictures[1], features, means.pictures[1])
            favours[:] = fork.way(way_again(fork, by_way, picks[-1]))
        picture = self.coarse.redraw(
            pictures[0], eps[0], picks[0], context, means.pictures[0], favours[0]
        )
        for i, step in enumerate(self._detail_steps()):
            told = step.conditioned(*_known(i, picture, given, means), None if i else favours[1])
            detail = mixture.redraw(step.head(told), details[i], eps[i + 1], picks[i + 1])
            picture = haar.synthesise(picture, detail)
        return picture

    def split_noise(self, noise: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """`(N, noise_size)` -> eps `(N, d, h, w)` and selector `(N, h, w)` of each step.

        If frames go different ways, the selector of the way follows, `(N, 1, 1)`.
        """
        grids = self.grids
        shapes = [
            *((depth, grid, grid) for depth, grid in zip(self.depths, grids, strict=True)),
            *((grid, grid) for grid in grids),
            *([(1, 1)] if self.ways else []),
        ]
        pieces = noise.split([math.prod(shape) for shape in shapes], dim=1)
        shaped = [piece.view(-1, *shape) for piece, shape in zip(pieces, shapes, strict=True)]
        return shaped[: len(grids)], shaped[len(grids) :]
