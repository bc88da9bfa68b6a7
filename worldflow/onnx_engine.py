"""The Engine in ONNX Runtime: an exported `.onnx`, on the CPU or a GPU, without torch."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldflow.engine import State, Step
from worldflow.onnx_file import STATE, OnnxFile, read_metadata
from worldflow.onnx_runner import make_runner
from worldflow.onnx_session import open_session


class OnnxEngine:
    """`Engine` over an exported file; see the protocol for shapes.

    Args:
        path: a file that `worldflow export` has made.
        device: "cpu", "cuda" or "tensorrt".
        threads: of the CPU; 0 for one a core.

    Raises:
        InputError: not an exported world, damaged, or the GPU does not work.
    """

    name = "onnx"

    def __init__(self, path: Path, *, device: str = "cpu", threads: int = 0) -> None:
        session = open_session(path, device, threads)
        self.file: OnnxFile = read_metadata(path, session.get_modelmeta().custom_metadata_map)
        about = self.file.about
        self.provider: str = session.get_providers()[0]
        self.device = "cpu" if device == "cpu" else "cuda:0"
        self.dtype, self.world_hash = about.dtype, about.world_hash
        self.frame_shape, self.noise_size = about.frame_shape, about.noise_size
        self.action_count, self.gflop_per_frame = about.action_count, about.gflop_per_frame
        self._opened_with = (device, threads)
        self._step = make_runner(session, device)
        shapes = {node.name: tuple(node.shape[1:]) for node in session.get_inputs()}
        self._history, self._memory_shape = shapes["frames"][0], shapes["keys"]

    @cached_property
    def _score(self) -> Any:
        """The second model, opened when a frame is scored for the first time."""
        device, threads = self._opened_with
        return make_runner(open_session(self.file.score_model(), device, threads), device)

    def start(self, frames: NDArray[np.uint8], actions: NDArray[np.int64]) -> State:
        count = len(frames)
        state = self._first_state(frames[:, 0])
        noise = np.zeros((count, self.noise_size), np.float32)
        for t in range(actions.shape[1]):
            # Whatever it draws is replaced by what was seen; its memory is what counts.
            told = self.step(state, actions[:, t], noise, np.ones(count, np.float32))
            state = self.observe(told.state, frames[:, t + 1])
        return state

    def _first_state(self, frame: NDArray[np.uint8]) -> State:
        """At an episode's first `frame` `(N, H, W, 3)`."""
        count = len(frame)
        return {
            "frames": np.repeat(frame[:, None], self._history, axis=1),
            "actions": np.full((count, self._history - 1), self.action_count, np.int64),
            "keys": np.zeros((count, *self._memory_shape), np.float32),
            "values": np.zeros((count, *self._memory_shape), np.float32),
            "steps": np.zeros(count, np.int64),
            "recency": np.zeros(count, np.float32),
        }

    def step(
        self,
        state: State,
        action: NDArray[np.int64],
        noise: NDArray[np.float32],
        temperature: NDArray[np.float32],
    ) -> Step:
        told = self._step({**state, "action": action, "noise": noise, "temperature": temperature})
        return Step(
            frame=told["frame"],
            reward=told["reward"],
            p_terminated=told["p_terminated"],
            terminated=told["terminated"],
            state={name: told[f"next_{name}"] for name in STATE},
        )

    def observe(self, state: State, frame: NDArray[np.uint8]) -> State:
        frames = np.array(state["frames"])
        frames[:, -1] = frame
        return {**state, "frames": frames}

    def score(
        self,
        state: State,
        action: NDArray[np.int64],
        frame: NDArray[np.uint8],
        noise: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        told = self._score({**state, "action": action, "shown": frame, "noise": noise})
        nll_excess: NDArray[np.float32] = told["nll_excess"]
        return nll_excess
