"""A window in which a person plays any Gymnasium env whose observations are pictures.

It knows nothing of models: an env, a key map and a frame rate are all it takes.
"""

import math
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from worldflow.demos.hud import (
    BACKGROUND,
    Figures,
    draw_lines,
    draw_panel,
    font_for,
    help_lines,
    hud_lines,
)
from worldflow.demos.keys import Keypad
from worldflow.errors import InputError

GAME_OVER_SECONDS = 2.0  # how long the last frame stays before the next episode
POLL_SECONDS = 0.1  # longest wait for an event in one go
FRAME_RATES = (1, 2, 3, 5, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 90, 120, 240)  # of + and -
BLIND_DRIVERS = ("dummy", "offscreen")
SCREEN_SHARE = 0.85  # of the screen's height and width that a new window may take

# By pygame key name or the character typed. The game's own keys come first.
COMMANDS = {
    "escape": "quit",
    "q": "quit",
    "p": "pause",
    "pause": "pause",
    "n": "single_step",
    ".": "single_step",
    "r": "restart",
    "+": "faster",
    "=": "faster",
    "[+]": "faster",
    "-": "slower",
    "[-]": "slower",
    "h": "hud",
    "f1": "help",
}


def why_no_display() -> str | None:
    """Why no window can be shown here, in a few words; None if one can.

    Leaves pygame's display ready where there is one, and shut where there is none.
    """
    driver = os.environ.get("SDL_VIDEODRIVER", "")
    if driver in BLIND_DRIVERS:
        return f"SDL_VIDEODRIVER is {driver}"
    screens = ("DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform == "linux" and not driver and not any(map(os.environ.get, screens)):
        return "neither DISPLAY nor WAYLAND_DISPLAY is set"
    try:
        pygame.display.init()
    except pygame.error as error:
        return str(error)
    if pygame.display.get_driver() in BLIND_DRIVERS:  # SDL's last resort, taken without a word
        pygame.display.quit()
        return "the screen that is set does not answer"
    return None


@dataclass(frozen=True)
class WindowConfig:
    """What the window needs to know of a game."""

    title: str
    key_map: Mapping[str, int]  # pygame key names joined by "+" -> action, "" = nothing held
    action_names: tuple[str, ...]
    frame_rate: int  # steps per second
    scale: int = 8  # screen pixels for each pixel of a frame, at first; less on a small screen
    steps: int = 0  # quit after so many steps; 0: play until the player quits
    seed: int | None = None  # of the first reset


class Window:
    """The loop: wait for the step's time, read the keys, step, draw at once.

    The keys are read immediately before the step and the frame is drawn immediately after it,
    so the first frame drawn after a key press is the one that follows that key's action.

    Args:
        env: observations uint8 `(H, W, 3)`, Discrete actions.

    Raises:
        InputError: the env has other observations.
    """

    def __init__(self, env: gymnasium.Env[NDArray[np.uint8], Any], config: WindowConfig) -> None:
        space = env.observation_space
        shape = space.shape or ()
        if space.dtype != np.uint8 or len(shape) != 3 or shape[-1] != 3:
            raise InputError(f"a window shows uint8 frames (H, W, 3), not {space}")
        self._env, self._config = env, config
        self._height, self._width = shape[:2]
        self._keypad = Keypad(config.key_map)
        self._frame = np.zeros(shape, np.uint8)
        self._figures = Figures()
        self._frame_rate = config.frame_rate
        self._next_step = 0.0  # when the next step is due, by time.perf_counter
        self._steps = 0
        self._over = ""  # why the episode has ended, "" while it runs
        self._paused = self._single_step = self._restart = self._quit = False
        self._show_hud, self._show_help = True, False

    def run(self) -> None:
        """Play until the player quits or the configured steps are done.

        Raises:
            pygame.error: no window can be opened.
        """
        pygame.display.init()
        pygame.font.init()
        try:
            pygame.display.set_caption(self._config.title)
            pygame.display.set_mode(self._first_size(), pygame.RESIZABLE)
            self._reset(self._config.seed)
            self._draw()
            while not self._quit:
                self._read_events()
                if not self._quit:
                    self._advance()
                    self._draw()
        finally:
            pygame.quit()

    def _first_size(self) -> tuple[int, int]:
        desktop = pygame.display.get_desktop_sizes()[0]
        room = min(desktop[0] / self._width, desktop[1] / self._height) * SCREEN_SHARE
        scale = max(1, min(self._config.scale, int(room)))
        width = self._width * scale
        return width, self._height * scale + _hud_height(width)

    def _read_events(self) -> None:
        """Take in events until something is due; then all that still wait, just before it."""
        while not self._quit:
            left = self._due() - time.perf_counter()
            if left > 0:
                wait = max(1, int(min(left, POLL_SECONDS) * 1000))  # ms; 0 would wait for ever
                events = [pygame.event.wait(wait)]
            else:
                events = pygame.event.get()
            stale = False
            for event in events:
                stale |= self._handle(event)
            if self._due() > time.perf_counter():  # not due yet, or no longer: paused just now
                if stale:
                    self._draw()
            elif left <= 0:
                return

    def _due(self) -> float:
        """When something is to be done next, by time.perf_counter."""
        if self._restart or self._single_step:
            return 0.0
        return math.inf if self._paused else self._next_step

    def _handle(self, event: pygame.event.Event) -> bool:
        """Take in one event. Returns whether the window must be drawn anew."""
        if event.type == pygame.QUIT:
            self._quit = True
        elif event.type == pygame.KEYUP:
            self._keypad.release(pygame.key.name(event.key))
        elif event.type == pygame.KEYDOWN:
            name = pygame.key.name(event.key)
            if self._keypad.press(name):
                return False
            command = COMMANDS.get(name) or COMMANDS.get(getattr(event, "unicode", ""))
            if command:
                self._command(command)
            return command is not None
        return event.type in (pygame.VIDEORESIZE, pygame.VIDEOEXPOSE)

    def _command(self, command: str) -> None:
        match command:
            case "quit":
                self._quit = True
            case "pause":
                self._paused = not self._paused
                self._figures.times.clear()  # a pause is no slow step
            case "single_step":
                self._paused = self._single_step = True
            case "restart":
                self._restart = True
            case "faster":
                higher = [rate for rate in FRAME_RATES if rate > self._frame_rate]
                self._frame_rate = higher[0] if higher else self._frame_rate
            case "slower":
                lower = [rate for rate in FRAME_RATES if rate < self._frame_rate]
                self._frame_rate = lower[-1] if lower else self._frame_rate
            case "hud":
                self._show_hud = not self._show_hud
            case "help":
                self._show_help = not self._show_help

    def _advance(self) -> None:
        """Do what is due: a step, or a new episode."""
        started = time.perf_counter()
        period = 1 / self._frame_rate
        if self._restart or self._over:
            self._reset(None)
        else:
            self._step()
        self._restart = self._single_step = False
        # Keep to the beat if it is near; else (a pause, a restart) begin a new one.
        on_beat = abs(started - self._next_step) < period
        self._next_step = (self._next_step if on_beat else started) + period
        if self._over:
            self._next_step = started + GAME_OVER_SECONDS

    def _reset(self, seed: int | None) -> None:
        self._frame, _ = self._env.reset(seed=seed)
        self._figures = Figures()
        self._keypad.forget_taps()
        self._over = ""

    def _step(self) -> None:
        action = self._keypad.next_action()
        self._frame, reward, terminated, truncated, info = self._env.step(action)
        self._figures.add(action, float(reward), info)
        if terminated or truncated:
            self._over = "game over" if terminated else "time is up"
        self._steps += 1
        self._quit = self._quit or self._steps == self._config.steps

    def _draw(self) -> None:
        """Show the newest frame, in whole-number scale, with the figures under it."""
        screen = pygame.display.get_surface()
        if screen is None:
            return
        width, height = screen.get_size()
        room = height - (_hud_height(width) if self._show_hud else 0)
        scale = max(1, min(width // self._width, room // self._height))
        size = self._width * scale, self._height * scale
        picture = pygame.image.frombuffer(self._frame.tobytes(), (self._width, self._height), "RGB")
        screen.fill(BACKGROUND)
        left, top = (width - size[0]) // 2, max(0, (room - size[1]) // 2)
        screen.blit(pygame.transform.scale(picture, size), (left, top))
        font = font_for(width)
        if self._show_hud:
            lines = hud_lines(self._figures, self._frame_rate, self._config.action_names)
            draw_lines(screen, font, lines, font.get_height() // 2, room)
        if self._show_help:
            draw_panel(screen, font, help_lines(self._config.key_map, self._config.action_names))
        elif self._over:
            draw_panel(screen, font, [self._over, "R: again"])
        elif self._paused:
            draw_panel(screen, font, ["paused", "P: go on   N: one step"])
        pygame.display.flip()


def _hud_height(width: int) -> int:
    return int(2.5 * font_for(width).get_linesize())
