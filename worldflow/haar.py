"""The orthonormal Haar pyramid: exact, without a log-determinant, noise stays noise.

Each 2x2 cell of a picture becomes one coarse value and three details by an orthogonal
4x4 matrix, so that the volume is kept and white noise of scale s becomes white noise of
scale s (Wavelet Flow, arXiv 2010.13821, section 3.1).
"""

import torch
from torch import Tensor


def analyse(picture: Tensor) -> tuple[Tensor, Tensor]:
    """`(N, C, H, W)` -> coarse `(N, C, H/2, W/2)` and detail `(N, 3C, H/2, W/2)`."""
    a, b = picture[..., 0::2, 0::2], picture[..., 0::2, 1::2]
    c, d = picture[..., 1::2, 0::2], picture[..., 1::2, 1::2]
    coarse = (a + b + c + d) / 2
    detail = torch.cat(((a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2), dim=1)
    return coarse, detail


def synthesise(coarse: Tensor, detail: Tensor) -> Tensor:
    """The inverse of `analyse`."""
    horizontal, vertical, diagonal = detail.chunk(3, dim=1)
    a = coarse + horizontal + vertical + diagonal
    b = coarse - horizontal + vertical - diagonal
    c = coarse + horizontal - vertical - diagonal
    d = coarse - horizontal - vertical + diagonal
    n, channels, height, width = coarse.shape
    cells = torch.stack((a, b, c, d), dim=-1).view(n, channels, height, width, 2, 2) / 2
    return cells.permute(0, 1, 2, 4, 3, 5).reshape(n, channels, 2 * height, 2 * width)


def pyramid(picture: Tensor, levels: int) -> tuple[Tensor, list[Tensor]]:
    """The coarsest picture and the details, coarse to fine."""
    details: list[Tensor] = []
    for _ in range(levels):
        picture, detail = analyse(picture)
        details.insert(0, detail)
    return picture, details
