"""From keys that go down and up to the action of the next step."""

import threading
from collections.abc import Mapping

ALIASES = {"a": "left", "d": "right", "w": "up", "s": "down"}


class Keypad:
    """Holds which keys count for the next step.

    A key counts while it is held, and once after a tap that came and went between two steps:
    nobody's press may be lost at 15 steps a second. The action is that of the largest set of
    the key map wholly pressed; of sets of one size, that with the key pressed last.
    W, A, S and D stand for the arrows where the game does not use them itself.
    One thread may press while another asks for the action.

    Args:
        key_map: pygame key names joined by "+" -> action, "" for nothing pressed
            (action 0 where it is missing). `{"": 0, "left": 3, "up+left": 7}`
    """

    def __init__(self, key_map: Mapping[str, int]) -> None:
        self._idle = key_map.get("", 0)
        self._chords = {frozenset(keys.split("+")): act for keys, act in key_map.items() if keys}
        self._keys = {key for chord in self._chords for key in chord}
        self._held: set[str] = set()
        self._taps: set[str] = set()  # went down since the last step
        self._order: dict[str, int] = {}  # key -> number of its last press
        self._presses = 0
        self._lock = threading.Lock()

    def press(self, key: str) -> bool:
        """A key went down. Returns whether the game uses it."""
        key = self._name(key)
        if key not in self._keys:
            return False
        with self._lock:
            if key not in self._held:  # else the keyboard repeats it
                self._presses += 1
                self._order[key] = self._presses
                self._taps.add(key)
            self._held.add(key)
        return True

    def release(self, key: str) -> None:
        """A key went up. If it went down since the last step, it counts for the next one."""
        with self._lock:
            self._held.discard(self._name(key))

    def release_all(self) -> None:
        """No key is held any more: the window has lost the keyboard."""
        with self._lock:
            self._held.clear()

    def next_action(self) -> int:
        """The action for the step that is now taken; taps are used up by it."""
        with self._lock:
            pressed = self._held | self._taps
            self._taps.clear()
        matches = [chord for chord in self._chords if chord <= pressed]
        if not matches:
            return self._idle
        return self._chords[max(matches, key=self._rank)]

    def forget_taps(self) -> None:
        """From now on only what is held counts."""
        with self._lock:
            self._taps.clear()

    def _name(self, key: str) -> str:
        return key if key in self._keys else ALIASES.get(key, key)

    def _rank(self, chord: frozenset[str]) -> tuple[int, list[int]]:
        return len(chord), sorted((self._order[key] for key in chord), reverse=True)
