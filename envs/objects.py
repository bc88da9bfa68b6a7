"""The objects of a game, its ball and what plays with it, found in their pixels alone.

A *strength map* tells how much of each pixel `(..., 64, 64)` of frames `(..., 64, 64, 3)` is one: 0
none, 1 all of it. An area-resized ball is spread over several pixels, and a fading one is weak:
both are read off the same map. Only places where nothing else has its colour are looked at, so
that paddles, walls and scores never count as balls. Where it flies among things of its colours, one
frame cannot tell, and some in a row can: by what has come (worldflow/tracking.py).
The maps were held against the console's memory (tests/envs/test_objects.py).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldflow.envs.area import area_weights
from worldflow.small_objects import SmallObject

SIZE = 64  # pixels; the places below are those of frames of this size


class Look(NamedTuple):
    """How an object shows: by colours that nothing else has where it is looked for."""

    name: str
    # Of red, green and blue, what adds to the contrast, and how often: (3,), or (SIZE, 3), by row.
    channels: ArrayLike
    none: NDArray[Any]  # (SIZE, SIZE), the contrast of what is behind it
    contrast: ArrayLike  # its own with that; or (SIZE,), of each row
    seen: NDArray[np.bool_]  # (SIZE, SIZE), where it is looked for
    among: NDArray[np.bool_]  # (SIZE, SIZE), where it flies among things of its colours instead
    mass: float  # pixels' worth of it in a usual frame
    # (SIZE, 3), in each row its own less what is behind it; None: a tracker measures them, which it
    # cannot where other things pass.
    colours: NDArray[Any] | None = None

    @property
    def striped(self) -> bool:
        """Whether it is told from what is behind it in each row by other colours."""
        return np.ndim(self.channels) == 2

    def strength(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The contrast of each pixel in shares of its own, 0 to 1, where it is `seen`."""
        channels = np.asarray(self.channels, np.float32)
        contrast = (frames.astype(np.float32) @ channels[..., None])[..., 0]
        own = np.asarray(self.contrast)[..., None]
        share = np.clip((contrast - self.none) / own, 0.0, 1.0)
        return np.asarray(share * self.seen, np.float32)


def _places(rows: tuple[slice, ...], columns: tuple[slice, ...]) -> NDArray[np.bool_]:
    places = np.zeros((SIZE, SIZE), np.bool_)
    for row in rows:
        for column in columns:
            places[row, column] = True
    return places


_NOWHERE = np.zeros((SIZE, SIZE), np.bool_)
_ANYWHERE = np.ones((SIZE, SIZE), np.int64)
_COURT = _places((slice(13, 64),), (slice(2, 62),))
_AROUND_WALL = _places((slice(10, 17), slice(29, 57)), (slice(3, 61),))
_IN_WALL = _places((slice(17, 29),), (slice(3, 61),))
_SIDES = _places((slice(None),), (slice(3, 4), slice(60, 61)))  # a fifth of them is grey
_BESIDE_PADDLES = _places((slice(11, 59),), (slice(0, 5), slice(9, 56), slice(58, 64)))
_ACROSS_ROAD = _places((slice(4, 61),), (slice(16, 22),))
_OPPONENT, _PLAYER = (_places((slice(10, 60),), (slice(x, x + 4),)) for x in (5, 55))


def _hen() -> Look:
    """Freeway's, the player's: yellow among cars of ten colours, one to a lane.

    No three channels tell it from all of them, but in each lane some do: of what drives there, of
    its black wheels and of the road no mixture has more than the road. Yellow cars are nearly of
    its colour; where one moves while the screen is taken, its edges show, so there all counts half.
    """
    hen, road, kerb = np.array((252, 252, 84)), 142, 170
    yellow_lane = slice(52, 56)
    channels = np.tile((0, 1, -1), (SIZE, 1))  # red, pink and blue cars, kerbs, white lines
    for rows, of_rows in (
        ((slice(13, 17), slice(47, 51)), (9, -5, -4)),  # green
        ((slice(18, 21),), (1, 1, 0)),  # olive
        ((slice(32, 36),), (-1, 2, -1)),  # brown
        ((yellow_lane,), (4, 4, 7)),
    ):
        for row in rows:
            channels[row] = of_rows
    own = channels @ (hen - road)
    own[yellow_lane] *= 2
    none = np.tile(road * channels.sum(axis=1, keepdims=True), (1, SIZE)).astype(np.float64)
    # The line in the middle is of its yellow: rows 102 and 104 of the screen, four pixels in eight.
    screen_rows = area_weights(210, SIZE)
    line = area_weights(160, SIZE) @ (np.arange(160) % 8 >= 4)
    none += screen_rows[:, [102, 104]].sum(axis=1, keepdims=True) * own[:, None] * line
    screen = np.full(210, road)
    screen[15:23] = screen[186:194] = kerb
    screen[[14, 23, 185, 194, 195]] = 0
    colours = hen - (screen_rows @ screen)[:, None]
    colours[yellow_lane] *= 2
    return Look("hen", channels, none, own, _ACROSS_ROAD, _NOWHERE, mass=2.7, colours=colours)


LOOKS = {
    "bounce": (
        # Yellow in the court; all else there is bluish: red less blue tells them apart.
        Look("ball", (1, 0, -1), -20 * _ANYWHERE, 235, seen=_COURT, among=_NOWHERE, mass=9.0),
    ),
    "ALE/Breakout-v5": (
        # On black, grey between the ceiling and the wall, and red between the wall and the paddle.
        # Within the wall's rows the console draws it in the colour of the bricks beside it, so
        # nobody can tell it from them in one frame.
        Look("ball", (1, 1, 1), 84 * _SIDES, 344, seen=_AROUND_WALL, among=_IN_WALL, mass=1.6),
    ),
    "ALE/Pong-v5": (
        # White on brown, between the walls and beside the paddles' columns.
        Look(
            "ball", (0, 0, 1), 17 * _ANYWHERE, 219, seen=_BESIDE_PADDLES, among=_NOWHERE, mass=1.5
        ),
        # Orange, and green: so that white adds nothing to them. Of 7.8 pixels' worth; but what
        # stands at the top is mostly under the wall, and is none the less in sight.
        Look("opponent", (2, 0, -1), 271 * _ANYWHERE, 81, seen=_OPPONENT, among=_NOWHERE, mass=4.0),
        Look("player", (-2, 1, 0), -216 * _ANYWHERE, 218, seen=_PLAYER, among=_NOWHERE, mass=4.0),
    ),
    "ALE/Freeway-v5": (_hen(),),
}
"""The games that define objects, by the id that their episodes name.

The first of each is the one that figures are about, for it is the smallest, and hardest to keep.
"""

OBJECTS = {game: SmallObject(ball.strength, ball.mass) for game, (ball, *_) in LOOKS.items()}


def looks_of(source: str, frame_shape: tuple[int, int, int]) -> tuple[Look, ...]:
    """How the objects of the game recorded as `source` show; none if it defines none."""
    return LOOKS.get(source, ()) if frame_shape == (SIZE, SIZE, 3) else ()


def object_of(source: str, frame_shape: tuple[int, int, int]) -> SmallObject | None:
    """Its ball, to be found in frames; None likewise."""
    return OBJECTS.get(source) if frame_shape == (SIZE, SIZE, 3) else None
