"""The window itself: how large it opens, and how it fills the screen and comes back."""

import math
import time
from typing import Any

import pygame

from worldflow.demos.hud import hud_height

SCREEN_SHARE = 0.85  # of the screen's height and width that a new window may take
REPEAT_SECONDS = 0.7  # a held key repeats sooner


class Screen:
    """A window with room for a picture and the figures under it.

    Args:
        frame_size: height and width of a frame.
        scale: screen pixels for each pixel of a frame, at first; less on a small screen.
    """

    def __init__(self, frame_size: tuple[int, int], scale: int) -> None:
        self._frame_size, self._scale = frame_size, scale
        self._window_size: tuple[int, int] | None = None  # to come back to; None: not full
        self._window_place: tuple[int, int] | None = None
        self._asked = -math.inf  # when the other mode was asked for last

    def open(self, *, fullscreen: bool) -> None:
        """Open the window. Raises pygame.error where there can be none."""
        pygame.display.set_mode(self._first_size(), pygame.RESIZABLE)
        if fullscreen:
            self._toggle()

    def ask_fullscreen(self) -> None:
        """A key asks for the other mode.

        The change takes the keyboard away for a moment, so that a held key seems to be pressed
        anew: all that follows without a rest is one press.
        """
        before, self._asked = self._asked, time.monotonic()
        if self._asked - before >= REPEAT_SECONDS:
            self._toggle()

    def _toggle(self) -> None:
        """Fill the screen, or come back as large as the window was.

        SDL's own toggle leaves behind a window as large as the screen, hanging over its edge.
        """
        if self._window_size is None:
            self._window_size = pygame.display.get_window_size()
            self._window_place = _move((0, 0))
            pygame.display.set_mode((0, 0), pygame.FULLSCREEN)
        else:
            size, self._window_size = self._window_size, None
            pygame.display.set_mode(size, pygame.RESIZABLE)
            _move(self._window_place)

    def _first_size(self) -> tuple[int, int]:
        height, width = self._frame_size
        desktop = pygame.display.get_desktop_sizes()[0]
        room = min(desktop[0] / width, desktop[1] / height) * SCREEN_SHARE
        scale = max(1, min(self._scale, int(room)))
        return width * scale, height * scale + hud_height(width * scale)


def _move(place: tuple[int, int] | None) -> tuple[int, int] | None:
    """Put the window at `place`; where it was, or None if that is left to the window manager.

    Without a window manager (Xvfb, a kiosk) nobody moves a window that fills the screen to its
    corner, and half of it is off the screen. With several screens it must stay on its own.
    """
    if place is None or len(pygame.display.get_desktop_sizes()) > 1:
        return None
    try:
        from pygame._sdl2.video import Window

        window = Window.from_display_module()
    except (ImportError, AttributeError):  # not in every pygame
        return None
    before: Any = window.position  # pygame's stubs have it as an int
    window.position = place
    return before[0], before[1]
