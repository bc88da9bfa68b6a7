"""The verb `bench`."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from exported import tiny_onnx, write_onnx
from fake_engine import FakeEngine, make_playable
from tiny_world import tiny_world

from worldflow import onnx_graph
from worldflow.bench import BenchConfig, bench, compared_with_peak, measure, table
from worldflow.engine import Step
from worldflow.errors import InputError, WorkError
from worldflow.machine import hardware_and_peak
from worldflow.onnx_session import CPU
from worldflow.timing import time_env, time_steps

ALWAYS = {"world", "world_hash", "engine", "provider", "device", "dtype", "hardware", "steps"}
ALWAYS |= {f"step_ms_{which}" for which in ("p50", "p90", "p99", "max")}
ALWAYS |= {"score_ms_p50", "parts_ms", "frames_per_s", "gflop_per_frame", "step_gflops"}
ALWAYS |= {"peak_gflops", "share_of_peak", "memory_mib", "memory_growth_mib", "gpu_memory_mib"}


@pytest.fixture(autouse=True)
def exports_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "to_onnx", lambda world: tiny_onnx())


@pytest.fixture
def world(tmp_path: Path) -> str:
    path = tmp_path / "tiny.safetensors"
    tiny_world().save(path)
    return str(path)


def test_both_engines_are_timed_side_by_side(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "bench.json"
    for module in ("cost", "training_speed"):  # the real one takes long
        monkeypatch.setattr(f"worldflow.{module}.peak_gflops", lambda device, dtype: 1e4)
    bench(BenchConfig(world, out=out, steps=20, batches=(1, 6), device="cpu", threads=1))
    figures = json.loads(out.read_text())
    (other,) = figures["others"]
    by_engine = {told["engine"]: told for told in (figures, other)}
    assert by_engine.keys() == {"torch", "onnx"}
    assert figures["step_ms_p50"] <= other["step_ms_p50"]
    assert by_engine["torch"]["provider"] is None
    assert by_engine["onnx"]["provider"] == CPU
    assert by_engine["torch"]["parts_ms"].keys() > {"noise", "engine", "env", "trunk", "flow"}
    assert by_engine["onnx"]["parts_ms"].keys() == {"noise", "engine", "env"}
    shown = capsys.readouterr().out
    for told in by_engine.values():
        assert told.keys() >= ALWAYS
        assert (told["world_hash"], told["dtype"]) == (tiny_world().hash, "float32")
        assert 0 < told["step_ms_p50"] <= told["step_ms_p90"] <= told["step_ms_p99"]
        assert told["step_ms_p99"] <= told["step_ms_max"]
        assert set(told["frames_per_s"]) == {"1", "6"}
        assert told["gflop_per_frame"] == pytest.approx(by_engine["torch"]["gflop_per_frame"])
        assert told["share_of_peak"] == pytest.approx(told["step_gflops"] / 1e4)
        assert f"{told['step_ms_p50']:.2f} ms" in shown
    assert figures["train_frames_per_s"] > 0
    assert figures["train_share_of_peak"] == pytest.approx(figures["train_gflops"] / 1e4)
    assert f"{figures['train_frames_per_s']:,.0f} frames/s" in shown
    assert str(out) in shown


def test_one_engine_alone(world: str, tmp_path: Path) -> None:
    for what in (world, str(write_onnx(tmp_path))):
        out = tmp_path / f"{Path(what).suffix}.json"
        engine = "onnx" if what == world else "auto"
        bench(
            BenchConfig(what, out, 5, (2,), engine=engine, device="cpu", threads=1, training=False)
        )
        figures = json.loads(out.read_text())
        assert (figures["engine"], figures["others"]) == ("onnx", [])
        assert "train_gflops" not in figures


def test_without_the_exporter_pytorch_is_timed_alone(
    world: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(world: Any) -> bytes:
        raise InputError("exporting needs the package onnx: pip install 'worldflow[export]'")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(onnx_graph, "to_onnx", missing)
    bench(BenchConfig(world, steps=5, batches=(1,), device="cpu", training=False))
    assert "onnx is left out: exporting needs" in capsys.readouterr().err
    with pytest.raises(InputError, match="exporting needs"):
        bench(BenchConfig(world, steps=5, engine="onnx", device="cpu"))


def test_batches_go_through_whole() -> None:
    playable = make_playable((16, 16, 3))
    measure(playable, steps=20, batches=(1, 6))
    assert isinstance(playable.engine, FakeEngine)
    assert set(playable.engine.batches["step"]) == {1, 6}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still but for the steps: each takes 10 ms."""
    clock, step = SimpleNamespace(now=0.0), FakeEngine.step

    def slow_step(*given: Any) -> Step:
        clock.now += 0.01
        return step(*given)

    monkeypatch.setattr(FakeEngine, "step", slow_step)
    clocked = SimpleNamespace(perf_counter=lambda: clock.now)
    monkeypatch.setattr("worldflow.timing.time", clocked)
    return clock


def test_times_are_those_of_the_engine(clock: SimpleNamespace) -> None:
    figures = measure(make_playable((16, 16, 3)), steps=10, batches=(1, 4))
    for which in ("p50", "p90", "p99", "max"):
        assert figures[f"step_ms_{which}"] == pytest.approx(10)
    assert figures["parts_ms"] == pytest.approx({"noise": 0, "engine": 10, "env": 0})
    assert figures["frames_per_s"] == pytest.approx({"1": 100, "4": 400})


def test_what_the_env_adds_is_told_apart(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_noise(*given: Any) -> Any:
        clock.now += 0.002
        return np.zeros(given[-1], np.float32)

    monkeypatch.setattr("worldflow.envs.dream.standard_normal", slow_noise)
    np.testing.assert_allclose(time_env(make_playable((16, 16, 3)), 5), 0.002)


def test_share_of_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worldflow.bench.hardware_and_peak", lambda *given: ("a machine", 200.0))
    figures = {**measure(make_playable((16, 16, 3)), 5, (1,)), "step_gflops": 50.0}
    figures |= {"gflop_per_frame": 0.5, "provider": "P"}
    told = compared_with_peak(figures, threads=1)
    assert (told["hardware"], told["share_of_peak"]) == ("a machine", 0.25)
    assert "0.50 GFLOP a frame, 50.0 GFLOP/s, 25% of" in table(told)


def test_the_machine_is_named_and_its_peak_measured() -> None:
    threads = torch.get_num_threads()
    try:
        name, peak = hardware_and_peak("cpu", "float16", threads=1)
    finally:
        torch.set_num_threads(threads)
    assert name is not None
    assert name.endswith(", 1 threads")
    assert peak is not None
    assert 1 < peak < 1e5


def test_memory_that_grows_is_seen() -> None:
    """As it would be if each step kept something, so large that the allocator has none to reuse."""
    playable, kept, step = make_playable((16, 16, 3)), [], FakeEngine.step

    class Leaking(FakeEngine):
        def step(self, *given: Any) -> Step:
            kept.append(np.ones(34 * 2**17))  # 34 MiB
            return step(self, *given)

    tight = time_steps(playable, 8).memory_growth_mib
    object.__setattr__(playable, "engine", Leaking((16, 16, 3)))
    leaking = time_steps(playable, 8).memory_growth_mib
    if tight is None or leaking is None:
        pytest.skip("this system does not tell")
    assert tight < 8
    assert 8 * 33 < leaking < 8 * 36


def test_what_is_not_a_number_is_a_failure() -> None:
    playable = make_playable((16, 16, 3), p_terminated=float("nan"))
    with pytest.raises(WorkError, match=r"fake drew p_terminated=\[nan\] at step 0"):
        measure(playable, 5, (1,))


@pytest.mark.parametrize(("steps", "batches"), [(0, (1,)), (10, ()), (10, (4, 0))])
def test_bad_values_are_named(steps: int, batches: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=f"steps={steps} "):
        bench(BenchConfig("fake", steps=steps, batches=batches))


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    out.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        bench(BenchConfig("fake", out=out))
    assert out.read_text() == "mine"
