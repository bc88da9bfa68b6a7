"""A learned world as a Gymnasium env."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from worldflow.card import Playable
from worldflow.envs.dream import Dream, EnvState
from worldflow.envs.keys import keys_to_action
from worldflow.envs.start import checked_integer, read_options
from worldflow.envs.viewer import Viewer
from worldflow.envs.world_vector_env import WorldVectorEnv, branch_out, checked_state
from worldflow.errors import InputError, did_you_mean

ONE = np.ones(1, np.bool_)
FIRST = np.zeros(1, np.int64)


class WorldEnv(gymnasium.Env[NDArray[np.uint8], np.int64]):
    """A learned world, one rollout.

    Made by `gymnasium.make("worldflow/Breakout-v0")`, `"worldflow/Bounce-v0"`, or
    `gymnasium.make("worldflow/World-v0", world=PATH)`, once `worldflow` is imported.

    **Observation**: the frame shown, uint8 `(H, W, 3)`. **Action**: `Discrete`; `action_names`
    says what each does. **Reward**: raw units of the game that was learned.

    **Episode end**: terminated when the world says so; truncated after `max_episode_steps`
    steps. `gymnasium.make` keeps an argument of that name for a `TimeLimit` of its own, which
    shortens episodes but cannot lengthen them beyond the world's; `WorldEnv(...)` and
    `gymnasium.make_vec` can.

    **Info**, all that is needed to record a step or draw it again: `noise_seed`, `noise_row`,
    `temperature` after reset and step; after a step also the `noise_counter` it used,
    `p_terminated` in [0, 1], and, with `surprise=True`, `nll_excess`: how improbable the frame
    shown is, in nats.

    **Reset** draws one of the world's own starts, unless the options name a place: `frames`
    (uint8 `(T, H, W, 3)` or `(H, W, 3)`) with `actions` `(T-1,)`; or `episode` (a path) with
    `step`; or `start` (an index). `temperature` holds for that episode. Options alter neither
    the luck nor the episodes that follow. The same seed, options and actions give the same
    bytes, on the same machine, engine and number of threads.

    Args:
        world: a shipped name, a run folder, a `.safetensors` file, or a world already loaded.
        engine: "auto", "torch", "onnx", ...: see `worldflow.playable.load_playable`.
        device: "auto", "cpu" or "cuda".
        render_mode: None, "rgb_array" or "human" (a window, at the frame rate of the game).
        max_episode_steps: >= 1; None for the world's own.
        temperature: >= 0; 0 takes the likeliest at each choice, 1 is the world's own chance.
        surprise: score every frame (`nll_excess`); costs about as much as a step.

    Raises:
        InputError: no such world, or an argument out of range.

    Example:
        >>> env = gymnasium.make("worldflow/Bounce-v0")  # doctest: +SKIP
        >>> frame, info = env.reset(seed=0)  # doctest: +SKIP
        >>> frame, reward, terminated, truncated, info = env.step(0)  # doctest: +SKIP
    """

    # Of a class, not of a world: the env itself has the world's frame rate.
    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"], "render_fps": 15}  # noqa: RUF012

    def __init__(
        self,
        world: str | Path | Playable,
        *,
        engine: str = "auto",
        device: str = "auto",
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        temperature: float = 1.0,
        surprise: bool = False,
    ) -> None:
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise InputError(f"render_mode={render_mode!r}: {did_you_mean(render_mode, modes)}")
        self.render_mode = render_mode
        self.dream = Dream(
            world,
            engine=engine,
            device=device,
            max_episode_steps=max_episode_steps,
            temperature=temperature,
            surprise=surprise,
        )
        card, played = self.dream.playable.card, self.dream.engine
        self.action_names = card.action_names
        self.metadata = {**self.metadata, "render_fps": int(card.frame_rate)}
        self.observation_space = spaces.Box(0, 255, played.frame_shape, np.uint8)
        self.action_space = spaces.Discrete(played.action_count)
        self.viewer: Viewer | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begin an episode; see the class for options. Without a seed the generator goes on.

        Raises:
            InputError: an option is unknown or does not fit the world.
        """
        super().reset(seed=seed)
        asked = read_options(options, self.dream.playable)
        self.dream.rows = self.dream.begin([self.np_random], asked)
        return self._seen(), self._episode_info()

    def step(
        self, action: np.int64 | int
    ) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Draw the next frame, given `action`.

        Raises:
            InputError: no such action.
            ResetNeeded: the episode has ended, or none has begun.
        """
        action = checked_integer("action", action, self.dream.engine.action_count - 1)
        if self.dream.rows.done[0]:
            raise ResetNeeded("the episode has ended: call reset() first")
        reward, terminated, truncated, info = self.dream.step(np.array([action]), ONE)
        told = self._episode_info() | {name: value[0].item() for name, value in info.items()}
        return self._seen(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), told

    def render(self) -> NDArray[np.uint8] | None:
        """The newest frame `(H, W, 3)`; in a window it is shown already, by `step`."""
        return self.dream.rows.frame[0].copy() if self.render_mode == "rgb_array" else None

    def get_keys_to_action(self) -> dict[tuple[int, ...], int]:
        """The world's keys, for `gymnasium.utils.play.play(env)`."""
        return keys_to_action(self.dream.playable.card.key_map)

    def close(self) -> None:
        """Close the window, if there is one; may be called again."""
        if self.viewer is not None:
            self.viewer.close()
            self.viewer = None

    def get_state(self) -> EnvState:
        """A copy of all that decides what comes next, as plain data of one row."""
        rngs = (dict(self.np_random.bit_generator.state),)
        return EnvState(self.dream.engine.world_hash, self.dream.rows.take(FIRST), rngs)

    def set_state(self, state: EnvState) -> None:
        """Go back to `state`: the same actions then give the same bytes, later episodes too.

        Args:
            state: of this env, or one row's of any env of this world.

        Raises:
            InputError: it is of another world, or of several rows.
        """
        checked_state(state, self.dream, count=1)
        self.dream.rows = state.rows.take(FIRST)
        self.np_random.bit_generator.state = state.rngs[0]

    def branch(self, n: int, *, same_luck: bool = False) -> WorldVectorEnv:
        """`n` rows that all stand where this env stands, and go on by themselves.

        Args:
            n: >= 1.
            same_luck: each row draws the noise that this env would draw (to compare actions);
                otherwise each has luck of its own, none that of this env (to plan fairly).
        """
        return branch_out(self.dream, self.get_state(), n, same_luck=same_luck)

    def _seen(self) -> NDArray[np.uint8]:
        """The newest frame, for the user to keep; shown, if there is a window."""
        frame: NDArray[np.uint8] = self.dream.rows.frame[0].copy()  # the state may share memory
        if self.render_mode == "human":
            if self.viewer is None:
                self.viewer = Viewer(self.dream.playable.card.name, self.metadata["render_fps"])
            self.viewer.show(frame)
        return frame

    def _episode_info(self) -> dict[str, Any]:
        rows = self.dream.rows
        return {
            "noise_seed": int(rows.noise_seed[0]),
            "noise_row": int(rows.noise_row[0]),
            "temperature": float(rows.temperature[0]),
        }
