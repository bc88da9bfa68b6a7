"""ONNX Runtime draws what PyTorch draws, and needs no PyTorch for it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import write_onnx
from tiny_world import ACTIONS, random_actions, random_frames, tiny_world

from worldflow.engine import State, put_rows, take_rows
from worldflow.envs.world_env import WorldEnv
from worldflow.errors import InputError
from worldflow.noise import standard_normal
from worldflow.onnx_engine import OnnxEngine
from worldflow.playable import load_playable
from worldflow.torch_engine import TorchEngine

STEPS = 16
NOT_NEEDED = ("torch", "onnx", "onnxscript", "safetensors", "hydra", "omegaconf", "yaml")
NOT_NEEDED += ("tqdm", "PIL", "av", "ale_py")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="module")
def engine(path: Path) -> OnnxEngine:
    return OnnxEngine(path, threads=1)


def noise(engine: OnnxEngine, rows: int, counter: int = 0) -> np.ndarray:
    return np.stack([standard_normal(1, row, counter, engine.noise_size) for row in range(rows)])


def as_torch(state: State) -> State:
    return {name: torch.from_numpy(np.array(value)) for name, value in state.items()}


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("rows", [1, 3])
def test_both_engines_draw_the_same(engine: OnnxEngine, rows: int, temperature: float) -> None:
    """From the same state, at each of many steps: frames, rewards, ends, scores, next states."""
    torch_engine = TorchEngine(tiny_world())
    state = engine.start(random_frames(rows, 1), np.zeros((rows, 0), np.int64))
    heat, differing = np.full(rows, temperature, np.float32), []
    for step in range(STEPS):
        action = random_actions(rows, 1, seed=step)[:, 0]
        z = noise(engine, rows, step)
        ours = engine.step(state, action, z, heat)
        theirs = torch_engine.step(as_torch(state), action, z, heat)
        levels = np.abs(ours.frame.astype(int) - theirs.frame)
        assert levels.max() <= 1
        differing.append((levels > 0).mean())
        np.testing.assert_array_equal(ours.reward, theirs.reward)
        np.testing.assert_array_equal(ours.terminated, theirs.terminated)
        np.testing.assert_allclose(ours.p_terminated, theirs.p_terminated, atol=1e-5)
        for name, value in theirs.state.items():
            if name != "frames":
                np.testing.assert_allclose(ours.state[name], value.numpy(), atol=1e-4)
        np.testing.assert_allclose(
            engine.score(state, action, ours.frame, z),
            torch_engine.score(as_torch(state), action, ours.frame, z),
            rtol=1e-5,
        )
        state = ours.state
    assert np.mean(differing) < 1e-3


def test_both_engines_start_alike(engine: OnnxEngine) -> None:
    frames, actions = random_frames(2, 4), random_actions(2, 3)
    ours, theirs = (e.start(frames, actions) for e in (engine, TorchEngine(tiny_world())))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value.numpy(), atol=1e-4)


def test_what_a_step_was_given_stays_as_it_was(engine: OnnxEngine) -> None:
    state = engine.start(random_frames(2, 3), random_actions(2, 2))
    before = {name: value.copy() for name, value in state.items()}
    first, second = (
        engine.step(state, np.array([1, 2]), noise(engine, 2), np.ones(2, np.float32)) for _ in "ab"
    )
    np.testing.assert_array_equal(first.frame, second.frame)
    for name, value in before.items():
        np.testing.assert_array_equal(state[name], value)


def test_observe_replaces_the_newest_frame_alone(engine: OnnxEngine) -> None:
    state = engine.start(random_frames(2, 3), random_actions(2, 2))
    frame = random_frames(2, 1, seed=9)[:, 0]
    seen = engine.observe(state, frame)
    np.testing.assert_array_equal(seen["frames"][:, -1], frame)
    np.testing.assert_array_equal(seen["frames"][:, :-1], state["frames"][:, :-1])
    assert (state["frames"][:, -1] != frame).any()


def test_rows_are_independent(engine: OnnxEngine) -> None:
    """A row draws the same whatever stands beside it, up to rounding."""
    state = engine.start(random_frames(3, 2), random_actions(3, 1))
    z, action = noise(engine, 3), np.array([0, 1, 2])
    whole = engine.step(state, action, z, np.ones(3, np.float32))
    alone = engine.step(take_rows(state, np.array([1])), action[1:2], z[1:2], np.ones(1, "f"))
    assert np.abs(whole.frame[1].astype(int) - alone.frame[0]).max() <= 1
    mixed = put_rows(state, np.array([0]), take_rows(state, np.array([2])))
    np.testing.assert_array_equal(mixed["frames"][0], state["frames"][2])


def test_the_same_seed_gives_the_same_bytes(path: Path) -> None:
    def dream() -> list[np.ndarray]:
        env = WorldEnv(load_playable(str(path), device="cpu"))
        frames = [env.reset(seed=3)[0]]
        for step in range(8):
            frame, _, terminated, truncated, _ = env.step(step % ACTIONS)
            frames.append(frame)
            if terminated or truncated:
                env.reset()
        return frames

    np.testing.assert_array_equal(dream(), dream())


@pytest.mark.parametrize(
    ("absent", "play"),
    [
        (["torch", "onnx", "onnxscript", "safetensors"], "out=film.mp4"),
        ([*NOT_NEEDED], ""),  # in a window, by the dummy driver
    ],
    ids=["no torch", "almost nothing"],
)
def test_the_file_alone_plays(path: Path, tmp_path: Path, absent: list[str], play: str) -> None:
    """Env, facts and the player, with NumPy, pygame, Gymnasium and ONNX Runtime alone."""
    code = f"""
import sys
sys.modules.update(dict.fromkeys({absent}))
import gymnasium, worldflow
from worldflow.cli import main
import worldflow.demos.window
worldflow.demos.window.why_no_display = lambda: None
env = gymnasium.make("worldflow/World-v0", world={str(path)!r}, surprise=True)
frame, _ = env.reset(seed=0)
_, _, _, _, info = env.step(1)
assert frame.shape == (16, 16, 3) and info["nll_excess"] > 0
assert main(["play", {str(path)!r}, "steps=5", "seed=0", "threads=1", *{play.split()}]) == 0
assert main(["info", {str(path)!r}]) == 0
assert main(["bench", {str(path)!r}, "steps=5", "batches=[2]", "threads=1"]) == 0
"""
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "film.mp4").exists() == bool(play)
    assert tiny_world().hash in told.stdout


def test_bad_files_are_told_in_one_line(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there; worldflow export makes one"):
        load_playable(str(tmp_path / "missing.onnx"))
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(InputError, match=r"text\.onnx is no ONNX model, or damaged"):
        load_playable(str(tmp_path / "text.onnx"))
    with pytest.raises(InputError, match="engine=torch cannot run"):
        load_playable(str(path), engine="torch")
