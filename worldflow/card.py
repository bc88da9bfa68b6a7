"""What a world file tells of itself, and all that an env or a player needs of a world."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldflow.engine import Engine


@dataclass(frozen=True)
class WorldCard:
    """The metadata of a learned world; JSON in the world file."""

    name: str
    game: str  # the source game's id: "bounce", "ALE/Breakout-v5"
    settings: dict[str, Any]  # of the source game: skip, sticky, size, ...
    action_names: tuple[str, ...]
    key_map: dict[str, int]  # pygame key names joined by "+" -> action; "" = nothing held
    frame_rate: int  # steps per second
    max_episode_steps: int
    training: dict[str, Any] = field(default_factory=dict)  # command, data, hardware, time
    metrics: dict[str, Any] = field(default_factory=dict)  # of `worldflow evaluate`


@dataclass(frozen=True)
class Playable:
    """A world ready to run: what env, player and agents get, whatever the engine."""

    card: WorldCard
    engine: Engine
    start_frames: NDArray[np.uint8]  # (S, T, H, W, 3), S starts of T frames each, T >= 1
    start_actions: NDArray[np.int64]  # (S, T-1)
