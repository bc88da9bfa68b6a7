"""Which engine and which device run a world, and how that is told."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from exported import tiny_onnx, write_onnx
from tiny_world import tiny_world

from worldflow import onnx_graph, onnx_session, playable
from worldflow.errors import InputError
from worldflow.onnx_session import CPU, CUDA, NoGpu, Obstacle, gpu_obstacle
from worldflow.playable import load_playable


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A world's own file; no export of it is kept yet, and none takes time."""
    monkeypatch.setattr(onnx_graph, "to_onnx", lambda world: tiny_onnx())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(playable, "_told", set())
    tiny_world().save(tmp_path / "tiny.safetensors")
    return str(tmp_path / "tiny.safetensors")


def test_auto_is_pytorch_until_there_is_an_export(world: str) -> None:
    assert load_playable(world, device="cpu").engine.name == "torch"
    assert load_playable(world, engine="onnx", device="cpu").engine.name == "onnx"
    assert load_playable(world, device="cpu").engine.name == "onnx"
    assert load_playable(world, engine="torch", device="cpu").engine.name == "torch"


def test_an_export_plays_with_its_own_card_and_starts(world: str, tmp_path: Path) -> None:
    made, own = load_playable(str(write_onnx(tmp_path)), device="cpu"), load_playable(world)
    assert made.card == own.card
    assert (made.start_frames == own.start_frames).all()
    assert (made.start_actions == own.start_actions).all()
    assert made.engine.world_hash == own.engine.world_hash


def test_what_auto_came_to_is_told_once(world: str, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        load_playable(world, device="cpu")
    assert capsys.readouterr().err == "tiny runs in PyTorch on cpu, float32\n"
    load_playable(world, engine="torch", device="cpu")
    assert capsys.readouterr().err == ""


def test_auto_says_why_there_is_no_gpu(
    tmp_path: Path, world: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnx_session, "driver_obstacle", lambda: Obstacle("no driver"))
    engine = load_playable(str(write_onnx(tmp_path))).engine
    assert (engine.device, engine.provider) == ("cpu", CPU)
    assert "(no GPU: no driver)" in capsys.readouterr().err


def test_a_gpu_that_cannot_run_is_an_error(
    tmp_path: Path, world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_session, "driver_obstacle", lambda: Obstacle("no driver"))
    with pytest.raises(NoGpu, match="device=cuda: no driver"):
        load_playable(str(write_onnx(tmp_path)), device="cuda")
    monkeypatch.setattr("torch.version.cuda", None)
    with pytest.raises(InputError, match="device=cuda: this PyTorch is built for the CPU alone"):
        load_playable(world, engine="torch", device="cuda")


def test_a_library_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver is there, but ONNX Runtime leaves its provider out of the session in silence."""
    monkeypatch.setattr(onnx_session, "driver_obstacle", lambda: None)
    monkeypatch.setattr(onnx_session, "_providers", lambda device: [(CPU, {})])
    monkeypatch.setattr(onnx_session, "_preload_libraries", lambda onnxruntime: None)
    with pytest.raises(
        NoGpu, match=r"device=cuda: .*: pip install 'onnxruntime-gpu\[cuda,cudnn\]'"
    ):
        load_playable(str(write_onnx(tmp_path)), device="cuda")


def test_the_package_for_cpus_is_told() -> None:
    runtime = SimpleNamespace(get_available_providers=lambda: [CPU])
    obstacle = gpu_obstacle(runtime)
    assert obstacle is not None
    assert "package for CPUs" in obstacle.reason
    assert obstacle.remedy.endswith("pip install onnxruntime-gpu")


def test_a_driver_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = SimpleNamespace(get_available_providers=lambda: [CUDA, CPU])

    def driver(devices: int) -> SimpleNamespace:
        def count(pointer: object) -> int:
            pointer._obj.value = devices  # type: ignore[attr-defined]
            return 0

        return SimpleNamespace(cuInit=lambda flags: 0, cuDeviceGetCount=count)

    monkeypatch.setattr(onnx_session.ctypes, "CDLL", lambda name: driver(1))
    assert gpu_obstacle(runtime) is None
    monkeypatch.setattr(onnx_session.ctypes, "CDLL", lambda name: driver(0))
    assert "finds no GPU" in gpu_obstacle(runtime).reason


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"engine": "onxx"}, "unknown engine 'onxx'; did you mean 'onnx'"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"engine": "torch-graphs", "device": "cpu"}, r"torch-graphs needs a GPU \(device=cpu\)"),
        ({"device": "tensorrt"}, "device=tensorrt is for engine=onnx alone"),
    ],
)
def test_bad_choices_are_refused(world: str, arguments: dict[str, str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        load_playable(world, **arguments)


TINIEST = """
import torch
from worldflow.playable import choose_device
if not torch.set_flush_denormal(False):
    raise SystemExit("not on this CPU")
tiny = torch.full((1 << 20,), 1e-40)
assert choose_device("cpu", threads=2) == "cpu"
product = tiny * torch.ones(())
assert torch.get_num_threads() == 2 and not product.view(torch.int32).any()
"""


def test_the_tiniest_numbers_cost_no_time() -> None:
    """In a process of its own, for threads take this over when they are begun."""
    run = subprocess.run([sys.executable, "-c", TINIEST], capture_output=True, text=True)
    if "not on this CPU" in run.stderr:
        pytest.skip("this CPU counts them in any case")
    assert run.returncode == 0, run.stderr


def test_a_step_is_compiled_when_the_world_is_loaded(
    world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a compiler that fails is told then."""

    def compiled(step: Any, **_: Any) -> Any:
        def run(*given: Any) -> Any:
            raise RuntimeError("No working C++ compiler found\nand more")

        return run

    monkeypatch.setattr("torch.compile", compiled)
    complaint = r"cannot compile here \(No working C\+\+ compiler found\); use engine=torch"
    with pytest.raises(InputError, match=complaint):
        load_playable(world, engine="torch-compiled", device="cpu")
