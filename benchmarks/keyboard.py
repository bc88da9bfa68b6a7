"""Keys that a program presses in a window of worldflow, from a thread of its own."""

import subprocess
import time

import pygame

# What the X server calls keys for which pygame has another name.
X_NAMES = {
    "left": "Left", "right": "Right", "up": "Up", "down": "Down", "backspace": "BackSpace",
    "page up": "Prior", "tab": "Tab", "return": "Return", "escape": "Escape", "f1": "F1",
    "f5": "F5", "f11": "F11", "[": "bracketleft", "]": "bracketright", ",": "comma",
    ".": "period", "+": "plus", "-": "minus",
}  # fmt: skip


class Keyboard:
    """Presses keys by their pygame names.

    Args:
        real: type on the X server, by xdotool, in whatever window has the keyboard; else the
            events are posted to pygame, with any of SDL's drivers.
    """

    def __init__(self, *, real: bool) -> None:
        self._typist = (
            subprocess.Popen(["xdotool", "-"], stdin=subprocess.PIPE, text=True) if real else None
        )

    def press(self, key: str) -> None:
        """The key goes down."""
        if self._typist is not None:
            self._type(f"keydown {X_NAMES.get(key, key)}")
        else:
            typed = key if len(key) == 1 else ""
            post(pygame.KEYDOWN, key=pygame.key.key_code(key), unicode=typed)

    def release(self, key: str) -> None:
        """The key goes up."""
        if self._typist is not None:
            self._type(f"keyup {X_NAMES.get(key, key)}")
        else:
            post(pygame.KEYUP, key=pygame.key.key_code(key))

    def tap(self, key: str, seconds: float = 0.03) -> None:
        """The key goes down and up."""
        self.press(key)
        time.sleep(seconds)
        self.release(key)

    def close(self) -> None:
        """Let the typist go."""
        if self._typist is not None:
            self._typist.communicate()

    def _type(self, line: str) -> None:
        assert self._typist is not None
        assert self._typist.stdin is not None
        self._typist.stdin.write(line + "\n")
        self._typist.stdin.flush()


def post(kind: int, **about: object) -> None:
    """An event for the window's loop; lost, like a real one, where there is no window."""
    if pygame.display.get_init():
        pygame.event.post(pygame.event.Event(kind, about))


def wait_for_window(seconds: float = 60.0) -> None:
    """Until the window is up."""
    until = time.monotonic() + seconds
    while not (pygame.display.get_init() and pygame.display.get_surface()):
        if time.monotonic() > until:
            raise TimeoutError("no window came up")
        time.sleep(0.05)
    time.sleep(0.5)
