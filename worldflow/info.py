"""`worldflow info WORLD` and `worldflow list`: what a world file or an export tells of itself."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldflow.card import WorldCard
from worldflow.errors import InputError


@dataclass(frozen=True)
class InfoConfig:
    """The keys of `worldflow info`."""

    world: str  # a shipped name, a run folder, a .safetensors or an .onnx file
    out: Path | None = None  # also a JSON file


@dataclass(frozen=True)
class ListConfig:
    """The keys of `worldflow list`."""

    out: Path | None = None  # also a JSON file


def info(config: InfoConfig) -> None:
    """Print a world's game, actions, keys, training, cost, figures and hash.

    Raises:
        InputError: no such world, not a world, or `out` already there.
    """
    path = Path(config.world)
    facts = export_facts(path) if path.suffix == ".onnx" else world_facts(config.world)
    if config.out is not None:
        write_new_json(config.out, facts)
    print(as_table(facts))


def world_facts(what: str) -> dict[str, Any]:
    """All that the world `what` (name, run folder or file) tells of itself, ready for JSON."""
    from worldflow.world import World, resolve_world

    path = resolve_world(what)
    world = World.load(path)
    return {
        **_facts(world.card, path, world.hash, world.start_frames.shape),
        "parameters": sum(parameter.numel() for parameter in world.model.parameters()),
        "training": world.card.training,
        "metrics": world.card.metrics,
    }


def export_facts(path: Path) -> dict[str, Any]:
    """The same of an `.onnx` that `worldflow export` has made; needs no PyTorch."""
    from worldflow.onnx_file import open_file

    file = open_file(path)
    about = file.about
    return {
        **_facts(about.card, path, about.world_hash, file.start_frames.shape),
        "format": "ONNX, one streamed step",
        "dtype": about.dtype,
        "parameters": about.parameters,
        "gflop_per_frame": about.gflop_per_frame,
        "training": about.card.training,
        "metrics": about.card.metrics,
    }


def _facts(card: WorldCard, path: Path, world_hash: str, starts: tuple[int, ...]) -> dict[str, Any]:
    """What both kinds of files have; `starts` is the shape of the start frames."""
    return {
        "name": card.name,
        "file": str(path),
        "bytes": path.stat().st_size,
        "hash": world_hash,
        "game": card.game,
        "settings": card.settings,
        "frame_size": list(starts[2:4]),
        "frame_rate": card.frame_rate,
        "max_episode_steps": card.max_episode_steps,
        "actions": list(card.action_names),
        "keys": {keys or "none": card.action_names[a] for keys, a in card.key_map.items()},
        "starts": starts[0],
        "frames_per_start": starts[1],
    }


def list_worlds(config: ListConfig) -> None:
    """Print the shipped worlds: name, game, size of the file.

    Raises:
        InputError: `out` is already there.
    """
    from worldflow.world import read_about, resolve_world, world_names

    worlds = []
    for name in world_names():
        path = resolve_world(name)
        card = read_about(path)["card"]
        worlds.append({"name": name, "game": card["game"], "bytes": path.stat().st_size})
    if config.out is not None:
        write_new_json(config.out, worlds)
    if not worlds:
        print("this copy of worldflow ships no worlds; make one: worldflow train --help")
    wide = {key: max((len(world[key]) for world in worlds), default=0) for key in ("name", "game")}
    for world in worlds:
        columns = (f"{world[key]:{width}}" for key, width in wide.items())
        print(*columns, f"{world['bytes'] / 1e6:.1f} MB", sep="  ")


def as_table(facts: dict[str, Any]) -> str:
    """`facts` one to a line, those of a nested dict indented below its name.

    >>> print(as_table({"name": "toy", "keys": {"left": "LEFT"}, "training": {}}))
    name  toy
    keys
      left  LEFT
    """
    lines = []
    shown = {name: value for name, value in facts.items() if value not in ({}, [], None)}
    plain = [name for name, value in shown.items() if not isinstance(value, dict)]
    width = max(map(len, plain), default=0)
    for name, value in shown.items():
        if isinstance(value, dict):
            lines += [name, *("  " + line for line in as_table(value).splitlines())]
        else:
            listed = ", ".join(map(str, value)) if isinstance(value, list) else value
            lines.append(f"{name:{width}}  {listed}")
    return "\n".join(lines)


def write_new_json(path: Path, facts: Any) -> None:
    """Write `facts` to a file that is not there yet; InputError if it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(facts, indent=2) + "\n")
    except FileExistsError:
        raise InputError(f"{path} is already there: name another file, or remove it") from None
