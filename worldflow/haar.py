"""The orthonormal Haar pyramid: exact, without a log-determinant, noise stays noise.

Each 2x2 cell of a picture becomes one coarse value and three details by an orthogonal
4x4 matrix, so that the volume is kept and white noise of scale s becomes white noise of
scale s (Wavelet Flow, arXiv 2010.13821, section 3.1).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Pyramid(NamedTuple):
    """A picture at all its scales, coarse to fine."""

    pictures: list[Tensor]  # each (N, C, h, w), without the picture itself
    details: list[Tensor]  # each (N, 3C, h, w): with pictures[i], the next finer picture


def analyse(picture: Tensor) -> tuple[Tensor, Tensor]:
    """`(N, C, H, W)` -> coarse `(N, C, H/2, W/2)` and detail `(N, 3C, H/2, W/2)`."""
    halved = picture / 2
    above, below = halved[..., 0::2, :], halved[..., 1::2, :]
    level, drop = above + below, above - below
    (left, right), (fall, rise) = ((part[..., 0::2], part[..., 1::2]) for part in (level, drop))
    return left + right, torch.cat((left - right, fall + rise, fall - rise), dim=1)


def synthesise(coarse: Tensor, detail: Tensor) -> Tensor:
    """The inverse of `analyse`."""
    horizontal, vertical, diagonal = (detail / 2).chunk(3, dim=1)
    above, below = coarse / 2 + vertical, coarse / 2 - vertical
    left, right = horizontal + diagonal, horizontal - diagonal
    cells = torch.stack((above + left, above - left, below + right, below - right), dim=2)
    return F.pixel_shuffle(cells.flatten(1, 2), 2)


def pyramid(picture: Tensor, levels: int) -> Pyramid:
    """All coarser pictures and all details."""
    pictures: list[Tensor] = []
    details: list[Tensor] = []
    for _ in range(levels):
        picture, detail = analyse(picture)
        pictures.insert(0, picture)
        details.insert(0, detail)
    return Pyramid(pictures, details)
