"""Play in a terminal, for machines reached over ssh: two pixels a character, in true colour."""

import os
import select
import shutil
import sys
import time
from collections.abc import Iterator

import numpy as np

from worldflow.demos.bindings import Bindings
from worldflow.demos.conductor import Conductor
from worldflow.demos.hud import badges, hud_lines
from worldflow.demos.keys import Keypad
from worldflow.demos.picture import panels
from worldflow.demos.view import Frame, Game
from worldflow.envs.area import AreaResize
from worldflow.errors import InputError

DISPLAY_RATE = 30  # pictures a second; a terminal over a network carries no more
HOLD_SECONDS = 0.25  # a terminal tells no release: a key is held for so long
NOTICE_SECONDS = 3.0
# What terminals send for keys that are no character.
ESCAPES = {
    "\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left",
    "\x1bOA": "up", "\x1bOB": "down", "\x1bOC": "right", "\x1bOD": "left",
    "\x1b[5~": "page up", "\x1bOP": "f1", "\x1b[15~": "f5",
    "\x7f": "backspace", "\b": "backspace", "\t": "tab", "\r": "return", " ": "space",
    "\x1b": "escape",
}  # fmt: skip
ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J"  # another screen, no cursor
LEAVE = "\x1b[0m\x1b[?25h\x1b[?1049l"


def keys_in(text: str) -> Iterator[str]:
    """The pygame names of the keys whose bytes a terminal sent."""
    while text:
        known = (code for code in ESCAPES if text.startswith(code))
        code = max(known, key=len, default=text[0])
        yield ESCAPES.get(code, code)
        text = text[len(code) :]


def half_blocks(frame: Frame) -> str:
    """`(H, W, 3)`, H even, as H/2 lines of W characters: above the text's colour, below the
    ground's."""
    lines = []
    for above, below in zip(frame[0::2], frame[1::2], strict=True):
        cells = []
        last = None
        for top, bottom in zip(above.tolist(), below.tolist(), strict=True):
            colours = (*top, *bottom)
            if colours != last:
                cells.append("\x1b[38;2;{};{};{};48;2;{};{};{}m".format(*colours))
            cells.append("▀")
            last = colours
        lines.append("".join(cells) + "\x1b[0m\x1b[K")
    return "\r\n".join(lines)


def fitted(frame: Frame, columns: int, lines: int) -> Frame:
    """The frame as it is where it fits, else smaller by area; its height is even."""
    height, width = frame.shape[:2]
    size = min(columns, 2 * lines)
    if max(height, width) > size:
        frame = AreaResize(height, width, max(2, size // 2 * 2))(frame)
    return frame[: len(frame) // 2 * 2]


class Terminal:
    """The window's loop for a terminal.

    Raises:
        InputError: this is no terminal that tells single keys.
    """

    def __init__(self, game: Game, bindings: Bindings, *, frame_rate: int, steps: int) -> None:
        if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.name == "nt":
            raise InputError("terminal=true: this is no terminal (nor over a pipe, nor on Windows)")
        self._game, self._bindings = game, bindings
        self._keypad = Keypad(bindings.key_map)
        self._conductor = Conductor(game, self._keypad, frame_rate=frame_rate, steps=steps)
        self._held: dict[str, float] = {}  # until when
        self._quit = False
        self._notice = (0, 0.0)  # number, until when

    def run(self) -> None:
        """Play until the player quits or the configured steps are done."""
        import termios
        import tty

        before = termios.tcgetattr(sys.stdin)
        try:
            tty.setcbreak(sys.stdin)
            sys.stdout.write(ENTER)
            self._conductor.start()
            while not (self._quit or self._conductor.finished):
                self._read(1 / DISPLAY_RATE)
                self._draw()
        finally:
            self._conductor.stop()
            self._game.close()
            sys.stdout.write(LEAVE)
            sys.stdout.flush()
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        if self._conductor.error is not None:
            raise self._conductor.error

    def _read(self, seconds: float) -> None:
        """Take in keys for so long."""
        until = time.perf_counter() + seconds
        while (left := until - time.perf_counter()) > 0:
            if select.select([sys.stdin], [], [], left)[0]:
                for key in keys_in(os.read(sys.stdin.fileno(), 1024).decode(errors="ignore")):
                    self._press(key)
            now = time.perf_counter()
            for key in [key for key, end in self._held.items() if end < now]:
                self._keypad.release(key)
                del self._held[key]

    def _press(self, key: str) -> None:
        if self._keypad.press(key):
            self._held[key] = time.perf_counter() + HOLD_SECONDS
            return
        command = self._bindings.command_of(key)
        if command == "quit":
            self._quit = True
        elif command is not None:
            self._conductor.order(command)

    def _draw(self) -> None:
        view, pace = self._conductor.view, self._conductor.pace
        columns, lines = shutil.get_terminal_size()
        shown = panels(view)[:2] if columns >= 2 * view.frame.shape[1] else [view.frame]
        picture = np.concatenate([fitted(f, columns // len(shown), lines - 4) for f in shown], 1)
        texts = [" ".join(text for text, _ in badges(view, pace)) + f"  {view.over}"]
        texts += ["  ".join(words) for words in hud_lines(view, pace, self._game.action_names)]
        if view.surprise:
            texts[0] += f"  surprise {view.surprise[-1]:+.0f} bits"
        number, text = view.notice
        if number != self._notice[0]:
            self._notice = (number, time.perf_counter() + NOTICE_SECONDS)
        if time.perf_counter() < self._notice[1]:
            texts[2] = text
        below = "\r\n".join(f"{text[: columns - 1]}\x1b[K" for text in texts)
        sys.stdout.write(f"\x1b[H{half_blocks(picture)}\r\n{below}\x1b[J")
        sys.stdout.flush()
