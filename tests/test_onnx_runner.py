"""Arrays into a session and out of it, by way of a device: here the device is the CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch
from exported import tiny_onnx
from tiny_world import random_frames, tiny_world

from worldflow.engine import put_rows, take_rows
from worldflow.onnx_file import STATE
from worldflow.onnx_runner import GRAPHS, DeviceArray, DeviceRunner, HostRunner
from worldflow.onnx_session import open_session
from worldflow.torch_engine import TorchEngine


@pytest.fixture(scope="module")
def runners(tmp_path_factory: pytest.TempPathFactory) -> tuple[HostRunner, DeviceRunner]:
    path: Path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    path.write_bytes(tiny_onnx())
    session = open_session(path, threads=1)
    return HostRunner(session), DeviceRunner(session, "cpu")


def feeds(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    engine, random = TorchEngine(tiny_world()), np.random.default_rng(seed)
    state = engine.start(random_frames(rows, 1, seed), np.zeros((rows, 0), np.int64))
    return {
        **{name: value.numpy() for name, value in state.items()},
        "action": random.integers(3, size=rows),
        "noise": random.standard_normal((rows, engine.noise_size), np.float32),
        "temperature": np.ones(rows, np.float32),
    }


def after(told: dict[str, object]) -> dict[str, object]:
    return {name: told[f"next_{name}"] for name in STATE}


@pytest.mark.parametrize("rows", [1, 3])
def test_both_runners_give_the_same(runners: tuple[HostRunner, DeviceRunner], rows: int) -> None:
    host, device = (runner(feeds(rows)) for runner in runners)
    assert host.keys() == device.keys()
    for name, value in host.items():
        np.testing.assert_array_equal(value, np.asarray(device[name]))
        assert value.dtype == np.asarray(device[name]).dtype


def test_a_state_outlives_the_steps_after_it(runners: tuple[HostRunner, DeviceRunner]) -> None:
    """The session's buffers are written again at each step; what was given out is not."""
    _, runner = runners
    first = runner(feeds(2))
    kept = {name: np.array(value) for name, value in first.items()}
    runner(feeds(2, seed=1))
    for name, value in kept.items():
        np.testing.assert_array_equal(value, np.asarray(first[name]))


def test_the_state_goes_on_from_where_it_is(runners: tuple[HostRunner, DeviceRunner]) -> None:
    """Given back as it came, or put together from rows, it draws what the host draws."""
    host, device = runners
    told = [runner(feeds(2)) for runner in runners]
    rest = {name: feeds(2, seed=1)[name] for name in ("action", "noise", "temperature")}
    state = after(told[1])
    assert all(isinstance(value, DeviceArray) for value in state.values())
    swapped = take_rows(state, np.array([1, 0]))
    whole = put_rows(state, np.array([0, 1]), take_rows(swapped, np.array([1, 0])))
    expected = host({**after(told[0]), **rest})["frame"]
    for again in (state, whole):
        np.testing.assert_array_equal(device({**again, **rest})["frame"], expected)


def test_noise_may_be_a_tensor(runners: tuple[HostRunner, DeviceRunner]) -> None:
    given = feeds(2)
    as_tensor = {**given, "noise": torch.from_numpy(given["noise"])}
    np.testing.assert_array_equal(runners[1](as_tensor)["frame"], runners[0](given)["frame"])


def test_only_a_few_batch_sizes_keep_their_buffers(
    runners: tuple[HostRunner, DeviceRunner],
) -> None:
    """And one that has lost them gets new ones."""
    host, device = runners
    for rows in (*range(1, GRAPHS + 3), 1):
        np.testing.assert_array_equal(device(feeds(rows))["frame"], host(feeds(rows))["frame"])
    assert len(device._buffers) == GRAPHS
