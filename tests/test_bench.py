"""The verb `bench`."""

import json
from types import SimpleNamespace

import pytest
from fake_engine import FakeEngine, make_playable
from tiny_world import tiny_world

from worldflow.bench import BenchConfig, bench, measure
from worldflow.errors import InputError


def test_bench_prints_and_writes_its_figures(tmp_path, capsys):
    world, out = tmp_path / "tiny.safetensors", tmp_path / "new" / "bench.json"
    tiny_world().save(world)
    bench(BenchConfig(str(world), out=out, steps=20, batches=(1, 6)))
    figures = json.loads(out.read_text())
    assert figures["engine"] == "torch"
    assert figures["provider"] is None
    assert figures["world_hash"] == tiny_world().hash
    assert figures["dtype"] == "float32"
    assert 0 < figures["step_ms_p50"] <= figures["step_ms_p90"] <= figures["step_ms_p99"]
    assert figures["score_ms_p50"] > 0
    assert set(figures["frames_per_s"]) == {"1", "6"}
    assert figures["train_frames_per_s"] > 0
    assert 0 < figures["train_share_of_peak"] < 1
    shown = capsys.readouterr().out
    assert f"{figures['step_ms_p50']:.2f} ms" in shown
    assert f"{figures['train_frames_per_s']:,.0f} frames/s" in shown
    assert str(out) in shown


def test_batches_go_through_whole():
    playable = make_playable((16, 16, 3))
    measure(playable, steps=20, batches=(1, 6))
    assert set(playable.engine.batches["step"]) == {1, 6}


def test_times_are_those_of_the_engine(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    step = FakeEngine.step

    def slow_step(*arguments):
        clock.now += 0.01
        return step(*arguments)

    monkeypatch.setattr(FakeEngine, "step", slow_step)
    monkeypatch.setattr("worldflow.bench.time", SimpleNamespace(perf_counter=lambda: clock.now))
    figures = measure(make_playable((16, 16, 3)), steps=10, batches=(1, 4))
    assert figures["step_ms_p50"] == pytest.approx(10)
    assert figures["step_ms_p99"] == pytest.approx(10)
    assert figures["frames_per_s"] == pytest.approx({"1": 100, "4": 400})


@pytest.mark.parametrize(("steps", "batches"), [(0, (1,)), (10, ()), (10, (4, 0))])
def test_bad_values_are_named(steps, batches):
    with pytest.raises(InputError, match=f"steps={steps} "):
        bench(BenchConfig("fake", steps=steps, batches=batches))


def test_an_existing_file_is_kept(tmp_path):
    out = tmp_path / "bench.json"
    out.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        bench(BenchConfig("fake", out=out))
    assert out.read_text() == "mine"
