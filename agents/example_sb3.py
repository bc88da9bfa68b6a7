"""Stable-Baselines3 in a learned world: `python -m worldflow.agents.example_sb3 bounce`.

Needs `pip install 'worldflow[sb3]'`. A single rollout needs no adapter at all:
`PPO("CnnPolicy", gymnasium.make("worldflow/Bounce-v0"))`; `LearnedVecEnv` is for many that are
drawn by one step of the engine.
"""

import sys
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from worldflow.envs.world_vector_env import WorldVectorEnv


class LearnedVecEnv(VecEnv):
    """A `WorldVectorEnv` with Stable-Baselines3's face.

    Args:
        env: with autoreset within the step, which is how Stable-Baselines3 resets.
    """

    def __init__(self, env: WorldVectorEnv) -> None:
        if env.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise ValueError("expected a WorldVectorEnv(..., autoreset_mode='SameStep')")
        self.env = env
        self.render_mode = env.render_mode
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> NDArray[np.uint8]:
        seeds = [seed for seed in self._seeds if seed is not None]  # set by `seed`
        frames, _ = self.env.reset(seed=seeds[0] if seeds else None)
        self._reset_seeds()
        return frames

    def step_async(self, actions: NDArray[np.int64]) -> None:
        self.actions = np.asarray(actions, np.int64)

    def step_wait(self) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[Any], list[Any]]:
        frames, rewards, terminated, truncated, told = self.env.step(self.actions)
        ended = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(ended):
            infos[row]["terminal_observation"] = told["final_obs"][row]
            infos[row]["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
        return frames, rewards.astype(np.float32), ended, infos

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.env, attr_name)] * len(self._rows(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **named: Any) -> Any:
        return [getattr(self.env, method_name)(*args, **named)] * len(self._rows(indices))

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: Any = None
    ) -> list[bool]:
        return [False] * len(self._rows(indices))

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        return self.env.render() or [None] * self.num_envs

    def _rows(self, indices: Any) -> list[int]:
        return list(self._get_indices(indices))


def train(world: str, steps: int, envs: int = 8) -> PPO:
    """Proximal policy optimisation for `steps` dreamed frames."""
    dreams = WorldVectorEnv(world, envs, autoreset_mode="SameStep", max_episode_steps=200)
    model = PPO("CnnPolicy", LearnedVecEnv(dreams), n_steps=32, batch_size=64, device="cpu")
    return model.learn(steps)


if __name__ == "__main__":
    train((sys.argv[1:] or ["bounce"])[0], steps=20_000).save("sb3-agent")
