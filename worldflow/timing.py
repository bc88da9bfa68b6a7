"""The clock of `worldflow bench`: steps, scores, batches and what an env adds, timed.

All of it knows an engine by its protocol, so that any engine can be timed, a new one too.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldflow.card import Playable
from worldflow.engine import Engine, State, Step
from worldflow.errors import WorkError
from worldflow.machine import resident_mib
from worldflow.noise import standard_normal

WARM_UP = 10  # steps before the clock starts: caches, lazy compilation, CPU frequency
Seconds = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StepTimes:
    """Of consecutive steps at batch 1."""

    noise: Seconds  # (steps,), to draw the noise
    engine: Seconds  # (steps,), all the rest
    memory_growth_mib: float | None  # resident memory after the last less that before the first


def time_steps(playable: Playable, steps: int) -> StepTimes:
    """One world, as the env plays it: the noise of each step drawn, then the whole step.

    Raises:
        WorkError: the engine drew what is not a number.
    """
    engine, state = playable.engine, first_state(playable, 1)
    random, temperature = np.random.default_rng(0), np.ones(1, np.float32)
    noise_seconds, engine_seconds = np.ones(WARM_UP + steps), np.ones(WARM_UP + steps)
    before: float | None = None
    for index in range(WARM_UP + steps):
        if index == WARM_UP:
            before = resident_mib()
        action = random.integers(engine.action_count, size=1)
        began = time.perf_counter()
        noise = standard_normal(0, 0, index, engine.noise_size)[None]
        drawn = time.perf_counter()
        step = engine.step(state, action, noise, temperature)
        noise_seconds[index] = drawn - began
        engine_seconds[index] = time.perf_counter() - drawn
        if not np.isfinite(step.p_terminated).all():
            raise WorkError(f"{engine.name} drew p_terminated={step.p_terminated} at step {index}")
        state = step.state
    after = resident_mib()
    growth = None if before is None or after is None else after - before
    return StepTimes(noise_seconds[WARM_UP:], engine_seconds[WARM_UP:], growth)


def time_scores(playable: Playable, repeats: int) -> Seconds:
    """Seconds of each of `repeats` scores of one frame, its noise drawn, too."""
    engine, state = playable.engine, first_state(playable, 1)
    frame, action = playable.start_frames[:1, -1], np.zeros(1, np.int64)
    seconds = np.empty(WARM_UP + repeats)
    for index in range(len(seconds)):
        began = time.perf_counter()
        noise = standard_normal(0, 0, index, engine.noise_size)[None]
        engine.score(state, action, frame, noise)
        seconds[index] = time.perf_counter() - began
    return seconds[WARM_UP:]


def time_batch(playable: Playable, batch: int, steps: int) -> float:
    """Frames per second of `batch` worlds side by side, their noise drawn where they are."""
    engine, state = playable.engine, first_state(playable, batch)
    random, temperature = np.random.default_rng(0), np.ones(batch, np.float32)
    draw = noise_source(engine, batch)
    began = 0.0
    for index in range(WARM_UP + steps):
        if index == WARM_UP:
            began = time.perf_counter()
        action = random.integers(engine.action_count, size=batch)
        # Its frames come back as NumPy arrays: a step is over when it returns.
        state = engine.step(state, action, draw(), temperature).state
    return batch * steps / (time.perf_counter() - began)


def noise_source(engine: Engine, batch: int) -> Any:
    """A function that draws `(batch, Z)`, on the GPU if that is where the engine computes."""
    shape = batch, engine.noise_size
    if engine.device.startswith("cuda"):
        import torch

        generator = torch.Generator(engine.device).manual_seed(0)
        return lambda: torch.randn(shape, generator=generator, device=engine.device)
    random = np.random.default_rng(0)
    return lambda: random.standard_normal(shape, np.float32)


def time_env(playable: Playable, steps: int) -> Seconds:
    """Seconds that each of `steps` of the Gymnasium env takes beyond the engine's own step.

    The env draws its noise, so that this is in it.
    """
    from worldflow.envs.world_env import WorldEnv

    clocked = _Clocked(playable.engine)
    env = WorldEnv(replace(playable, engine=clocked))
    env.reset(seed=0)
    seconds = np.empty(WARM_UP + steps)
    for index in range(len(seconds)):
        began = time.perf_counter()
        *_, terminated, truncated, _ = env.step(0)
        seconds[index] = time.perf_counter() - began - clocked.seconds
        if terminated or truncated:
            env.reset()
    env.close()
    return seconds[WARM_UP:]


class _Clocked:
    """An engine that tells how long its newest step took."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.seconds = engine, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def step(self, *given: Any) -> Step:
        began = time.perf_counter()
        step = self._engine.step(*given)
        self.seconds = time.perf_counter() - began
        return step


def first_state(playable: Playable, batch: int) -> State:
    """The state of `batch` rows, at the world's own starts in turn."""
    chosen = np.arange(batch) % len(playable.start_frames)
    return playable.engine.start(playable.start_frames[chosen], playable.start_actions[chosen])
