"""A gamepad as keys: its events become names of keys and commands that go down and up."""

from collections.abc import Iterator, Mapping

import pygame

DEAD_ZONE = 0.5  # of a stick's way
AXES = {0: ("left", "right"), 1: ("up", "down")}


class Pad:
    """All pads that are plugged in, as one.

    Args:
        meanings: "left", "right", "up", "down" (stick or cross) and "button N" -> what it is.
    """

    def __init__(self, meanings: Mapping[str, str]) -> None:
        self._meanings = meanings
        self._pads: dict[int, pygame.joystick.JoystickType] = {}
        self._down: set[str] = set()

    def handle(self, event: pygame.event.Event) -> Iterator[tuple[str, bool]]:
        """What an event changes: (meaning, whether it went down)."""
        if event.type == pygame.JOYDEVICEADDED:
            pad = pygame.joystick.Joystick(event.device_index)
            self._pads[pad.get_instance_id()] = pad  # it tells events while it is held here
        elif event.type == pygame.JOYDEVICEREMOVED:
            self._pads.pop(event.instance_id, None)
            for control in tuple(self._down):
                yield from self._set(control, False)
        elif event.type == pygame.JOYAXISMOTION and event.axis in AXES:
            less, more = AXES[event.axis]
            yield from self._set(less, event.value < -DEAD_ZONE)
            yield from self._set(more, event.value > DEAD_ZONE)
        elif event.type == pygame.JOYHATMOTION:
            across, upwards = event.value
            for control, down in zip(
                ("left", "right", "up", "down"),
                (across < 0, across > 0, upwards > 0, upwards < 0),
                strict=True,
            ):
                yield from self._set(control, down)
        elif event.type in (pygame.JOYBUTTONDOWN, pygame.JOYBUTTONUP):
            yield from self._set(f"button {event.button}", event.type == pygame.JOYBUTTONDOWN)

    def _set(self, control: str, down: bool) -> Iterator[tuple[str, bool]]:
        if control not in self._meanings or down == (control in self._down):
            return
        (self._down.add if down else self._down.discard)(control)
        yield self._meanings[control], down
