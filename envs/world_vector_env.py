"""Many rollouts of a learned world as one Gymnasium VectorEnv, batched in the engine."""

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from worldflow.card import Playable
from worldflow.envs.dream import Dream, EnvState, Outcome, fork
from worldflow.envs.start import ResetOptions, read_options
from worldflow.errors import InputError, did_you_mean

EPISODE_INFO = ("noise_seed", "noise_row", "temperature")
Info = dict[str, Any]


class WorldVectorEnv(VectorEnv[NDArray[np.uint8], NDArray[np.int64], NDArray[Any]]):
    """A learned world, `num_envs` rollouts, all drawn by one step of the engine.

    Made by `gymnasium.make_vec("worldflow/Breakout-v0", num_envs=8)`. Frames, actions, rewards,
    info and reset options are those of `WorldEnv`, rows first; info has Gymnasium's masks
    (`"_p_terminated"` says which rows have a `"p_terminated"`). Reset options hold for all rows
    that are reset.

    **Seed**: `reset(seed=s)` gives row i the generator of `s + i`. A row's luck depends on its
    own episodes only, not on when other rows end, nor on the autoreset mode.

    **Autoreset**: `NEXT_STEP`, a row that has ended is reset by the next step, which ignores
    its action and gives reward 0; `SAME_STEP`, by the step that ends it, which gives the last
    frame as `info["final_obs"]`; `DISABLED`, by `reset(options={"reset_mask": mask})`.

    Args:
        world: a shipped name, a run folder, a `.safetensors` file, or a world already loaded.
        num_envs: >= 1.
        engine: "auto", "torch", "onnx", ...: see `worldflow.playable.load_playable`.
        device: "auto", "cpu" or "cuda".
        render_mode: None or "rgb_array".
        autoreset_mode: one of Gymnasium's three, or its value.
        max_episode_steps: >= 1; None for the world's own.
        temperature: >= 0; 0 takes the likeliest at each choice, 1 is the world's own chance.
        surprise: score every frame (`nll_excess`); costs about as much as a step.

    Raises:
        InputError: no such world, or an argument out of range.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": 15,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        world: str | Path | Playable,
        num_envs: int = 1,
        *,
        engine: str = "auto",
        device: str = "auto",
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        temperature: float = 1.0,
        surprise: bool = False,
    ) -> None:
        if not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise InputError(f"num_envs={num_envs!r}: expected an integer >= 1")
        if render_mode not in (None, "rgb_array"):
            raise InputError(f"render_mode={render_mode!r}: many rollouts give only 'rgb_array'")
        self.num_envs = int(num_envs)
        self.render_mode = render_mode
        self.autoreset_mode = checked_mode(autoreset_mode)
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
        self.metadata = {
            **self.metadata,
            "render_fps": int(card.frame_rate),
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_observation_space = spaces.Box(0, 255, played.frame_shape, np.uint8)
        self.single_action_space = spaces.Discrete(played.action_count)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.rngs = [seeding.np_random()[0] for _ in range(self.num_envs)]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], Info]:
        """Begin episodes in all rows, or in those of the option `reset_mask`, bool `(N,)`.

        Raises:
            InputError: an option is unknown or does not fit the world.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        mask = self._checked_mask(options.pop("reset_mask", np.ones(self.num_envs, np.bool_)))
        asked = read_options(options, self.dream.playable)
        if seed is not None:
            for row in np.flatnonzero(mask):
                self.rngs[row] = seeding.np_random(int(seed) + int(row))[0]
        self._begin(mask, asked)
        return self.dream.rows.frame.copy(), self._info({}, mask, mask)

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], Info]:
        """Draw the next frame of every row, given `actions` `(N,)`.

        Raises:
            InputError: actions of another shape, or no such action.
            ResetNeeded: no episode has begun, or one has ended and autoreset is disabled.
        """
        actions = self._checked_actions(actions)
        ended = self.dream.rows.done
        if ended.any() and self.autoreset_mode is not AutoresetMode.NEXT_STEP:
            rows = np.flatnonzero(ended).tolist()
            raise ResetNeeded(f"rows {rows} have ended: reset them with options['reset_mask']")
        outcome = self.dream.step(actions, active=~ended)
        everywhere = np.ones(self.num_envs, np.bool_)
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            info = self._reset_finished(outcome)
        else:
            if ended.any():
                self._begin(ended, ResetOptions())
            info = self._info(outcome.info, everywhere, ~ended)
        frames = self.dream.rows.frame.copy()  # the engine's state may share its memory
        return frames, outcome.reward, outcome.terminated, outcome.truncated, info

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """The newest frames, N of `(H, W, 3)`."""
        return tuple(self.dream.rows.frame.copy()) if self.render_mode == "rgb_array" else None

    def get_state(self, rows: ArrayLike | None = None) -> EnvState:
        """A copy of all that decides what comes next, as plain data of N rows.

        Args:
            rows: indices; None for all.
        """
        chosen = self._checked_rows(rows)
        rngs = tuple(dict(self.rngs[row].bit_generator.state) for row in chosen)
        return EnvState(self.dream.engine.world_hash, self.dream.rows.take(chosen), rngs)

    def set_state(self, state: EnvState, rows: ArrayLike | None = None) -> None:
        """Go back to `state`: the same actions then give the same bytes, later episodes too.

        Args:
            state: of as many rows as are set, from any env of this world.
            rows: indices of the rows to set; None for all.

        Raises:
            InputError: it is of another world, or of another number of rows.
        """
        chosen = self._checked_rows(rows)
        checked_state(state, self.dream, count=len(chosen))
        if rows is None:
            self.dream.rows = state.rows.take(chosen)
        else:
            self.dream.rows = self.dream.rows.put(chosen, state.rows)
        for row, rng in zip(chosen, state.rngs, strict=True):
            self.rngs[row].bit_generator.state = rng

    def branch(self, row: int, n: int, *, same_luck: bool = False) -> "WorldVectorEnv":
        """`n` rows that all stand where `row` stands, and go on by themselves.

        Args:
            row: index of the row to branch from.
            n: >= 1.
            same_luck: each draws the noise that `row` would draw (to compare actions);
                otherwise each has luck of its own, none that of `row` (to plan fairly).
        """
        state = self.get_state([row])
        return branch_out(self.dream, state, n, same_luck=same_luck, mode=self.autoreset_mode)

    def _begin(self, mask: NDArray[np.bool_], options: ResetOptions) -> None:
        rows = np.flatnonzero(mask)
        fresh = self.dream.begin([self.rngs[row] for row in rows], options)
        self.dream.rows = fresh if mask.all() else self.dream.rows.put(rows, fresh)

    def _reset_finished(self, outcome: Outcome) -> Info:
        """Autoreset within the step; the info, with that of the last steps under "final_"."""
        everywhere = np.ones(self.num_envs, np.bool_)
        finished = outcome.terminated | outcome.truncated
        if not finished.any():
            return self._info(outcome.info, everywhere, everywhere)
        last_info = self._info(outcome.info, finished, finished)
        last_frames = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(finished):
            last_frames[row] = self.dream.rows.frame[row].copy()
        self._begin(finished, ResetOptions())
        final = {"final_obs": last_frames, "final_info": last_info}
        final |= {f"_{name}": finished.copy() for name in tuple(final)}
        return self._info(outcome.info, everywhere, ~finished) | final

    def _info(
        self, stepped: dict[str, NDArray[Any]], told: NDArray[np.bool_], active: NDArray[np.bool_]
    ) -> Info:
        """Info of the rows `told`, and what the step gave for those `active`, with masks."""
        info: Info = {}
        columns = {name: (getattr(self.dream.rows, name), told) for name in EPISODE_INFO}
        columns |= {name: (column, active) for name, column in stepped.items()}
        for name, (column, mask) in columns.items():
            info[name] = np.where(mask, column, np.zeros((), column.dtype))
            info[f"_{name}"] = mask.copy()
        return info

    def _checked_actions(self, actions: ArrayLike) -> NDArray[np.int64]:
        array = np.asarray(actions)
        count = self.dream.engine.action_count
        if array.shape != (self.num_envs,) or array.dtype.kind not in "iu":
            raise InputError(
                f"actions are {array.dtype} of shape {array.shape}: "
                f"expected integers of shape ({self.num_envs},)"
            )
        if ((array < 0) | (array >= count)).any():
            raise InputError(f"actions={array.tolist()}: expected integers from 0 to {count - 1}")
        return array.astype(np.int64)

    def _checked_mask(self, mask: Any) -> NDArray[np.bool_]:
        array = np.asarray(mask)
        if array.shape != (self.num_envs,) or array.dtype != np.bool_ or not array.any():
            raise InputError(
                f"reset option 'reset_mask' is {array.tolist()}: expected {self.num_envs} bools, "
                "at least one of them True"
            )
        return array

    def _checked_rows(self, rows: ArrayLike | None) -> NDArray[np.int64]:
        array = np.arange(self.num_envs) if rows is None else np.asarray(rows)
        fits = array.ndim == 1 and array.dtype.kind in "iu"
        if not fits or ((array < 0) | (array >= self.num_envs)).any():
            raise InputError(f"rows={rows!r}: expected indices from 0 to {self.num_envs - 1}")
        return array.astype(np.int64)


def checked_mode(mode: AutoresetMode | str) -> AutoresetMode:
    """An autoreset mode by itself or by its value ("SameStep"), or an InputError."""
    try:
        return AutoresetMode(mode)
    except ValueError:
        values = [choice.value for choice in AutoresetMode]
        raise InputError(f"autoreset_mode={mode!r}: {did_you_mean(str(mode), values)}") from None


def checked_state(state: EnvState, dream: Dream, *, count: int) -> None:
    """Raise an InputError unless `state` is of `count` rows of the world of `dream`."""
    if not isinstance(state, EnvState):
        raise InputError(f"a {type(state).__name__} is no state: expected one from get_state()")
    if state.world_hash != dream.engine.world_hash:
        raise InputError(
            f"the state is of world {state.world_hash!r}, this env's is {dream.engine.world_hash!r}"
        )
    if len(state) != count:
        raise InputError(f"the state has {len(state)} rows: expected {count}")


def branch_out(
    dream: Dream,
    state: EnvState,
    n: int,
    *,
    same_luck: bool,
    mode: AutoresetMode = AutoresetMode.NEXT_STEP,
) -> WorldVectorEnv:
    """An env of `n` rows in the one state, with the settings of `dream`."""
    forked = fork(state, n, same_luck=same_luck)
    envs = WorldVectorEnv(
        dream.playable,
        len(forked),
        autoreset_mode=mode,
        max_episode_steps=dream.max_episode_steps,
        temperature=dream.temperature,
        surprise=dream.surprise,
    )
    envs.dream.starts = dream.starts  # what has been replayed need not be again
    envs.set_state(forked)
    return envs
