"""The flow's first step, which draws the 8x8 picture: by it most of what comes is chosen."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflow import mixture
from worldflow.mixture_head import MixtureHead, Told
from worldflow.sites import Rendering, Sites, asinh_units, sites_of

LEVELS = 3  # 64 -> 32 -> 16 -> 8: at 8x8 one bright pixel still stands 4 sigma out of the noise


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
        return self._told(masks, apart, context, mean).favoured(favour)

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

    def conditioned(self, value: Tensor, context: Tensor, mean: Tensor) -> Told:
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

    def sites(self, told: Told, value: Tensor, favours: Sequence[Tensor | None]) -> list[Sites]:
        """Of the picture `value`, had the frame gone each of the ways that have these `favours`.

        `told` as `conditioned` has it.
        """
        of_cells = [None if favour is None else self._all_cells(favour) for favour in favours]
        ways = self.head.of_ways(told, of_cells)
        return [
            self._on_grid(found) for found in sites_of(ways, told.centre, self._all_cells(value))
        ]

    def _on_grid(self, found: Sites) -> Sites:
        log_prob, *others = (self._grid(part) for part in (found[0][:, None], *found[1:]))
        return Sites(log_prob[:, 0], *others)

    def _all_cells(self, values: Tensor) -> Tensor:
        """A grid `(N, ..., h, w)` -> the cells of its groups `(G*N, ..., h/2, w/2)`."""
        return torch.cat([self.cells(values, index) for index in range(len(self.GROUPS))])

    def _by_group(self, rows: Tensor) -> list[Tensor]:
        """`(G*N, ...)` -> G times `(N, ...)`."""
        return list(rows.unflatten(0, (len(self.GROUPS), -1)).unbind())

    def _grid(self, parts: Tensor) -> Tensor:
        """The cells of all groups `(G*N, d, h/2, w/2)`, one group after the other, as one grid."""
        by_group = self._by_group(parts)
        raster = [by_group[self.GROUPS.index((y, x))] for y in (0, 1) for x in (0, 1)]
        return F.pixel_shuffle(torch.stack(raster, dim=2).flatten(1, 2), 2)

    def decode(
        self,
        eps: Tensor,
        selector: Tensor,
        context: Tensor,
        mean: Tensor,
        favour: Tensor | None,
        temperature: Tensor,
    ) -> Tensor:
        drawn = mean  # of which nothing is seen or kept
        for index in range(len(self.GROUPS)):
            # All cells are drawn and those of the group kept: exported, that is far cheaper
            # than to take cells out and to put them back.
            told = self.group(index, drawn, context, mean, favour)
            value = self.head.decode(told, eps, selector, temperature)
            drawn = torch.where(self.masks[index, 4] > 0, value, drawn)
        return drawn

    def encode(
        self,
        value: Tensor,
        context: Tensor,
        mean: Tensor,
        favour: Tensor | None,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        eps, selector, drawn = torch.zeros_like(value), torch.zeros_like(value[:, 0]), mean
        for index in range(len(self.GROUPS)):
            told = self.group(index, drawn, context, mean, favour)
            found = self.head.encode(told, value, generator)
            kept = self.masks[index, 4] > 0
            eps, selector, drawn = (
                torch.where(kept, new, old)
                for new, old in zip(found, (eps, selector, drawn), strict=True)
            )
        return eps, selector, drawn

    def redraw(
        self,
        value: Tensor,
        eps: Tensor,
        selector: Tensor,
        context: Tensor,
        mean: Tensor,
        favour: Tensor | None,
    ) -> Tensor:
        drawn = mean
        for index in range(len(self.GROUPS)):
            told = self.group(index, drawn, context, mean, favour)
            again = mixture.redraw(self.head(told), value, eps, selector)
            drawn = torch.where(self.masks[index, 4] > 0, again, drawn)
        return drawn
