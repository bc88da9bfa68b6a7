"""A tiny world as an `.onnx`: exporting takes seconds, so a run of the tests does it once."""

import os
import tempfile
from functools import cache
from pathlib import Path

from tiny_world import tiny_world

from worldflow.onnx_graph import to_onnx

NOT_CAPTURED = {"If", "Loop", "Scan", "Shape", "NonZero", "Asinh", "RandomNormal"}
"""Operators that keep a GPU from capturing a graph: those that a CPU has to see to."""


@cache
def tiny_onnx() -> bytes:
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")  # one for all processes of a run
    if run is None:
        return to_onnx(tiny_world())
    shared = Path(tempfile.gettempdir(), f"worldflow-{run}.onnx")
    if not shared.exists():
        own = shared.with_suffix(f".{os.getpid()}")
        own.write_bytes(to_onnx(tiny_world()))
        own.replace(shared)
    return shared.read_bytes()


def write_onnx(folder: Path, name: str = "tiny.onnx") -> Path:
    path = folder / name
    path.write_bytes(tiny_onnx())
    return path
