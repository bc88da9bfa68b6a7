"""The rollouts behind both envs: N rows in a learned world, one engine step for all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from worldflow.card import Playable
from worldflow.engine import State, put_rows, take_rows
from worldflow.envs.start import ResetOptions, Starts, checked_temperature
from worldflow.errors import InputError
from worldflow.noise import standard_normal

SCORE_ROWS = 2**63  # added to a row's noise row, it gives the noise that scores its frames


@dataclass(frozen=True, eq=False)
class Rows:
    """Where N rollouts stand; plain data."""

    engine: State  # rows first
    frame: NDArray[np.uint8]  # (N, H, W, 3), the newest
    noise_seed: NDArray[np.uint64]  # (N,), drawn anew for each episode
    noise_row: NDArray[np.uint64]  # (N,), < SCORE_ROWS; 0 but in a branch
    counter: NDArray[np.int64]  # (N,), steps since the reset; also the next step's noise counter
    temperature: NDArray[np.float64]  # (N,)
    done: NDArray[np.bool_]  # (N,), ended and not reset yet

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: NDArray[np.int64]) -> "Rows":
        """A copy of the rows named; a row may be named twice."""
        columns = {name: column[rows] for name, column in self._columns().items()}
        return Rows(engine=take_rows(self.engine, rows), **columns)

    def put(self, rows: NDArray[np.int64], source: "Rows") -> "Rows":
        """A copy in which `rows` are those of `source`."""
        columns = put_rows(self._columns(), rows, source._columns())
        return Rows(engine=put_rows(self.engine, rows, source.engine), **columns)

    def _columns(self) -> dict[str, Any]:
        return {name: column for name, column in vars(self).items() if name != "engine"}


@dataclass(frozen=True, eq=False)
class EnvState:
    """All that decides what N rows of an env do next: see `get_state` of the envs."""

    world_hash: str
    rows: Rows
    rngs: tuple[dict[str, Any], ...]  # N states of the generators that draw later episodes

    def __len__(self) -> int:
        return len(self.rows)


class Outcome(NamedTuple):
    """What one step gave, beside the frames; N rows. Rows that were not active hold zeros."""

    reward: NDArray[np.float64]  # (N,), raw game units
    terminated: NDArray[np.bool_]  # (N,)
    truncated: NDArray[np.bool_]  # (N,)
    info: dict[str, NDArray[Any]]  # each (N,)


class Dream:
    """N rollouts of a world, with noise that any step can be repeated from.

    Args:
        world: name or path of a world, or one that is loaded.
        engine: "auto", "torch", ...; with `device`, how to run a world that is not loaded yet.
        max_episode_steps: >= 1; None for the world's own.
        temperature: >= 0, unless a reset names another for its episode.
        surprise: score every frame, too (`nll_excess`).

    Raises:
        InputError: no such world, or an argument out of range.
    """

    def __init__(
        self,
        world: str | Path | Playable,
        *,
        engine: str,
        device: str,
        max_episode_steps: int | None,
        temperature: float,
        surprise: bool,
    ) -> None:
        self.playable = load(world, engine, device)
        self.engine = self.playable.engine
        limit = self.playable.card.max_episode_steps
        limit = limit if max_episode_steps is None else max_episode_steps
        if not isinstance(limit, int | np.integer) or limit < 1:
            raise InputError(f"max_episode_steps={limit!r}: expected an integer >= 1")
        self.max_episode_steps = int(limit)
        self.temperature = checked_temperature(temperature)
        self.surprise = surprise
        self.starts = Starts(self.playable)
        self._rows: Rows | None = None

    @property
    def rows(self) -> Rows:
        """Where the rollouts stand.

        Raises:
            ResetNeeded: they have not begun.
        """
        if self._rows is None:
            raise ResetNeeded("the env has not been reset: call reset() first")
        return self._rows

    @rows.setter
    def rows(self, rows: Rows) -> None:
        self._rows = rows

    def begin(self, rngs: Sequence[np.random.Generator], options: ResetOptions) -> Rows:
        """New episodes, one for each generator, at the starts they draw or options name."""
        # Both are drawn whatever the options say: they alter no luck and no later episode.
        draws = [(rng.integers(2**63), int(rng.integers(len(self.starts)))) for rng in rngs]
        if options.context is not None:
            starts = [self.starts.after(options.context)] * len(rngs)
        elif options.start is not None:
            starts = [self.starts.own(options.start)] * len(rngs)
        else:
            starts = [self.starts.own(index) for _, index in draws]
        temperature = self.temperature if options.temperature is None else options.temperature
        count = len(starts)
        return Rows(
            engine=join_rows([start.state for start in starts]),
            frame=np.stack([start.frame for start in starts]),
            noise_seed=np.array([seed for seed, _ in draws], np.uint64),
            noise_row=np.zeros(count, np.uint64),
            counter=np.zeros(count, np.int64),
            temperature=np.full(count, temperature),
            done=np.zeros(count, np.bool_),
        )

    def step(self, actions: NDArray[np.int64], active: NDArray[np.bool_]) -> Outcome:
        """Advance the rows that are `active` `(N,)`; the frames are then in `rows`.

        The others go through the engine, too, for its batch size must not change, but their
        state is void afterwards: the caller puts new episodes there.
        """
        rows = self.rows
        temperature = rows.temperature.astype(np.float32)
        noise = self._noise(active, first_row=0)
        frame, reward, p_terminated, ended, state = self.engine.step(
            rows.engine, actions, noise, temperature
        )
        info: dict[str, NDArray[Any]] = {
            "p_terminated": p_terminated.astype(np.float64),
            "noise_counter": rows.counter,
        }
        if self.surprise:
            noise = self._noise(active, first_row=SCORE_ROWS)
            surprise = self.engine.score(rows.engine, actions, frame, noise)
            info["nll_excess"] = surprise.astype(np.float64)
        counter = rows.counter + 1
        terminated = ended & active
        truncated = (counter >= self.max_episode_steps) & active
        done = terminated | truncated
        self._rows = replace(rows, engine=state, frame=frame, counter=counter, done=done)
        rewards = np.where(active, reward.astype(np.float64), 0.0)
        return Outcome(rewards, terminated, truncated, info)

    def _noise(self, active: NDArray[np.bool_], first_row: int) -> NDArray[np.float32]:
        rows = self.rows
        noise = np.zeros((len(rows), self.engine.noise_size), np.float32)
        for i in np.flatnonzero(active):
            seed, row, counter = rows.noise_seed[i], rows.noise_row[i], rows.counter[i]
            key = int(seed), int(row) + first_row, int(counter)
            noise[i] = standard_normal(*key, self.engine.noise_size)
        return noise


def load(world: str | Path | Playable, engine: str, device: str) -> Playable:
    """A world by name or path, as it is if loaded."""
    if isinstance(world, Playable):
        return world
    from worldflow.playable import load_playable  # late, for it brings torch with it

    return load_playable(str(world), engine=engine, device=device)


def join_rows(states: Sequence[State]) -> State:
    """One state of N rows from N states of one row, whatever their arrays are made of."""
    joined = take_rows(states[0], np.zeros(len(states), np.int64))
    for row, state in enumerate(states):
        for name in joined:
            joined[name][row] = state[name][0]
    return joined


def fork(state: EnvState, n: int, *, same_luck: bool) -> EnvState:
    """`n` rows that all stand where the one row of `state` stands.

    With `same_luck` each has the noise, and the later episodes, that the one would have.
    Otherwise row i has noise row i under a seed that is a function of the one's noise key:
    luck of its own, the same however often the same state is forked.
    """
    if not isinstance(n, int | np.integer) or n < 1:
        raise InputError(f"n={n!r}: expected an integer >= 1, the number of rows to branch to")
    rows = state.rows.take(np.zeros(n, np.int64))
    if same_luck:
        return replace(state, rows=rows, rngs=state.rngs * n)
    row, counter = int(rows.noise_row[0]), int(rows.counter[0])
    key = np.random.SeedSequence(int(rows.noise_seed[0]), spawn_key=(row, counter))
    rows.noise_seed[:] = key.generate_state(1, np.uint64)
    rows.noise_row[:] = np.arange(n)
    rngs = tuple(dict(np.random.PCG64(child).state) for child in key.spawn(n))
    return replace(state, rows=rows, rngs=rngs)
