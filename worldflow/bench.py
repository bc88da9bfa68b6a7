"""`worldflow bench`: how fast a world is, by each engine, and how fast its shape trains.

docs/performance.md tells what each figure is. The clock itself is in timing.py.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldflow.card import Playable
from worldflow.errors import InputError
from worldflow.machine import gpu_mib, hardware_and_peak, resident_mib
from worldflow.timing import time_batch, time_env, time_scores, time_steps

FEWEST = 5  # steps that are timed, however large the batch
MOST = 300  # scores, frames of a batch size, steps of env and parts, however many steps are timed
BOTH = ("torch", "onnx")  # what engine=auto compares


@dataclass(frozen=True)
class BenchConfig:
    """The keys of `worldflow bench`."""

    world: str  # a shipped name, a run folder, a .safetensors or an .onnx file
    out: Path | None = None  # also write the figures to this JSON file
    steps: int = 300  # timed at batch 1; a batch of B gets steps / B, at least 5
    batches: tuple[int, ...] = (1, 8, 32)
    engine: str = "auto"  # auto: PyTorch and ONNX Runtime, one after the other
    device: str = "auto"
    threads: int = 0  # 0: the engine's own choice
    training: bool = True  # also time updates of training


def bench(config: BenchConfig) -> None:
    """Print a table of speeds and, if asked, write them to `out`.

    Raises:
        InputError: a value out of range, `out` exists, or an engine that cannot run the world.
        WorkError: an engine drew what is not a number.
    """
    if config.steps < 1 or not config.batches or min(config.batches) < 1:
        raise InputError(
            f"steps={config.steps} batches={list(config.batches)}: expected 1 or more of each"
        )
    if config.out is not None and config.out.exists():
        raise InputError(f"out={config.out} exists; name a new file")
    found = []
    for playable in _playables(config):
        measured = measure(playable, config.steps, config.batches)
        found.append(compared_with_peak(measured, config.threads))
        print(table(found[-1]), flush=True)
    # The faster engine's figures stand first: they are what the world can do.
    best, *others = sorted(found, key=lambda figures: figures["step_ms_p50"])
    figures = {**best, "threads": config.threads or None, "others": others}
    if config.training and Path(config.world).suffix != ".onnx":
        from worldflow.training_speed import measure_training
        from worldflow.world import World

        trained = measure_training(World.load(config.world, best["device"]))
        print(training_line(trained))
        figures |= trained
    if config.out is not None:
        from worldflow.info import write_new_json

        write_new_json(config.out, figures)
        print(f"figures in {config.out}")


def _playables(config: BenchConfig) -> Iterator[Playable]:
    """The world on each engine that is to be timed, loaded when its turn comes."""
    from worldflow.playable import load_playable

    both = config.engine == "auto" and Path(config.world).suffix != ".onnx"
    for engine in BOTH if both else (config.engine,):
        try:
            yield load_playable(
                config.world, engine=engine, device=config.device, threads=config.threads
            )
        except InputError as error:
            if engine != BOTH[1] or not both:
                raise
            print(f"engine={engine} is left out: {error}", file=sys.stderr)


def measure(playable: Playable, steps: int, batches: tuple[int, ...]) -> dict[str, Any]:
    """The keys of bench.json of one engine: milliseconds at batch 1, frames/s by batch."""
    engine, some = playable.engine, max(FEWEST, min(steps, MOST))
    times = time_steps(playable, steps)
    step_ms = 1000 * (times.noise + times.engine)
    parts = {
        "noise": 1000 * float(np.median(times.noise)),
        "engine": 1000 * float(np.median(times.engine)),
        "env": 1000 * float(np.median(time_env(playable, some))),
    }
    cost: float | None = getattr(engine, "gflop_per_frame", None)
    return {
        "world": playable.card.name,
        "world_hash": engine.world_hash,
        "engine": engine.name,
        "provider": getattr(engine, "provider", None),  # of ONNX Runtime only
        "device": engine.device,
        "dtype": engine.dtype,
        "steps": steps,
        **{f"step_ms_p{p}": float(np.percentile(step_ms, p)) for p in (50, 90, 99)},
        "step_ms_max": float(step_ms.max()),
        "score_ms_p50": 1000 * float(np.median(time_scores(playable, some))),
        "parts_ms": parts | _inner_parts(playable, some),
        "frames_per_s": {
            str(batch): time_batch(playable, batch, max(FEWEST, some // batch)) for batch in batches
        },
        "memory_mib": resident_mib(),
        "memory_growth_mib": times.memory_growth_mib,
        "gpu_memory_mib": gpu_mib(engine.device),
        "gflop_per_frame": cost,
        "step_gflops": 1000 * cost / parts["engine"] if cost else None,
    }


def _inner_parts(playable: Playable, steps: int) -> dict[str, float]:
    """What is inside the engine's step, where the engine shows its model."""
    if not playable.engine.name.startswith("torch"):
        return {}
    from worldflow.parts import time_parts

    return time_parts(playable, steps)


def compared_with_peak(figures: dict[str, Any], threads: int) -> dict[str, Any]:
    """An engine's figures with the machine's name and what it could do."""
    hardware, peak = hardware_and_peak(figures["device"], figures["dtype"], threads)
    done = figures["step_gflops"]
    share = done / peak if done and peak else None
    return {**figures, "hardware": hardware, "peak_gflops": peak, "share_of_peak": share}


def table(figures: dict[str, Any]) -> str:
    """An engine's figures as text."""
    where = figures["provider"] or "PyTorch"
    lines = [
        "{world}: engine {engine}, {device}, {dtype}, {where}".format(**figures, where=where),
        "one step    {step_ms_p50:.2f} ms median, {step_ms_p90:.2f} p90, {step_ms_p99:.2f} p99,"
        " {step_ms_max:.2f} at most".format(**figures),
        "  of which  "
        + ", ".join(f"{name} {value:.2f}" for name, value in figures["parts_ms"].items()),
        "one score   {score_ms_p50:.2f} ms median".format(**figures),
        *(
            f"batch {batch:5} {rate:10,.0f} frames/s"
            for batch, rate in figures["frames_per_s"].items()
        ),
    ]
    if figures["share_of_peak"] is not None:
        lines.append(
            "cost        {gflop_per_frame:.2f} GFLOP a frame, {step_gflops:,.1f} GFLOP/s,"
            " {share_of_peak:.0%} of a matrix product's".format(**figures)
        )
    names = {"memory_mib": "in use", "memory_growth_mib": "grown", "gpu_memory_mib": "of the GPU"}
    told = [
        f"{figures[key]:,.1f} MiB {name}" for key, name in names.items() if figures[key] is not None
    ]
    if told:
        lines.append("memory      " + ", ".join(told))
    return "\n".join(lines)


def training_line(figures: dict[str, float]) -> str:
    """The figures of training as text."""
    return (
        "training    {train_frames_per_s:,.0f} frames/s, {train_gflops:,.0f}"
        " GFLOP/s, {train_share_of_peak:.0%} of a matrix product's".format(**figures)
    )
