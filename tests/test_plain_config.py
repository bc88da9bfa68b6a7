"""`key=value` without Hydra means what it means with it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from worldflow.config import Source, read_config
from worldflow.demos.play import PlayConfig
from worldflow.errors import InputError
from worldflow.plain_config import read_plain

OVERRIDES = [
    "seed=7",
    "temperature=0.5",
    "record=true",
    "fullscreen=false",
    "films=[gif,webp]",
    "keys=my keys.yaml",
    "player=random",
    "episode=null",
]


def plain(*overrides: str, given: dict[str, str] | None = None) -> PlayConfig:
    return read_plain("play", PlayConfig, overrides, given or {}, "worldflow play breakout")


def test_it_reads_what_hydra_reads() -> None:
    given = {"world": "a=b.onnx"}
    source = Source("play", PlayConfig, "worldflow play breakout")
    assert plain(*OVERRIDES, given=given) == read_config(source, OVERRIDES, given)
    assert plain() == read_config(source, [], {})
    assert plain("films=[]").films == ()


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("sed=1", "unknown key 'sed', did you mean 'seed'"),
        ("seed=x", "seed=x: expected a whole number"),
        ("record=1", "record=1: expected true or false"),
        ("steps=null", "steps=null: expected a whole number"),
        ("world=b.onnx", "world=b.onnx and 'a.onnx' both name the world"),
    ],
)
def test_what_cannot_be_read_is_named(override: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        plain(override, given={"world": "a.onnx"})


@dataclass(frozen=True)
class Group:
    """Of a config group."""

    size: int = 1


@dataclass(frozen=True)
class Grouped:
    """With a config group."""

    group: Group


@dataclass(frozen=True)
class Needy:
    """With a value that must be given."""

    out: Path


def test_groups_are_left_to_hydra() -> None:
    with pytest.raises(InputError, match="train needs the package hydra-core: pip install"):
        read_plain("train", Grouped, [], {}, "worldflow train")


def test_a_missing_value_is_asked_for() -> None:
    with pytest.raises(InputError, match=r"out=\.\.\. is missing; for example: worldflow x out=a"):
        read_plain("x", Needy, [], {}, "worldflow x out=a")
    assert read_plain("x", Needy, ["out=a/b"], {}, "").out == Path("a/b")
