"""From `key=value` to one typed dataclass where Hydra is not installed.

An exported world plays with NumPy, pygame, Gymnasium and ONNX Runtime alone. There the command
line takes a verb's defaults from its dataclass, and values in the plain forms that Hydra reads,
too: numbers, words, true, false, null, and lists [a,b]. Sweeps and config groups need Hydra.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from worldflow.errors import InputError, did_you_mean

T = TypeVar("T")

NEEDS_HYDRA = "needs the package hydra-core: pip install hydra-core"
PLAIN: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (int, "a whole number"),
    float: (float, "a number"),
    str: (str, "a word"),
    Path: (Path, "a path"),
    bool: ({"true": True, "false": False}.__getitem__, "true or false"),
}


def read_plain(
    verb: str, schema: type[T], overrides: Sequence[str], given: Mapping[str, str], example: str
) -> T:
    """The defaults of `schema` with `overrides`.

    Args:
        verb: for messages.
        schema: a dataclass; without nested ones, which are config groups.
        overrides: `key=value`.
        given: keys whose values are taken as they stand.
        example: a whole command, shown when a value is missing.

    Raises:
        InputError: unknown key, wrong type, missing value, or what only Hydra can read.
    """
    hints = get_type_hints(schema)
    if any(dataclasses.is_dataclass(hint) for hint in hints.values()):
        raise InputError(f"{verb} {NEEDS_HYDRA}")
    values: dict[str, Any] = {}
    for text in overrides:
        key, _, value = text.partition("=")
        if key not in hints:
            raise InputError(f"unknown key '{key}', {did_you_mean(key, hints)}")
        if key in given:
            raise InputError(f"{text} and '{given[key]}' both name the {key}")
        values[key] = _typed(key, value, hints[key])
    values |= {key: _typed(key, value, hints[key]) for key, value in given.items()}
    for field in dataclasses.fields(schema):  # type: ignore[arg-type]
        if field.default is dataclasses.MISSING and field.name not in values:
            raise InputError(f"{field.name}=... is missing; for example: {example}")
    return schema(**values)


def _typed(key: str, text: str, hint: Any) -> Any:
    """`text` as the type `hint`."""
    options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if text == "null" and NoneType in options:
        return None
    (kind,) = (option for option in options if option is not NoneType)
    if get_origin(kind) is tuple:
        items = [item.strip() for item in text.removeprefix("[").removesuffix("]").split(",")]
        return tuple(_typed(key, item, get_args(kind)[0]) for item in items if item)
    if kind not in PLAIN:
        raise InputError(f"{key}={text} {NEEDS_HYDRA}")
    convert, expected = PLAIN[kind]
    try:
        return convert(text)
    except (KeyError, ValueError) as error:
        raise InputError(f"{key}={text}: expected {expected}") from error
