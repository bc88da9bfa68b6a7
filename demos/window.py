"""A window in which a person plays: events in, pictures out, sixty times a second.

It knows nothing of models: a `Game` is all it takes, and a conductor steps that in a thread of
its own.
"""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from worldflow.demos.bindings import MEANINGS, Bindings
from worldflow.demos.conductor import Conductor, Pace
from worldflow.demos.hud import (
    BACKGROUND,
    RED,
    draw_help,
    draw_hud,
    draw_notice,
    draw_panel,
    font_for,
    font_of,
    help_lines,
    hud_height,
)
from worldflow.demos.keys import Keypad
from worldflow.demos.pad import Pad
from worldflow.demos.picture import Picture
from worldflow.demos.screen import Screen
from worldflow.demos.slider import Slider
from worldflow.demos.view import Game

DISPLAY_RATE = 60  # pictures a second
NOTICE_SECONDS = 3.0
REPEAT_MS = 350, 90  # before a held command key repeats, and between repeats
BLIND_DRIVERS = ("dummy", "offscreen")
CONDUCTED = ("pause", "single_step", "restart", "faster", "slower")
# What a held key does again and again; anything else (record, pause) is done once a press.
REPEATED = frozenset(
    ("single_step", "faster", "slower", "hotter", "colder", "step_back", "back", "far_back")
)
MAX_SEED_DIGITS = 18


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
    """How a window begins."""

    scale: int = 8  # screen pixels for each pixel of a frame, at first; less on a small screen
    frame_rate: int = 0  # steps a second; 0: the game's own pace
    steps: int = 0  # quit after so many; 0: play until the player quits
    fullscreen: bool = False
    bindings: Bindings | None = None  # None: the usual keys


class Window:
    """The loop: take events as they come, draw the newest view at every frame of the display."""

    def __init__(self, game: Game, config: WindowConfig | None = None) -> None:
        config = config or WindowConfig()
        self._game, self._config = game, config
        self._bindings = config.bindings or Bindings(game.key_map)
        self._keypad = Keypad(self._bindings.key_map)
        self._pad = Pad(self._bindings.pad)
        self._conductor = Conductor(
            game, self._keypad, frame_rate=config.frame_rate, steps=config.steps
        )
        self._picture, self._slider = Picture(), Slider()
        height, width = self._conductor.view.frame.shape[:2]
        self._screen = Screen((height, width), config.scale)
        self._quit, self._show_hud, self._show_help = False, True, False
        self._down: set[str] = set()  # keys
        self._typed: str | None = None  # a seed that is being typed
        self._notice_until = 0.0
        self._notice_number = 0

    def run(self) -> None:
        """Play until the player quits or the configured steps are done.

        Raises:
            pygame.error: no window can be opened.
        """
        pygame.display.init()
        pygame.font.init()
        font_of.cache_clear()  # a font does not outlive its pygame
        pygame.joystick.init()
        try:
            pygame.display.set_caption(f"{self._game.title} (F1: keys)")
            self._screen.open(fullscreen=self._config.fullscreen)
            pygame.key.set_repeat(*REPEAT_MS)
            self._draw()
            self._conductor.start()
            self._loop()
        finally:
            self._conductor.stop()
            self._game.close()
            pygame.quit()
        if self._conductor.error is not None:
            raise self._conductor.error

    @property
    def pace(self) -> Pace:
        """How fast the game goes now."""
        return self._conductor.pace

    def _loop(self) -> None:
        due = time.perf_counter()
        while not (self._quit or self._conductor.finished):
            # A press is taken in at once, not at the display's next frame.
            left = due - time.perf_counter()
            if left > 0.001:
                self._handle(pygame.event.wait(int(left * 1000)))
                continue
            for event in pygame.event.get():
                self._handle(event)
            self._draw()
            due = max(due + 1 / DISPLAY_RATE, time.perf_counter())

    def _handle(self, event: pygame.event.Event) -> None:
        """Take in one event."""
        if event.type == pygame.QUIT:
            self._quit = True
        elif event.type == pygame.WINDOWFOCUSLOST:
            self._keypad.release_all()  # their release will be told to another window
            self._down.clear()
        elif event.type == pygame.KEYUP:
            self._keypad.release(pygame.key.name(event.key))
            self._down.discard(pygame.key.name(event.key))
        elif event.type == pygame.KEYDOWN:
            self._key_down(pygame.key.name(event.key), getattr(event, "unicode", ""))
        elif (temperature := self._slider.handle(event)) is not None:
            self._conductor.order(f"temperature:{temperature}")
        else:
            for meaning, down in self._pad.handle(event):
                self._pad_changed(meaning, down)

    def _key_down(self, name: str, typed: str) -> None:
        repeated = name in self._down
        self._down.add(name)
        if self._typed is not None:
            self._type(name, typed)
            return
        if self._keypad.press(name):
            return
        command = self._bindings.command_of(name, typed)
        if command and (command in REPEATED or not repeated):
            self._command(command)

    def _pad_changed(self, meaning: str, down: bool) -> None:
        if meaning in MEANINGS:
            if down:
                self._command(meaning)
        elif down:
            self._keypad.press(meaning)
        else:
            self._keypad.release(meaning)

    def _command(self, command: str) -> None:
        match command:
            case "quit":
                self._quit = True
            case "hud":
                self._show_hud = not self._show_hud
            case "help":
                self._show_help = not self._show_help
            case "fullscreen":
                self._screen.ask_fullscreen()
            case "seed":
                self._typed = ""
            case _ if command in CONDUCTED or command in self._game.commands:
                self._conductor.order(command)

    def _type(self, name: str, typed: str) -> None:
        """A key while a seed is typed: digits, backspace, return; anything else gives up."""
        assert self._typed is not None
        if typed.isdecimal() and typed.isascii():
            self._typed = (self._typed + typed)[:MAX_SEED_DIGITS]
        elif name == "backspace":
            self._typed = self._typed[:-1]
        else:
            if name in ("return", "enter") and self._typed:
                self._conductor.order(f"restart:{self._typed}")
            self._typed = None

    def _draw(self) -> None:
        """Show the newest view, with the figures under it."""
        screen = pygame.display.get_surface()
        if screen is None:
            return
        view, pace = self._conductor.view, self._conductor.pace
        width, height = screen.get_size()
        room = height - (hud_height(width) if self._show_hud else 0)
        area = pygame.Rect(0, 0, width, max(1, room))
        screen.fill(BACKGROUND)
        self._picture.draw(screen, area, view)
        if self._show_hud:
            hud = pygame.Rect(0, room, width, height - room)
            free = draw_hud(screen, hud, view, pace, self._game.action_names)
            if view.temperature is not None and "temperature" in self._game.commands:
                self._slider.draw(screen, free, view.temperature)
        elif view.recording is not None:
            pygame.draw.circle(screen, RED, (width - 16, 16), 7)
        if self._show_help:
            draw_help(screen, list(self._help()))
        else:
            self._draw_messages(screen, area)
        pygame.display.flip()

    def _draw_messages(self, screen: pygame.Surface, area: pygame.Rect) -> None:
        view, font = self._conductor.view, font_for(area.width)
        if self._typed is not None:
            draw_panel(screen, area, font, [f"seed: {self._typed}_", "return: a new game with it"])
        elif view.over:
            draw_panel(screen, area, font, [view.over, f"return {view.total:.4g}"])
        number, text = view.notice
        if number != self._notice_number:
            self._notice_number = number
            self._notice_until = time.perf_counter() + NOTICE_SECONDS
        if time.perf_counter() < self._notice_until:
            draw_notice(screen, area, font, text)

    def _help(self) -> Iterator[tuple[str, str]]:
        keys = self._bindings.keys
        own = {"quit", "hud", "help", "fullscreen", "seed", *CONDUCTED} | self._game.commands
        commands = {MEANINGS[name]: keys[name] for name in keys if name in own and keys[name]}
        yield from help_lines(self._bindings.key_map, self._game.action_names, commands)
