"""A float16 export beside PyTorch; a file of its own, since files run side by side."""

from pathlib import Path

from tiny_world import tiny_world

from worldflow.agreement import compare
from worldflow.card import Playable
from worldflow.onnx_engine import OnnxEngine
from worldflow.onnx_graph import to_onnx
from worldflow.torch_engine import TorchEngine


def test_half_precision_is_near(tmp_path: Path) -> None:
    world, path = tiny_world(), tmp_path / "float16.onnx"
    path.write_bytes(to_onnx(world, "float16"))
    engine = OnnxEngine(path, threads=1)
    assert engine.dtype == "float16"
    ours = Playable(world.card, engine, world.start_frames, world.start_actions)
    found = compare(ours, TorchEngine(world), rows=4, steps=24, tolerance=2)
    assert found.share_within >= 0.99
    exact = compare(ours, TorchEngine(world), rows=4, steps=24, tolerance=0)
    assert exact.share_within < 1  # it is another precision indeed
