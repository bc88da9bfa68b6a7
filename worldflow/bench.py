"""`worldflow bench`: how fast a world is, through its engine, and how fast its shape trains.

One world alone is timed as the env plays it: the noise of a step is drawn, then the whole step is
run, with reward and termination. Many worlds side by side are timed with noise that is there
already, as a learner draws it on the device.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldflow.card import Playable
from worldflow.errors import InputError
from worldflow.report import write_json
from worldflow.rollouts import noise_rows

WARM_UP = 5  # steps before the clock starts: caches, lazy compilation, CPU frequency
FEWEST = 5  # steps that are timed, however large the batch


@dataclass(frozen=True)
class BenchConfig:
    """The keys of `worldflow bench`."""

    world: str  # a shipped name, a run folder or a .safetensors file
    out: Path | None = None  # also write the figures to this JSON file
    steps: int = 300  # timed at batch 1; a batch of B gets steps / B, at least 5
    batches: tuple[int, ...] = (1, 8, 32)
    engine: str = "auto"
    device: str = "auto"
    threads: int = 0  # 0: the engine's own choice


def bench(config: BenchConfig) -> None:
    """Print a table of speeds and, if asked, write them to `out`.

    Raises:
        InputError: a value out of range, or `out` exists.
    """
    if config.steps < 1 or not config.batches or min(config.batches) < 1:
        raise InputError(
            f"steps={config.steps} batches={list(config.batches)}: expected 1 or more of each"
        )
    if config.out is not None and config.out.exists():
        raise InputError(f"out={config.out} exists; name a new file")
    from worldflow.playable import load_playable
    from worldflow.training_speed import measure_training
    from worldflow.world import World

    playable = load_playable(
        config.world, engine=config.engine, device=config.device, threads=config.threads
    )
    figures = measure(playable, config.steps, config.batches)
    figures |= measure_training(World.load(config.world, playable.engine.device))
    print(table(figures))
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(config.out, figures)
        print(f"figures in {config.out}")


def measure(playable: Playable, steps: int, batches: tuple[int, ...]) -> dict[str, Any]:
    """The keys of bench.json: times in milliseconds at batch 1, frames per second by batch."""
    engine = playable.engine
    step_ms = 1000 * time_steps(playable, 1, steps, fresh_noise=True)
    score_ms = 1000 * time_scores(playable, max(FEWEST, steps // 3))
    rates = {}
    for batch in batches:
        seconds = time_steps(playable, batch, max(FEWEST, steps // batch), fresh_noise=False)
        rates[str(batch)] = batch / float(np.mean(seconds))
    return {
        "world": playable.card.name,
        "world_hash": engine.world_hash,
        "engine": engine.name,
        "provider": getattr(engine, "provider", None),  # of ONNX Runtime only
        "device": engine.device,
        "dtype": engine.dtype,
        "step_ms_p50": float(np.percentile(step_ms, 50)),
        "step_ms_p90": float(np.percentile(step_ms, 90)),
        "step_ms_p99": float(np.percentile(step_ms, 99)),
        "score_ms_p50": float(np.percentile(score_ms, 50)),
        "frames_per_s": rates,
    }


def time_steps(
    playable: Playable, batch: int, steps: int, *, fresh_noise: bool
) -> NDArray[np.float64]:
    """Seconds of each of `steps` consecutive steps of `batch` worlds under random actions.

    Args:
        fresh_noise: count the drawing of each step's noise; if not, one vector serves all.
    """
    engine = playable.engine
    frames, state_actions = _starts(playable, batch)
    state = engine.start(frames, state_actions)
    random = np.random.default_rng(0)
    rows, temperature = np.arange(batch), np.ones(batch, np.float32)
    kept = noise_rows(0, rows, 0, engine.noise_size)
    seconds = np.empty(WARM_UP + steps)
    for index in range(len(seconds)):
        action = random.integers(engine.action_count, size=batch)
        began = time.perf_counter()
        noise = noise_rows(0, rows, index, engine.noise_size) if fresh_noise else kept
        state = engine.step(state, action, noise, temperature).state
        seconds[index] = time.perf_counter() - began
    return seconds[WARM_UP:]


def time_scores(playable: Playable, repeats: int) -> NDArray[np.float64]:
    """Seconds of each of `repeats` scores of one frame, noise included."""
    engine = playable.engine
    frames, actions = _starts(playable, 1)
    state = engine.start(frames, actions)
    row, action = np.zeros(1, np.int64), np.zeros(1, np.int64)
    seconds = np.empty(WARM_UP + repeats)
    for index in range(len(seconds)):
        began = time.perf_counter()
        noise = noise_rows(0, row, index, engine.noise_size)
        engine.score(state, action, frames[:, -1], noise)
        seconds[index] = time.perf_counter() - began
    return seconds[WARM_UP:]


def _starts(playable: Playable, batch: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Start frames `(batch, T, H, W, 3)` and actions `(batch, T-1)`, the world's own in turn."""
    chosen = np.arange(batch) % len(playable.start_frames)
    return playable.start_frames[chosen], playable.start_actions[chosen]


def table(figures: dict[str, Any]) -> str:
    """The figures as text."""
    lines = [
        "{world}: engine {engine}, {device}, {dtype}".format(**figures),
        "one step    {step_ms_p50:.2f} ms median, {step_ms_p90:.2f} p90, {step_ms_p99:.2f} p99"
        " (noise, frame, reward, termination)".format(**figures),
        "one score   {score_ms_p50:.2f} ms median".format(**figures),
        *(
            f"batch {batch:5} {rate:10,.0f} frames/s"
            for batch, rate in figures["frames_per_s"].items()
        ),
    ]
    if "train_frames_per_s" in figures:
        lines.append(
            "training    {train_frames_per_s:,.0f} frames/s in bfloat16, {train_gflops:,.0f}"
            " GFLOP/s, {train_share_of_peak:.0%} of a matrix product's".format(**figures)
        )
    return "\n".join(lines)
