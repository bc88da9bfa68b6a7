from typing import Any

import numpy as np
import pytest
import torch
from tiny_world import random_actions, random_frames, tiny_world

from worldflow.engine import put_rows, take_rows
from worldflow.errors import InputError
from worldflow.model import StreamState
from worldflow.noise import standard_normal
from worldflow.playable import load_playable
from worldflow.torch_engine import TorchEngine

ONE = np.ones(1, np.float32)
# What torch.compile imports warns of itself.
compiling = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


def noise(engine: TorchEngine, rows: int, counter: int = 0) -> np.ndarray:
    return np.stack([standard_normal(1, row, counter, engine.noise_size) for row in range(rows)])


def test_start_replays_streamed_steps() -> None:
    """A state made from four frames steps like one that saw them come one by one."""
    engine = TorchEngine(tiny_world())
    frames, actions = random_frames(2, 4), random_actions(2, 4)
    direct = engine.start(frames, actions[:, :3])
    state = engine.start(frames[:, :1], actions[:, :0])
    for t in range(3):
        state = engine.step(state, actions[:, t], noise(engine, 2), np.ones(2, np.float32)).state
        state = engine.observe(state, frames[:, t + 1])
    a, b = (
        engine.step(s, actions[:, 3], noise(engine, 2, 9), np.ones(2, np.float32))
        for s in (direct, state)
    )
    np.testing.assert_array_equal(a.frame, b.frame)
    np.testing.assert_array_equal(a.p_terminated, b.p_terminated)


def test_shapes_and_types_are_the_protocols() -> None:
    engine = TorchEngine(tiny_world())
    state = engine.start(random_frames(3, 1), np.zeros((3, 0), np.int64))
    step = engine.step(state, np.zeros(3, np.int64), noise(engine, 3), np.ones(3, np.float32))
    assert (step.frame.shape, step.frame.dtype) == ((3, *engine.frame_shape), np.uint8)
    assert (step.reward.shape, step.reward.dtype) == ((3,), np.float32)
    assert (step.p_terminated.dtype, step.terminated.dtype) == (np.float32, np.bool_)
    score = engine.score(step.state, np.zeros(3, np.int64), step.frame, noise(engine, 3))
    assert (score.shape, score.dtype) == ((3,), np.float32)


def test_a_step_leaves_its_state_alone() -> None:
    """Pure: the same state steps twice alike, as rewinding and branching need."""
    engine = TorchEngine(tiny_world())
    state = engine.start(random_frames(1, 2), np.ones((1, 1), np.int64))
    first, second = (engine.step(state, np.ones(1, np.int64), noise(engine, 1), ONE) for _ in "ab")
    np.testing.assert_array_equal(first.frame, second.frame)


def test_rows_can_be_taken_and_put() -> None:
    engine = TorchEngine(tiny_world())
    state = engine.start(random_frames(3, 1), np.zeros((3, 0), np.int64))
    other = engine.start(random_frames(1, 1, seed=5), np.zeros((1, 0), np.int64))
    mixed = put_rows(state, np.array([1]), other)
    again = take_rows(mixed, np.array([0, 2, 1, 1]))
    assert (again["frames"][0] == state["frames"][0]).all()
    assert (again["frames"][2] == other["frames"][0]).all()
    assert (again["frames"][3] == other["frames"][0]).all()
    assert (state["frames"][1] != other["frames"][0]).any()


@compiling
def test_compiled_it_draws_the_same() -> None:
    world = tiny_world()
    eager, compiled = TorchEngine(world), TorchEngine(world, "torch-compiled")
    state = eager.start(random_frames(1, 3), random_actions(1, 2))
    for counter in range(4):
        given = state, np.ones(1, np.int64), noise(eager, 1, counter), ONE
        ours, theirs = compiled.step(*given), eager.step(*given)
        assert np.abs(ours.frame.astype(int) - theirs.frame).max() <= 1
        np.testing.assert_allclose(ours.p_terminated, theirs.p_terminated, atol=1e-5)
        assert ours.state.keys() == theirs.state.keys()
        state = ours.state


@compiling
def test_a_captured_graph_gives_out_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outputs lie where those of the next step will; a stand-in on the CPU does that."""

    def captured(step: Any, *, dynamic: bool, mode: str) -> Any:
        assert (dynamic, mode) == (False, "reduce-overhead")
        buffers: list[torch.Tensor] = []

        def run(*given: Any) -> Any:
            *told, state = step(*given)
            buffers[:] = buffers or [torch.empty_like(value) for value in state]
            for buffer, value in zip(buffers, state, strict=True):
                buffer.copy_(value)
            return *told, StreamState(*buffers)

        return run

    monkeypatch.setattr(torch, "compile", captured)
    engine = TorchEngine(tiny_world(), "torch-graphs")
    state = engine.start(random_frames(1, 2), np.ones((1, 1), np.int64))
    first = engine.step(state, np.ones(1, np.int64), noise(engine, 1), ONE).state
    before = {name: value.clone() for name, value in first.items()}
    engine.step(first, np.zeros(1, np.int64), noise(engine, 1, 1), ONE)
    for name, value in before.items():
        assert torch.equal(first[name], value)


def test_noise_may_be_a_tensor() -> None:
    engine = TorchEngine(tiny_world())
    state = engine.start(random_frames(1, 2), np.ones((1, 1), np.int64))
    z = noise(engine, 1)
    given, tensor = (engine.step(state, np.ones(1, np.int64), n, ONE) for n in (z, torch.tensor(z)))
    np.testing.assert_array_equal(given.frame, tensor.frame)


def test_unknown_engines_and_devices_are_refused() -> None:
    with pytest.raises(InputError, match="unknown engine 'trch'; did you mean 'torch'"):
        load_playable("bounce", engine="trch")
    with pytest.raises(InputError, match="unknown world 'nowhere'"):
        load_playable("nowhere")
