"""Area resizing against an oracle of another kind: differences of the running integral."""

import numpy as np
import pytest
from numpy.typing import NDArray

from worldflow.envs.area import AreaResize


def averages(lines: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """`(H, ...)` to `(size, ...)`: the integral along axis 0, taken from edge to edge."""
    height = len(lines)
    flat = np.concatenate([np.zeros((1, lines[0].size)), lines.reshape(height, -1).cumsum(0)])
    edges = np.linspace(0, height, size + 1)
    integral = [np.interp(edges, np.arange(height + 1), column) for column in flat.T]
    mean = np.diff(np.array(integral).T, axis=0) * size / height
    return mean.reshape(size, *lines.shape[1:])


@pytest.mark.parametrize(("height", "width"), [(210, 160), (64, 64), (96, 40), (50, 50)])
def test_every_pixel_is_the_average_of_the_area_it_covers(height: int, width: int) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    rows = averages(frame.astype(np.float64), 64)
    expected = averages(rows.swapaxes(0, 1), 64).swapaxes(0, 1)
    assert np.abs(AreaResize(height, width, 64)(frame) - expected).max() <= 0.501
