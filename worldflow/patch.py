"""A small square of a picture: what is drawn there costs no more than its pixels."""

from typing import NamedTuple

import torch
from torch import Tensor


class Patch(NamedTuple):
    """P = D*D pixels; some may be beyond the picture's edge, where nothing is."""

    points: Tensor  # (N, P, 2), row and column
    rows: Tensor  # (N, D, H), 1 where a row of the patch is one of the picture, else 0
    columns: Tensor  # (N, D, W), likewise

    def of(self, picture: Tensor) -> Tensor:
        """A `picture` `(H, W)` in the patch `(N, P)`."""
        d = self.rows.shape[1]
        return (self.rows @ picture @ self.columns.mT).reshape(-1, d * d)

    def put(self, values: Tensor) -> Tensor:
        """A picture `(N, H, W)` of nothing but the patch, `values` `(N, P)`."""
        d = self.rows.shape[1]  # N by -1: a graph with a free batch would ask for its shape
        square = values.reshape(-1, d, d)
        return self.rows.mT @ square @ self.columns


def patch_about(place: Tensor, rim: int, size: int) -> Patch:
    """Of D = 2*`rim` + 1 pixels, about that at `place` `(N, 2)`, of a picture of `size`."""
    span = torch.arange(-rim, rim + 1, dtype=place.dtype, device=place.device)
    line = torch.arange(size, dtype=place.dtype, device=place.device)
    middle = place.round()[:, None]
    along = middle + span[:, None]  # (N, D, 2)
    there = (along[..., None] == line).to(place.dtype)  # (N, D, 2, size)
    return Patch(middle + torch.cartesian_prod(span, span), there[:, :, 0], there[:, :, 1])
