"""Exports that `engine=onnx` has made of worlds, kept for the next time."""

import hashlib
import sys
from functools import cache
from pathlib import Path

from worldflow.onnx_session import cache_folder
from worldflow.whole_file import write_whole
from worldflow.world import World

KEPT = 8  # files; a world in training has another hash each time it is saved
# What decides how a graph looks: exports of other versions of these are not used.
SOURCES = (
    *("onnx_graph", "onnx_ops", "onnx_file", "errors"),
    *("model", "base", "tracking", "trunk", "flow", "coarse", "ways", "sites", "evidence"),
    *("course", "patch", "waiting", "mixture", "mixture_head", "haar"),
)


def exported_copy(world: World) -> Path:
    """The world's export, made now if there is none.

    Raises:
        InputError: it has to be made, and onnx or onnxscript is not installed.
        WorkError: it cannot be written.
    """
    path = _path(world)
    if not path.is_file():
        from worldflow.onnx_graph import to_onnx

        print(f"{world.card.name}: exporting to ONNX, this once", file=sys.stderr)
        data = to_onnx(world)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
        for old in sorted(path.parent.glob("*.onnx"), key=_age)[KEPT:]:
            old.unlink(missing_ok=True)
    return path


def has_exported_copy(world: World) -> bool:
    """Whether there is one already."""
    return _path(world).is_file()


def _path(world: World) -> Path:
    return cache_folder() / f"{world.hash}-{_version()}.onnx"


@cache
def _version() -> str:
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((folder / f"{name}.py").read_bytes())
    return digest.hexdigest()[:16]


def _age(path: Path) -> float:
    return -path.stat().st_mtime
