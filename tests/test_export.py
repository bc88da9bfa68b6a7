"""The verb `export`, and what it makes of a world's numbers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import tiny_onnx
from tiny_world import random_actions, random_frames, tiny_model, tiny_world

from worldflow import export_cache, onnx_graph
from worldflow.cli import main
from worldflow.export_cache import exported_copy, has_exported_copy
from worldflow.model import StreamState
from worldflow.onnx_engine import OnnxEngine
from worldflow.onnx_ops import folded, halved


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a world's own file, whose export is made already."""
    monkeypatch.setattr(onnx_graph, "to_onnx", lambda world, dtype="float32": tiny_onnx())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tiny_world().save(tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def step(model: torch.nn.Module, state: StreamState, rows: int) -> tuple[torch.Tensor, ...]:
    noise = torch.randn(rows, model.noise_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.step(state, torch.ones(rows, dtype=torch.int64), noise, torch.ones(rows))


def some_state(rows: int) -> StreamState:
    model, frames = tiny_model(), torch.from_numpy(random_frames(rows, 3))
    actions, state = torch.from_numpy(random_actions(rows, 2)), model.first_state(frames[:, 0])
    with torch.no_grad():
        for t in range(2):
            _, state = model.advance(state, actions[:, t])
            state = model.observe(state, frames[:, t + 1])
    return state


def test_the_verb_writes_a_file_that_runs(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "tiny.onnx"
    assert main(["export", str(world), f"out={out}"]) == 0
    assert str(out) in capsys.readouterr().out
    assert OnnxEngine(out).world_hash == tiny_world().hash


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["out=tiny.zip"], "expected a file that ends in .onnx"),
        (["out=taken.onnx"], "already there"),
        (["out=tiny.onnx", "dtype=float17"], "did you mean 'float16'?"),
    ],
)
def test_bad_values_are_told(
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.onnx").write_text("mine")
    assert main(["export", str(world), *arguments]) == 2
    assert complaint in capsys.readouterr().err
    assert Path("taken.onnx").read_text() == "mine"
    assert not Path("tiny.onnx").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"package {package}: pip install 'worldflow\[export\]'"):
        onnx_graph.to_onnx(tiny_world())


def test_folding_the_norms_changes_no_number() -> None:
    """Nor the model it is made from."""
    model, state = tiny_model(), some_state(2)
    before = step(model, state, 2)
    frame, _, p_terminated, _, after = step(folded(model), state, 2)
    assert int((frame.int() - before[0].int()).abs().max()) <= 1
    torch.testing.assert_close(p_terminated, before[2])
    torch.testing.assert_close(after.keys, before[4].keys, atol=1e-5, rtol=1e-5)
    assert torch.equal(step(model, state, 2)[2], before[2])


def test_half_precision_draws_nearly_the_same() -> None:
    """And leaves frames, rewards, ends and the state of the types they are."""
    model, state = tiny_model(), some_state(4)
    before = step(model, state, 4)
    after = step(halved(model), state, 4)
    off = (after[0].int() - before[0].int()).abs()
    assert float((off <= 2).float().mean()) > 0.98
    assert not torch.equal(after[2], before[2])
    for ours, theirs in zip((*after[:4], *after[4]), (*before[:4], *before[4]), strict=True):
        assert ours.dtype == theirs.dtype


def test_an_export_is_made_once_and_kept(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not has_exported_copy(tiny_world())
    path = exported_copy(tiny_world())
    assert "exporting to ONNX" in capsys.readouterr().err
    monkeypatch.setattr(onnx_graph, "to_onnx", None)  # must not be called again
    assert exported_copy(tiny_world()) == path
    assert has_exported_copy(tiny_world())
    assert not has_exported_copy(tiny_world(seed=1))
    np.testing.assert_equal(capsys.readouterr().err, "")


def test_old_exports_make_room(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_cache, "KEPT", 2)
    paths = [exported_copy(tiny_world(seed)) for seed in range(3)]
    assert [path.exists() for path in paths] == [False, True, True]


def test_a_change_in_any_part_of_the_model_makes_a_new_export() -> None:
    """Whatever of worldflow the model is made of is among the sources that are looked at."""
    code = "import sys, worldflow.model; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    parts = [name for name in loaded.stdout.split() if name.startswith("worldflow.")]
    assert "worldflow.mixture" in parts
    assert {name.removeprefix("worldflow.") for name in parts} <= set(export_cache.SOURCES)
