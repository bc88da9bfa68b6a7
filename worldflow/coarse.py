"""The flow's first step, which draws the 8x8 picture: by it most of what comes is chosen."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflow import mixture
from worldflow.mixture_head import MixtureHead, Told
from worldflow.sites import Rendering, Sites, asinh_units, sites_of
from worldflow.trunk import full_precision, zeroed

LEVELS = 3  # 64 -> 32 -> 16 -> 8: at 8x8 one bright pixel still stands 4 sigma out of the noise
PART = 0.3  # nats by which ways differ at each component to begin with
GAIN = 8.0  # nats that a weight of 1 favours: to rule something out is to take few small steps


class Ways(nn.Module):
    """What a whole frame may turn out to be: a mixture over all of its cells together.

    A thing that comes at one of several distant places comes at exactly one. Cells that are drawn
    side by side cannot tell each other; that the frame goes one way, they can be told. A way
    favours components of each cell. With its odds in the density, that stays exact.
    """

    def __init__(self, count: int, hidden: int, components: int, grid: int) -> None:
        super().__init__()
        self.count = count
        self.look = nn.Linear(2 * hidden, hidden)
        self.odds = zeroed(nn.Linear(hidden, count))
        self.favour = zeroed(nn.Conv2d(hidden, count * components, 1))
        # Not all alike, or they would never part.
        self.here = nn.Parameter(PART / GAIN * torch.randn(count, components, grid, grid))

    def forward(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """`(N, C, h, w)` -> log-weights `(N, W, 1, 1)`; what each adds to the logits of the
        components of each cell `(N, W, K, h, w)`.
        """
        h = F.silu(context)
        pooled = torch.cat((h.mean(dim=(2, 3)), h.amax(dim=(2, 3))), dim=1)
        odds = full_precision(self.odds(F.silu(self.look(pooled))))
        favours = full_precision(self.favour(h)).unflatten(1, (self.count, -1)) + self.here
        return mixture.floored_log_weights(odds)[:, :, None, None], GAIN * favours


class CoarseNoise(NamedTuple):
    """The noise of the coarse step."""

    eps: Tensor  # (N, 3, h, w)
    selector: Tensor  # (N, h, w)
    way: Tensor  # (N, 1, 1), the selector of the frame's way, if it has any


class CoarseStep(nn.Module):
    """Draws the 8x8 picture in four interleaved groups of cells, each seeing those before.

    Neighbours are never drawn together, so that two possible places of one object can see
    each other; a mixture for each cell, so that independent choices stay independent. Places too
    far apart for that are kept apart by `Ways`, if it has any.
    """

    GROUPS = ((0, 0), (1, 1), (0, 1), (1, 0))  # offsets of a 2x2 interleaving
    masks: Tensor  # (G, 5, h, w): three of zeros, then 1 at cells drawn before, and to be drawn

    def __init__(
        self, features: int, hidden: int, components: int, sigma: float, grid: int, ways: int = 0
    ) -> None:
        super().__init__()
        self.sigma, self.reach = sigma, 2.0**LEVELS
        self.ways = Ways(ways, hidden, components, grid) if ways else None
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

    def group(
        self, index: int, drawn: Tensor, context: Tensor, mean: Tensor, favour: Tensor | None
    ) -> Told:
        """What the head needs for group `index`, given `drawn` (only groups before it count).

        On the grid of all cells; `mean` `(N, 3, h, w)` is the base's coarse picture, `favour`
        `(N, K, h, w)` that of the frame's way.
        """
        masks = self.masks[index : index + 1]
        # Before the first group nothing is drawn: exported, what is the same for all is no work.
        apart = (drawn - mean) * masks[:, 3:4] if index else torch.zeros_like(mean[:1])
        return self._told(masks, apart, context, mean)._replace(evidence=favour)

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
        context = self.context(features, mean)
        told = self._all_groups(value, context, mean)
        if self.ways is None:
            return self._sites(told, value)
        odds, _, by_way = self._each_way(self.ways, told, value, context)
        alone = torch.stack([sites.log_prob for sites in by_way], dim=1)  # (N, W, h, w)
        joint = odds + alone.sum(dim=(2, 3), keepdim=True)
        # The logsumexp of `joint`, and its gradient, as a sum over cells.
        posterior = torch.log_softmax(joint.detach(), dim=1)
        share = posterior.exp()
        cells = value.shape[2] * value.shape[3]
        log_prob = (share * (alone + (odds - posterior) / cells)).sum(dim=1)
        variance = torch.stack([sites.variance for sites in by_way], dim=1)
        expected = (odds.detach().exp()[:, :, None] * variance).sum(dim=1)
        return Sites(log_prob, by_way[0].centre, expected)

    def _all_groups(self, value: Tensor, context: Tensor, mean: Tensor) -> Told:
        """What the head needs for each group's cells `(G*N, ..., h/2, w/2)`, if all is known."""
        # All groups at once: a GPU's time goes into the number of its kernels.
        groups, rows = len(self.GROUPS), value.shape[0]  # not `len`: exported, that is constant
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
        return Told(hidden, centre)

    def _sites(self, told: Told, value: Tensor, favour: Tensor | None = None) -> Sites:
        """Of one way; `told` as `_all_groups` has it."""
        cells, favoured = (
            torch.cat([self.cells(each, index) for index in range(len(self.GROUPS))])
            if each is not None
            else None
            for each in (value, favour)
        )
        assert cells is not None
        parts = self.head(told._replace(evidence=favoured))
        found = sites_of(parts, told.centre, cells)
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
        self, noise: CoarseNoise, features: Tensor, mean: Tensor, temperature: Tensor
    ) -> Tensor:
        context, favour = self.context(features, mean), None
        if self.ways is not None:
            odds, favours = self.ways(context)
            below = mixture.boundaries(odds, temperature)
            way = (below <= mixture.standard_normal_cdf(noise.way)[:, None]).sum(dim=1)
            favour = _of_way(favours, way)
        drawn = mean  # of which nothing is seen or kept
        for index in range(len(self.GROUPS)):
            # All cells are drawn and those of the group kept: exported, that is far cheaper
            # than to take cells out and to put them back.
            told = self.group(index, drawn, context, mean, favour)
            value = self.head.decode(told, noise.eps, noise.selector, temperature)
            drawn = torch.where(self.masks[index, 4] > 0, value, drawn)
        return drawn

    def encode(
        self,
        value: Tensor,
        features: Tensor,
        mean: Tensor,
        generator: torch.Generator | None,
    ) -> tuple[CoarseNoise, Tensor]:
        context, favour = self.context(features, mean), None
        way_noise = value.new_zeros((len(value), 1, 1))
        if self.ways is not None:
            came = self._origin(self.ways, value, context, mean)
            odds = mixture.drawable(came.odds)
            draw, place = torch.rand((2, *way_noise.shape), generator=generator, device=odds.device)
            likely = torch.softmax(came.joint.masked_fill(odds.isinf(), -torch.inf), dim=1)
            way = mixture.drawn_by(likely, draw)
            way_noise = mixture.selector_of(odds, way, place)
            favour = _of_way(came.favours, way)
        eps, selector, drawn = torch.zeros_like(value), torch.zeros_like(value[:, 0]), mean
        for index in range(len(self.GROUPS)):
            told = self.group(index, drawn, context, mean, favour)
            found = self.head.encode(told, value, generator)
            kept = self.masks[index, 4] > 0
            eps, selector, drawn = (
                torch.where(kept, new, old)
                for new, old in zip(found, (eps, selector, drawn), strict=True)
            )
        return CoarseNoise(eps, selector, way_noise), drawn

    def redraw(self, value: Tensor, noise: CoarseNoise, features: Tensor, mean: Tensor) -> Tensor:
        context, favour, drawn = self.context(features, mean), None, mean
        if self.ways is not None:
            came = self._origin(self.ways, value, context, mean)
            draw = mixture.standard_normal_cdf(noise.way)
            way = mixture.drawn_by(torch.softmax(came.joint, dim=1), draw)
            favour = _of_way(came.favours, way)
        for index in range(len(self.GROUPS)):
            told = self.group(index, drawn, context, mean, favour)
            again = mixture.redraw(self.head(told), value, noise.eps, noise.selector)
            drawn = torch.where(self.masks[index, 4] > 0, again, drawn)
        return drawn

    def _each_way(
        self, ways: Ways, told: Told, value: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor, list[Sites]]:
        """What `ways` gives, and the sites of each, had the frame gone it."""
        odds, favours = ways(context)
        return odds, favours, [self._sites(told, value, way) for way in favours.unbind(dim=1)]

    def _origin(self, ways: Ways, value: Tensor, context: Tensor, mean: Tensor) -> "_Origin":
        told = self._all_groups(value, context, mean)
        odds, favours, by_way = self._each_way(ways, told, value, context)
        alone = torch.stack([sites.log_prob.sum(dim=(1, 2)) for sites in by_way], dim=1)
        return _Origin(odds, favours, odds + alone[:, :, None, None])


class _Origin(NamedTuple):
    """Which way a frame may have come."""

    odds: Tensor  # (N, W, 1, 1), log-weights of the ways
    favours: Tensor  # (N, W, K, h, w)
    joint: Tensor  # (N, W, 1, 1), the log-density of way and frame together


def _of_way(favours: Tensor, way: Tensor) -> Tensor:
    """`(N, W, K, h, w)` and `(N, 1, 1)` -> `(N, K, h, w)`."""
    return mixture.chosen(favours, way.expand(-1, *favours.shape[3:]))
