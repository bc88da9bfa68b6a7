"""From `key=value` to one typed dataclass; Hydra and OmegaConf stay in this file.

A verb's defaults are `conf/VERB.yaml`, its schema is a frozen dataclass with the same keys.
Types that OmegaConf knows: int, float, bool, str, Path, enums, `| None`, `list`, `tuple[X, ...]`,
`dict[str, X]` and nested dataclasses (no `Literal`).
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    Glob,
    IntervalSweep,
    Override,
    OverrideType,
)
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from worldflow.conf import option_names
from worldflow.errors import InputError, did_you_mean

T = TypeVar("T")


@dataclass(frozen=True)
class Source(Generic[T]):
    """Where a verb's configuration comes from."""

    verb: str  # its defaults are conf/VERB.yaml
    schema: type[T]  # a dataclass with the keys of that file
    example: str  # a whole command, shown when a value is missing


@dataclass(frozen=True)
class Job(Generic[T]):
    """One run of a sweep."""

    name: str  # "0_steps=100", also its folder in the sweep's `out`
    config: T


def read_config(source: Source[T], overrides: Sequence[str], given: Mapping[str, str]) -> T:
    """The verb's defaults with `overrides`.

    Args:
        source: the defaults and their schema.
        overrides: `key=value` in Hydra's grammar.
        given: keys whose values are taken as they stand, outside of the grammar.

    Raises:
        InputError: unknown key or group option, wrong type, missing value, bad syntax, a sweep.
    """
    parsed = [_parse(text) for text in overrides]
    for override in parsed:
        _check(override, source.schema, given)
        if override.is_sweep_override():
            raise InputError(
                f"{override.input_line} names several values: add -m to run them one after the "
                f'other, or quote it: "{_quoted(str(override.input_line))}"'
            )
    return _compose(source, [str(override.input_line) for override in parsed], given)


def read_sweep(
    source: Source[T], overrides: Sequence[str], given: Mapping[str, str]
) -> list[Job[T]]:
    """Every combination of the values in `overrides`, each with a folder of its own in `out`.

    Arguments and errors are those of `read_config`, but that a sweep is asked for.
    """
    parsed = [_parse(text) for text in overrides]
    fixed = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
    axes = [_values(override) for override in parsed if override.is_sweep_override()]
    if not axes:
        raise InputError("-m has nothing to sweep: give a key several values, as in seed=0,1,2")
    jobs = []
    for index, chosen in enumerate(itertools.product(*axes)):
        # The index keeps folders apart whose values differ only in what a name cannot hold.
        name = f"{index}_" + re.sub(r"[^\w.=+-]+", "-", "_".join(chosen))
        jobs.append(Job(name, _moved(read_config(source, [*fixed, *chosen], given), name)))
    return jobs


def _check(override: Override, schema: type, given: Mapping[str, str]) -> None:
    """Raises InputError unless `override` sets a key that there is, and an option of a group."""
    key = override.key_or_group
    if override.type is not OverrideType.CHANGE or override.package is not None:
        raise InputError(f"{override.input_line}: expected key=value, without +, ~ or @")
    known = set(_keys(schema))
    if key not in known:
        raise InputError(f"unknown key '{key}', {did_you_mean(key, known)}")
    if key in given:
        raise InputError(f"{override.input_line} and '{given[key]}' both name the {key}")
    options = option_names(key)
    if options and not override.is_sweep_override() and override.value() not in options:
        option = str(override.value())
        raise InputError(f"unknown {key} '{option}', {did_you_mean(option, options)}")


def _parse(text: str) -> Override:
    """`key=value` as Hydra reads it."""
    parser = OverridesParser.create()
    try:
        return parser.parse_override(text)
    except HydraException as error:
        key, _, value = text.partition("=")
        # Hydra's grammar refuses many signs that a path may well hold (é, ~, &, a second =).
        if re.fullmatch(r"[\w.]+", key) and not re.search(r"[\[\](){}'\",$\\]", value):
            return parser.parse_override(_quoted(text))
        reason = str(error).splitlines()[0]
        raise InputError(f'cannot read {text} ({reason}); quote it: "{_quoted(text)}"') from error


def _quoted(text: str) -> str:
    key, _, value = text.partition("=")
    escaped = value.replace("'", "\\'")
    return f"{key}='{escaped}'"


def _keys(schema: type, prefix: str = "") -> Iterator[str]:
    for name, hint in get_type_hints(schema).items():
        yield prefix + name
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from _keys(hint, f"{prefix}{name}.")


def _values(override: Override) -> list[str]:
    """`key=value` for each value of a choice or range."""
    if isinstance(override.value(), Glob | IntervalSweep):
        raise InputError(f"{override.input_line}: only a,b,c, choice(...) and range(...) can sweep")
    values = override.sweep_string_iterator()
    return [f"{override.get_key_element()}={value}" for value in values]


def _moved(config: T, name: str) -> T:
    """`config` with `out` moved into a folder of its own."""
    out = getattr(config, "out", None)
    if out is None:
        raise InputError("a sweep needs out=FOLDER, for a folder of its own for each run")
    return dataclasses.replace(config, out=type(out)(Path(out) / name))  # type: ignore[type-var]


def _compose(source: Source[T], overrides: Sequence[str], given: Mapping[str, str]) -> T:
    try:
        with hydra.initialize_config_module("worldflow.conf", version_base="1.3"):
            composed = hydra.compose(source.verb, list(overrides))
        config = OmegaConf.structured(source.schema)
        _thaw(config)
        config = OmegaConf.merge(config, composed, dict(given))
        if missing := sorted(OmegaConf.missing_keys(config)):
            raise InputError(f"{missing[0]}=... is missing; for example: {source.example}")
        values = OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        key = getattr(error, "full_key", None)
        reason = str(error).splitlines()[0]
        raise InputError(f"{key}: {reason}" if key else reason) from error
    return _typed(source.schema, values)


def _thaw(config: DictConfig) -> None:
    """Lets a frozen dataclass's schema take values; nested ones keep a flag each."""
    OmegaConf.set_readonly(config, None)
    for key in config:
        if isinstance(node := config._get_node(key), DictConfig):
            _thaw(node)


def _typed(schema: type[T], values: Any) -> T:
    """`schema` from a tree of plain values."""
    arguments = {}
    for name, hint in get_type_hints(schema).items():
        value = values[name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            value = _typed(hint, value)
        elif get_origin(hint) is tuple:
            if Ellipsis not in get_args(hint) and len(value) != len(get_args(hint)):
                raise InputError(f"{name}={value}: expected {len(get_args(hint))} values")
            value = tuple(value)
        arguments[name] = value
    return schema(**arguments)
