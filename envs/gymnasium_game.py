"""Any Gymnasium env with Discrete actions that shows a picture, as a source game."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from worldflow.envs.area import AreaResize
from worldflow.envs.keys import key_name
from worldflow.envs.source import GameCard, SourceGame, unknown_id
from worldflow.errors import InputError

MAX_EPISODE_STEPS = 4500  # where the env has no limit of its own
FRAME_RATE = 15  # where the env has none

# Gymnasium envs do not name their actions; these are in their documentation.
ACTION_NAMES = {
    "Acrobot": ("left", "noop", "right"),
    "CartPole": ("left", "right"),
    "CliffWalking": ("up", "right", "down", "left"),
    "FrozenLake": ("left", "down", "right", "up"),
    "FrozenLake8x8": ("left", "down", "right", "up"),
    "LunarLander": ("noop", "left", "up", "right"),
    "MountainCar": ("left", "noop", "right"),
    "Taxi": ("down", "up", "right", "left", "pickup", "dropoff"),
}
ARROWS = {2: ("left", "right"), 3: ("left", "down", "right"), 4: ("left", "down", "right", "up")}


class GymnasiumGame(SourceGame):
    """A Gymnasium env by its id.

    Frames are its observations where these are pictures, else what it renders as `rgb_array`;
    resized to `(size, size, 3)` by area, whatever their shape.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own way)

    def __init__(self, env_id: str, *, size: int = 64) -> None:
        """See `make_source`. Raises InputError where the env has no Discrete actions or picture."""
        self.env = _make(env_id, None)
        actions = self.env.action_space
        if not isinstance(actions, spaces.Discrete):
            raise InputError(f"env={env_id}: actions are {actions}, expected Discrete ones")
        self.observes = _is_picture(self.env.observation_space)
        if not self.observes:
            if "rgb_array" not in self.env.metadata.get("render_modes", ()):
                raise InputError(
                    f"env={env_id}: no picture to learn from: observations are"
                    f" {self.env.observation_space} and there is no rgb_array rendering"
                )
            self.env.close()
            self.env = _make(env_id, "rgb_array")
        self.first_action = int(actions.start)
        self.lives = 0
        observation, _ = self.env.reset(seed=0)
        picture = self._picture(observation)
        self.resize = AreaResize(picture.shape[0], picture.shape[1], size)
        self.observation_space = spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = spaces.Discrete(int(actions.n))
        names = action_names(env_id, int(actions.n))
        spec = self.env.spec
        self.card = GameCard(
            id=env_id,
            action_names=names,
            key_map=own_keys(self.env, self.first_action) or usual_keys(names),
            frame_rate=max(1, round(self.env.metadata.get("render_fps") or FRAME_RATE)),
            settings={"size": size, "resize": "area"},
            max_episode_steps=(spec and spec.max_episode_steps) or MAX_EPISODE_STEPS,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """A new episode: `options` are the env's own."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.lives = info.get("lives", 0)
        return self.resize(self._picture(observation)), {"life_lost": False}

    def step(
        self, action: np.int64 | int
    ) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Frame, reward, terminated, truncated, info with `life_lost` if the env counts `lives`."""
        observation, reward, terminated, truncated, info = self.env.step(
            int(action) + self.first_action
        )
        lives, self.lives = self.lives, info.get("lives", 0)
        return (
            self.resize(self._picture(observation)),
            float(reward),
            bool(terminated),
            bool(truncated),
            {"life_lost": self.lives < lives},
        )

    def close(self) -> None:
        self.env.close()

    def _picture(self, observation: Any) -> NDArray[np.uint8]:
        """The env's own picture `(H, W, 3)`, uint8; grey ones become RGB."""
        picture = np.asarray(observation if self.observes else self.env.render())
        if picture.ndim == 2:
            picture = picture[..., None]
        return np.broadcast_to(picture, (*picture.shape[:2], 3))


def _make(env_id: str, render_mode: str | None) -> gymnasium.Env[Any, Any]:
    try:
        return gymnasium.make(env_id, render_mode=render_mode, disable_env_checker=True)
    except gymnasium.error.DependencyNotInstalled as error:
        raise InputError(f"env={env_id}: {error}") from error
    except gymnasium.error.Error as error:
        raise unknown_id(env_id) from error
    except ModuleNotFoundError as error:
        missing = error.name or env_id.partition(":")[0]  # Gymnasium hides the name of the latter
        raise InputError(f"env={env_id}: there is no module {missing}; install it") from error


def _is_picture(space: spaces.Space[Any]) -> bool:
    """Whether observations are uint8 pictures: `(H, W)`, `(H, W, 1)` or `(H, W, 3)`."""
    return (
        isinstance(space, spaces.Box)
        and space.dtype == np.uint8
        and (len(space.shape) == 2 or (len(space.shape) == 3 and space.shape[2] in (1, 3)))
        and min(space.shape[:2]) >= 8  # less is a grid of symbols
    )


def action_names(env_id: str, actions: int) -> tuple[str, ...]:
    """What the documentation calls the actions, or "action 0", "action 1", ..."""
    names = ACTION_NAMES.get(env_id.partition("-v")[0], ())
    if len(names) == actions:
        return names
    return tuple(f"action {action}" for action in range(actions))


def own_keys(env: gymnasium.Env[Any, Any], first_action: int) -> dict[str, int]:
    """The env's `get_keys_to_action` in pygame's names; {} if it has none."""
    if not hasattr(env.unwrapped, "get_keys_to_action"):
        return {}
    keys = {}
    for held, action in env.unwrapped.get_keys_to_action().items():
        held = held if isinstance(held, tuple) else () if held is None else (held,)
        keys["+".join(map(key_name, held))] = int(action) - first_action
    return {"": 0} | keys


def usual_keys(names: tuple[str, ...]) -> dict[str, int]:
    """Arrow keys by the actions' names, or by their number where there are 2 to 4; else 1 to 9."""
    keys = {"": names.index("noop") if "noop" in names else 0}
    keys |= {str(action + 1): action for action in range(min(len(names), 9))}
    arrows = {"left", "right", "up", "down"}
    usual = names if arrows & set(names) else ARROWS.get(len(names), ())
    return keys | {name: action for action, name in enumerate(usual) if name in arrows}
