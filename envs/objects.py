"""The small object of a game, the ball, found in its pixels alone.

A *strength map* tells how much of each pixel `(..., 64, 64)` of frames `(..., 64, 64, 3)` is ball:
0 none, 1 all of it. An area-resized ball is spread over several pixels, and a fading one is weak:
both are read off the same map. Only places where nothing else has the ball's colour are looked
at, so that paddles, walls and scores never count.
The maps were held against the console's memory (tests/envs/test_objects.py).
"""

import numpy as np
from numpy.typing import NDArray

from worldflow.small_objects import SmallObject

SIZE = 64  # pixels; the places below are those of frames of this size


def bounce_ball(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Yellow in the court; all else there is bluish: red less blue tells them apart."""
    return _strength(frames[..., 0], frames[..., 2], none=-20, all_of_it=215, seen=_COURT)


def breakout_ball(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Red on black, between the ceiling and the wall and between the wall and the paddle.

    Within the wall's rows the console draws the ball in the colour of the bricks beside it, so
    nobody can tell it from them there.
    """
    return _strength(frames[..., 0], frames[..., 1], none=0, all_of_it=128, seen=_AROUND_WALL)


def pong_ball(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """White on brown, between the walls and beside the paddles' columns."""
    nothing = np.zeros_like(frames[..., 2])
    return _strength(frames[..., 2], nothing, none=17, all_of_it=236, seen=_BESIDE_PADDLES)


def _strength(
    high: NDArray[np.uint8],
    low: NDArray[np.uint8],
    *,
    none: int,
    all_of_it: int,
    seen: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """`high - low` of each pixel, from `none` to `all_of_it` as 0 to 1, where it is `seen`."""
    contrast = high.astype(np.float32) - low
    share: NDArray[np.float32] = np.clip((contrast - none) / (all_of_it - none), 0.0, 1.0)
    return share * seen


def _places(rows: tuple[slice, ...], columns: tuple[slice, ...]) -> NDArray[np.bool_]:
    places = np.zeros((SIZE, SIZE), np.bool_)
    for row in rows:
        for column in columns:
            places[row, column] = True
    return places


_COURT = _places((slice(13, 64),), (slice(2, 62),))
_AROUND_WALL = _places((slice(10, 17), slice(29, 57)), (slice(3, 61),))
_BESIDE_PADDLES = _places((slice(11, 59),), (slice(0, 5), slice(9, 56), slice(58, 64)))

OBJECTS = {
    "bounce": SmallObject(bounce_ball, mass=9.0),
    "ALE/Breakout-v5": SmallObject(breakout_ball, mass=1.6),
    "ALE/Pong-v5": SmallObject(pong_ball, mass=1.5),
}
"""The games that define an object, by the id that their episodes name."""


def object_of(source: str, frame_shape: tuple[int, int, int]) -> SmallObject | None:
    """The ball of the game recorded as `source`; None if it defines no object."""
    return OBJECTS.get(source) if frame_shape == (SIZE, SIZE, 3) else None
