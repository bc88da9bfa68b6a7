"""Small recorded episodes for tests: a paddle and a ball on a still background."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldflow.episode import Episode, EpisodeWriter, Header, StepRecord

HEADER = Header(
    source="bounce",
    settings={"size": 64, "sticky": 0.25, "area": [0, 1]},
    frame_rate=5,
    action_names=("noop", "left", "right"),
    key_map={"": 0, "left": 1, "right": 2},
    seed=3,
    max_episode_steps=900,
)


def game_frame(t: int, size: int = 16, seed: int = 0) -> NDArray[np.uint8]:
    """Frame t, uint8 `(size, size, 3)`: different for every t < 250."""
    rng = np.random.default_rng(seed)
    frame = np.repeat(rng.integers(0, 120, (size, 1, 3)), size, axis=1).astype(np.uint8)
    x, y = (5 * t) % (size - 2), (3 * t) % (size - 2)
    frame[y : y + 2, x : x + 2] = 255 - t % 250
    frame[-2:, t % (size - 4) : t % (size - 4) + 4] = (200, 72, 72)
    return frame


def game_step(t: int, *, size: int = 16, **changes: Any) -> StepRecord:
    """Step t, which leads to frame t+1; no two steps are alike in any field that has room."""
    step = StepRecord(
        action=t % 3,
        frame=game_frame(t + 1, size),
        reward=0.1 * t if t % 4 == 0 else 0.0,
        terminated=False,
        truncated=t % 6 == 5,
        life_lost=t % 7 == 3,
        origin="real" if t < 8 else "dream",
        controller=("random", "human", "scripted+0.3")[t // 6 % 3],
        noise_seed=2**64 - 1 - t,
        noise_row=2**63 + t,
        noise_counter=t,
        temperature=1 / (1 + t),
        truth={"ball": np.array([t, -t], np.int16), "speed": np.array(t / 3, np.float32)}
        if t < 8
        else {},
    )
    return replace(step, **changes)


def record_frames(path: Path, frames: Sequence[NDArray[np.uint8]]) -> Path:
    """An episode that shows `frames`, in which nothing is done and nothing earned."""
    with EpisodeWriter(path, HEADER, frames[0][None], np.zeros(0, np.int64)) as writer:
        for frame in frames[1:]:
            writer.append(StepRecord(0, frame, 0.0, False, False, False, "real", "random"))
    return path


def record(
    path: Path, steps: int, header: Header = HEADER, *, size: int = 16, ends: bool = True
) -> Episode:
    """An episode of `steps` steps whose last is a termination, if `ends`."""
    start = game_frame(0, size)[None]
    with EpisodeWriter(path, header, start, np.zeros(0, np.int64)) as writer:
        for t in range(steps):
            writer.append(game_step(t, size=size, terminated=ends and t == steps - 1))
    return Episode.open(path)
