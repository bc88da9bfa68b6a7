"""The window itself, with SDL's dummy driver."""

from collections.abc import Iterator

import pygame
import pytest
from pygame._sdl2.video import Window

from worldflow.demos.screen import Screen


@pytest.fixture
def screen() -> Iterator[Screen]:
    pygame.init()
    yield Screen((64, 64), 4)
    pygame.quit()


def place() -> tuple[int, int]:
    return tuple(Window.from_display_module().position)


def test_full_screen_begins_at_the_corner_and_the_window_goes_back(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no window manager to move it: SDL's dummy driver has none, nor has Xvfb."""
    screen.open(fullscreen=False)
    before = place()
    assert before != (0, 0)
    screen.ask_fullscreen()
    assert place() == (0, 0)
    monkeypatch.setattr("worldflow.demos.screen.time.monotonic", lambda: 1e9)  # a press of its own
    screen.ask_fullscreen()
    assert place() == before
