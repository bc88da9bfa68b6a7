"""Any Gymnasium env whose observations are pictures, as a game for the window."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from worldflow.demos.view import View
from worldflow.errors import InputError


class EnvGame:
    """A `worldflow.demos.view.Game` around an env; it has no commands of its own.

    Args:
        env: observations uint8 `(H, W, 3)`, Discrete actions.
        seed: of the first reset.

    Raises:
        InputError: the env has other observations.
    """

    commands = frozenset[str]()

    def __init__(
        self,
        env: gymnasium.Env[NDArray[np.uint8], Any],
        title: str,
        key_map: Mapping[str, int],
        action_names: Sequence[str],
        frame_rate: int,
        seed: int | None = None,
    ) -> None:
        space = env.observation_space
        shape = space.shape or ()
        if space.dtype != np.uint8 or len(shape) != 3 or shape[-1] != 3:
            raise InputError(f"a window shows uint8 frames (H, W, 3), not {space}")
        self.title, self.key_map, self.frame_rate = title, key_map, frame_rate
        self.action_names = tuple(action_names)
        self._env = env
        self.restart(seed)

    def restart(self, seed: int | None = None) -> None:
        """Reset the env."""
        frame, _ = self._env.reset(seed=seed)
        self._view = View(frame)

    def step(self, action: int) -> None:
        """Step the env."""
        started = time.perf_counter()
        frame, reward, terminated, truncated, info = self._env.step(action)
        bits = (info["nll_excess"] / math.log(2),) if "nll_excess" in info else ()
        self._view = View(
            frame,
            step=self._view.step + 1,
            reward=float(reward),
            total=self._view.total + float(reward),
            action=action,
            p_terminated=info.get("p_terminated"),
            surprise=(*self._view.surprise[-240:], *bits),
            step_seconds=time.perf_counter() - started,
            over="game over" if terminated else "time is up" if truncated else "",
        )

    def view(self) -> View:
        """What the newest step showed."""
        return self._view

    def appraise(self) -> None:
        """There is nothing left to do after a step."""

    def command(self, name: str) -> None:
        """There are none."""

    def rest(self) -> None:
        """There is nothing pending."""

    def close(self) -> None:
        """The env is its owner's to close."""
