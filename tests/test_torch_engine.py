import numpy as np
import pytest
from tiny_world import random_actions, random_frames, tiny_world

from worldflow.engine import put_rows, take_rows
from worldflow.errors import InputError
from worldflow.noise import standard_normal
from worldflow.playable import load_playable
from worldflow.torch_engine import TorchEngine

ONE = np.ones(1, np.float32)


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


def test_unknown_engines_and_devices_are_refused() -> None:
    with pytest.raises(InputError, match="unknown engine 'trch'; did you mean 'torch'"):
        load_playable("bounce", engine="trch")
    with pytest.raises(InputError, match="unknown world 'nowhere'"):
        load_playable("nowhere")
