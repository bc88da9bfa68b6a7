"""A small game with an Engine's face: what env, player and bench are tested with."""

import numpy as np
from numpy.typing import NDArray

from worldflow.card import Playable, WorldCard
from worldflow.engine import State, Step

MEMORY = 4  # frames the state keeps


class FakeEngine:
    """A bar at the column of the sum of all actions, over a ground of noise.

    The ground is 16 levels per standard deviation of the noise, the bar has level 255, the
    red of the top left pixel is the last action and its green counts the steps. An action
    gives its own number as reward. A step ends with `p_terminated` from the last noise entry.
    """

    name = "fake"
    device = "cpu"
    dtype = "float32"
    world_hash = "fake"

    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (64, 64, 3),
        action_count: int = 3,
        p_terminated: float = 0.0,
    ) -> None:
        self.frame_shape = frame_shape
        self.action_count = action_count
        self.p_terminated = p_terminated
        self.noise_size = int(np.prod(frame_shape)) + 1
        self.batches: dict[str, list[int]] = {"start": [], "step": [], "score": []}

    def start(self, frames: NDArray[np.uint8], actions: NDArray[np.int64]) -> State:
        """The bar stands where the actions moved it, from column 0."""
        count, length = frames.shape[:2]
        assert actions.shape == (count, length - 1)
        assert frames.shape[2:] == self.frame_shape
        self.batches["start"].append(count)
        ring = np.repeat(frames[:, :1], MEMORY, axis=1)
        recent = frames[:, -MEMORY:]
        ring[:, MEMORY - recent.shape[1] :] = recent
        steps = np.full(count, length - 1, np.int64)
        return {"frames": ring, "column": actions.sum(axis=1), "count": steps}

    def step(
        self,
        state: State,
        action: NDArray[np.int64],
        noise: NDArray[np.float32],
        temperature: NDArray[np.float32],
    ) -> Step:
        """One step of the game."""
        count = len(action)
        assert noise.shape == (count, self.noise_size)
        assert noise.dtype == temperature.dtype == np.float32
        assert action.shape == temperature.shape == (count,)
        self.batches["step"].append(count)
        column, steps = state["column"] + action, state["count"] + 1
        ground = noise[:, :-1].reshape(count, *self.frame_shape)
        levels = 100 + 16 * temperature[:, None, None, None] * ground
        levels = 0.5 * levels + 0.5 * state["frames"][:, 0]  # so that older frames matter, too
        frame = np.clip(levels, 0, 254).astype(np.uint8)
        frame[np.arange(count), :, column % self.frame_shape[1]] = 255
        frame[:, 0, 0, 0], frame[:, 0, 0, 1] = action, steps % 256
        ring = np.concatenate([state["frames"][:, 1:], frame[:, None]], axis=1)
        return Step(
            frame=ring[:, -1],  # shares memory with the state, as an engine's frames may
            reward=action.astype(np.float32),
            p_terminated=np.full(count, self.p_terminated, np.float32),
            # about uniform in [0, 1), which is all that a fake needs
            terminated=np.abs(noise[:, -1] * 1000) % 1 < self.p_terminated,
            state={"frames": ring, "column": column, "count": steps},
        )

    def observe(self, state: State, frame: NDArray[np.uint8]) -> State:
        """The same state with another newest frame."""
        ring = state["frames"].copy()
        ring[:, -1] = frame
        return {**state, "frames": ring}

    def score(
        self,
        state: State,
        action: NDArray[np.int64],
        frame: NDArray[np.uint8],
        noise: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """How far the frame is from the newest one, and a little noise."""
        self.batches["score"].append(len(action))
        distance = np.abs(frame.astype(np.float32) - state["frames"][:, -1]).mean(axis=(1, 2, 3))
        jitter: NDArray[np.float32] = distance + action + 0.01 * noise[:, 0]
        return jitter


def make_playable(
    frame_shape: tuple[int, int, int] = (64, 64, 3),
    action_count: int = 3,
    p_terminated: float = 0.0,
    starts: int = 4,
    start_length: int = 3,
    max_episode_steps: int = 100,
) -> Playable:
    """A world around a FakeEngine; start i shows a plain screen of level 10 i + t at frame t."""
    levels = 10 * np.arange(starts)[:, None] + np.arange(start_length)
    frames = np.broadcast_to(
        levels[:, :, None, None, None], (starts, start_length, *frame_shape)
    ).astype(np.uint8)
    names = ("noop", "right", "left", "fire")[:action_count]
    card = WorldCard(
        name="fake",
        game="fake",
        settings={},
        action_names=names + tuple(f"action {i}" for i in range(4, action_count)),
        key_map={"": 0, "right": 1, "left": 2},
        frame_rate=30,
        max_episode_steps=max_episode_steps,
    )
    engine = FakeEngine(frame_shape, action_count, p_terminated)
    return Playable(card, engine, frames, np.zeros((starts, start_length - 1), np.int64))
