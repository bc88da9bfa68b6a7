"""Which keys and pad buttons do what: the defaults, and a player's own file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from worldflow.errors import InputError, did_you_mean

# By pygame key name or the character typed. The game's own keys come first.
KEYS = {
    "pause": ("p", "pause"),
    "single_step": ("n", "."),
    "restart": ("r",),
    "faster": ("+", "=", "[+]"),
    "slower": ("-", "[-]"),
    "source": ("tab",),
    "split": ("v",),
    "take_over": ("t",),
    "next_player": ("y",),
    "hotter": ("]", "*"),
    "colder": ("[", "/"),
    "step_back": (",",),
    "back": ("backspace",),
    "far_back": ("page up",),
    "same_luck": ("l",),
    "record": ("c", "f5"),
    "seed": ("g",),
    "hud": ("h",),
    "fullscreen": ("f11", "f"),
    "help": ("f1",),
    "quit": ("escape", "q"),
}
MEANINGS = {
    "pause": "pause, go on",
    "single_step": "one step, then pause",
    "restart": "a new game",
    "faster": "faster",
    "slower": "slower",
    "source": "real game, dream",
    "split": "dream, real game and their difference",
    "take_over": "hand over, take over",
    "next_player": "another player",
    "hotter": "higher temperature",
    "colder": "lower temperature",
    "step_back": "one step back",
    "back": "a second back",
    "far_back": "15 seconds back",
    "same_luck": "4 seconds back, the same luck again",
    "record": "record, stop",
    "seed": "type the seed of a new game",
    "hud": "figures on and off",
    "fullscreen": "full screen",
    "help": "this help",
    "quit": "quit",
}
# What a pad's controls stand for: a key of the game, or a command.
PAD = {
    "left": "left",
    "right": "right",
    "up": "up",
    "down": "down",
    "button 0": "space",
    "button 1": "source",
    "button 2": "back",
    "button 3": "take_over",
    "button 4": "slower",
    "button 5": "faster",
    "button 6": "record",
    "button 7": "pause",
}
SECTIONS = ("actions", "commands", "pad")


@dataclass(frozen=True)
class Bindings:
    """What every key and pad control does."""

    key_map: Mapping[str, int]  # pygame key names joined by "+" -> action, "" = nothing held
    keys: Mapping[str, Sequence[str]] = field(default_factory=lambda: dict(KEYS))  # by command
    pad: Mapping[str, str] = field(default_factory=lambda: dict(PAD))

    def command_of(self, *names: str) -> str | None:
        """The command of a key, told by any of its names."""
        return next((c for c, keys in self.keys.items() if set(names) & set(keys)), None)


def read_bindings(path: Path, bindings: Bindings, action_names: Sequence[str]) -> Bindings:
    """`bindings` with what a YAML file changes; see docs/playing.md.

    Raises:
        InputError: no such file, or an action, command or pad control that there is not.
    """
    import yaml  # type: ignore[import-untyped]

    try:
        told: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"keys={path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"keys={path}: is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(told, dict):
        raise InputError(f"keys={path}: expected some of the sections {', '.join(SECTIONS)}")
    for section, content in told.items():
        _check(path, section, SECTIONS)
        if not isinstance(content, dict):
            raise InputError(f"keys={path}: {section} must be lines of NAME: VALUE")
    if "actions" in told:
        bindings = replace(bindings, key_map=_key_map(path, told["actions"], action_names))
    keys = {str(name): _names(value) for name, value in told.get("commands", {}).items()}
    for name in keys:
        _check(path, name, KEYS)
    pad = {str(name): str(value) for name, value in told.get("pad", {}).items()}
    for name in pad:
        if not name.startswith("button "):
            _check(path, name, PAD)
    # A key that is given to something else is taken from what it did before.
    taken = {key for names in keys.values() for key in names}
    kept = {name: tuple(k for k in bindings.keys[name] if k not in taken) for name in KEYS}
    return replace(bindings, keys=kept | keys, pad={**bindings.pad, **pad})


def _key_map(path: Path, told: Mapping[Any, Any], action_names: Sequence[str]) -> dict[str, int]:
    """`{"left": "LEFT"}` by name or number to `{"left": 3}`."""
    numbers = {name.lower(): action for action, name in enumerate(action_names)}
    numbers |= {str(action): action for action in range(len(action_names))}
    key_map = {}
    for keys, action in told.items():
        _check(path, str(action).lower(), numbers)
        name = "" if keys is None else str(keys).lower()
        key_map[name] = numbers[str(action).lower()]
    return {"": 0} | key_map


def _names(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(str(name).lower() for name in values)


def _check(path: Path, name: Any, known: Any) -> None:
    if name not in known:
        raise InputError(f"keys={path}: there is no '{name}'; {did_you_mean(str(name), known)}")
