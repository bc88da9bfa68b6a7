"""The window itself: how large it opens, and how it fills the screen and comes back."""

import math
import time

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
            pygame.display.set_mode((0, 0), pygame.FULLSCREEN)
        else:
            size, self._window_size = self._window_size, None
            pygame.display.set_mode(size, pygame.RESIZABLE)

    def _first_size(self) -> tuple[int, int]:
        height, width = self._frame_size
        desktop = pygame.display.get_desktop_sizes()[0]
        room = min(desktop[0] / width, desktop[1] / height) * SCREEN_SHARE
        scale = max(1, min(self._scale, int(room)))
        return width * scale, height * scale + hud_height(width * scale)
