"""What env, player and agents know of a world: start, step, observe, score."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

State = dict[str, Any]
"""A dict of arrays of the engine's own kind (NumPy or torch), rows first."""


class Step(NamedTuple):
    """What one step gives; N rows."""

    frame: NDArray[np.uint8]  # (N, H, W, 3), the shown next frame
    reward: NDArray[np.float32]  # (N,), raw game units
    p_terminated: NDArray[np.float32]  # (N,), in [0, 1]
    terminated: NDArray[np.bool_]  # (N,), drawn with p_terminated from the noise
    state: State


class Engine(Protocol):
    """Pure and batched: nothing is kept between calls but what the state holds."""

    name: str  # "torch", "onnx"
    device: str  # "cpu", "cuda:0"
    dtype: str  # "float32", ...
    world_hash: str
    frame_shape: tuple[int, int, int]  # (H, W, 3)
    action_count: int
    noise_size: int  # Z

    def start(self, frames: NDArray[np.uint8], actions: NDArray[np.int64]) -> State:
        """The state after `frames` `(N, T, H, W, 3)`, T >= 1, and `actions` `(N, T-1)`.

        Replays streamed steps; before the first frame, padded as at an episode's start.
        """
        ...

    def step(
        self,
        state: State,
        action: NDArray[np.int64],
        noise: NDArray[np.float32],
        temperature: NDArray[np.float32],
    ) -> Step:
        """Draw the next frame: `action` `(N,)`, `noise` `(N, Z)`, `temperature` `(N,)`."""
        ...

    def observe(self, state: State, frame: NDArray[np.uint8]) -> State:
        """The same state with `frame` `(N, H, W, 3)` as its newest frame."""
        ...

    def score(
        self,
        state: State,
        action: NDArray[np.int64],
        frame: NDArray[np.uint8],
        noise: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """`nll_excess` `(N,)`, nats per frame, of `frame` as the one that follows `state`.

        The frame is noised with the first D = 3HW entries of `noise` `(N, Z)`.
        """
        ...


def take_rows(state: State, rows: NDArray[np.int64]) -> State:
    """The rows of a state named by an index array, copied; a row may be named twice."""
    return {name: value[rows] for name, value in state.items()}


def put_rows(state: State, rows: NDArray[np.int64], source: State) -> State:
    """A copy of `state` whose `rows` are those of `source`."""
    merged = {}
    for name, value in state.items():
        merged[name] = value.clone() if hasattr(value, "clone") else value.copy()
        merged[name][rows] = source[name]
    return merged
