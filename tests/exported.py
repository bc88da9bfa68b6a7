"""A tiny world as an `.onnx`: exporting takes seconds, so a run of the tests does it once."""

from functools import cache
from pathlib import Path

from tiny_world import tiny_world

from worldflow.onnx_graph import to_onnx


@cache
def tiny_onnx() -> bytes:
    return to_onnx(tiny_world())


def write_onnx(folder: Path, name: str = "tiny.onnx") -> Path:
    path = folder / name
    path.write_bytes(tiny_onnx())
    return path
