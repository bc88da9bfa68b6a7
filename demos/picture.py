"""The game's picture: one frame, or dream, real game and their difference side by side."""

import numpy as np
import pygame

from worldflow.demos.hud import BACKGROUND, draw_badge, font_of
from worldflow.demos.view import Frame, View

GAP = 8  # pixels between panels
LABEL = 26  # pixels above each panel, where there are several
LABELS = (("dream", (138, 98, 232)), ("real", (72, 176, 110)), ("difference", (62, 68, 86)))
GRIDS = ((3, 1), (2, 2), (1, 3))  # columns and rows for three panels


class Picture:
    """Draws the frames of a view as large as whole-number scale allows."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._drawn: pygame.Surface | None = None

    def draw(self, screen: pygame.Surface, area: pygame.Rect, view: View) -> None:
        """Fill `area`. What was drawn last is kept: most pictures are shown several times."""
        # The frames themselves, not their ids: an id may be given to a later frame.
        key = (view.frame, view.companion, area.size)
        same = len(self._key) == 3 and all(a is b for a, b in zip(key[:2], self._key, strict=False))
        if self._drawn is None or not same or self._key[2] != area.size:
            self._drawn = pygame.Surface(area.size)
            self._drawn.fill(BACKGROUND)
            _draw_panels(self._drawn, panels(view))
            self._key = key
        screen.blit(self._drawn, area)


def panels(view: View) -> list[Frame]:
    """The frames that a view shows: one, or dream, real and the absolute difference."""
    if view.companion is None:
        return [view.frame]
    difference = np.abs(view.frame.astype(np.int16) - view.companion).astype(np.uint8)
    return [view.frame, view.companion, difference]


def _draw_panels(surface: pygame.Surface, frames: list[Frame]) -> None:
    height, width = frames[0].shape[:2]
    several = len(frames) > 1
    label = LABEL if several else 0
    room = surface.get_size()
    scale, columns, rows = max(
        (_scale(room, (width, height), *grid, label), *grid)
        for grid in (GRIDS if several else ((1, 1),))
    )
    size = width * scale, height * scale
    font = font_of(20)
    left = (room[0] - columns * size[0] - (columns - 1) * GAP) // 2
    top = max(0, (room[1] - rows * (size[1] + label) - (rows - 1) * GAP) // 2) + label
    for index, frame in enumerate(frames):
        row, column = divmod(index, columns)
        place = left + column * (size[0] + GAP), top + row * (size[1] + label + GAP)
        small = pygame.image.frombuffer(frame.tobytes(), (width, height), "RGB")
        surface.blit(pygame.transform.scale(small, size), place)
        if several:
            draw_badge(surface, font, *LABELS[index], place[0], place[1] - label + 4)


def _scale(
    room: tuple[int, int], frame: tuple[int, int], columns: int, rows: int, label: int
) -> int:
    """Pixels of the screen for each of a frame's, in whole numbers."""
    wide = (room[0] - (columns - 1) * GAP) // (columns * frame[0])
    high = (room[1] - (rows - 1) * GAP - rows * label) // (rows * frame[1])
    return max(1, min(wide, high))
