"""One step of the real game, of the dream, or of both: what play, recording and replay share."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldflow.demos.reality import CONTEXT_STEPS, Reality, RealMark
from worldflow.engine import Engine, State, take_rows
from worldflow.envs.dream import SCORE_ROWS
from worldflow.envs.start import Context
from worldflow.episode import StepRecord
from worldflow.noise import standard_normal

Source = Literal["real", "dream", "split"]
Frame = NDArray[np.uint8]
FIRST = np.zeros(1, np.int64)


class Luck(NamedTuple):
    """The key of one step's noise."""

    seed: int
    row: int
    counter: int


class Move(NamedTuple):
    """All that a step is a function of, beside the place where it is taken."""

    source: Source  # split: the dream is what counts, and the real game takes the action too
    action: int
    luck: Luck
    temperature: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a step gave."""

    frame: Frame  # (H, W, 3), to be shown
    reward: float
    terminated: bool
    truncated: bool  # by the real game; a dream goes on until somebody cuts it off
    life_lost: bool
    p_terminated: float | None  # what the world thinks of it; None without a world
    truth: dict[str, NDArray[Any]] = field(default_factory=dict)  # of a real step's beginning


@dataclass(frozen=True, eq=False)
class StageMark:
    """Where a stage stands; plain data."""

    state: State | None
    frames: tuple[Frame, ...]
    actions: tuple[int, ...]
    real: RealMark | None

    def arrays(self) -> Iterator[NDArray[Any]]:
        """All that takes room; other marks may hold the same frames."""
        yield from (self.state or {}).values()
        yield from self.frames
        yield from self.real.frames if self.real is not None else ()


class Stage:
    """Where play stands, real or dreamed.

    The world watches the real game, too: its state takes in every real frame, so that a dream can
    go on from it at any moment, and so that every real frame can be scored.

    Args:
        engine: None if only the real game is to be played.
        reality: None if only the dream is.
    """

    def __init__(self, engine: Engine | None, reality: Reality | None = None) -> None:
        self.engine, self.reality = engine, reality
        self.frames: tuple[Frame, ...] = ()  # shown last, CONTEXT_STEPS at most
        self.actions: tuple[int, ...] = ()  # taken between them
        self._state: State | None = None
        self._scored: tuple[State, int] | None = None  # what the newest frame followed

    @property
    def state_bytes(self) -> int:
        """The size of what the world remembers."""
        return sum(array.nbytes for array in (self._state or {}).values())

    @property
    def frame(self) -> Frame:
        """The newest frame `(H, W, 3)`."""
        return self.frames[-1]

    def context(self) -> Context:
        """What was shown last, for something to begin after."""
        return Context(np.stack(self.frames), np.array(self.actions, np.int64))

    def begin(self, context: Context) -> None:
        """Stand behind these frames: what comes next is a function of them and of the moves."""
        frames, actions = context.frames[-CONTEXT_STEPS:], context.actions[-CONTEXT_STEPS + 1 :]
        self.frames, self.actions = tuple(frames), tuple(actions.tolist())
        self._scored = None
        if self.engine is not None:
            self._state = self.engine.start(frames[None], actions[None])

    def take(self, move: Move) -> Outcome:
        """Take one step. A real game that is over stays as it is while the dream goes on."""
        if move.source == "real":
            outcome = self._take_real(move)
        else:
            outcome = self._dream(move)
            if move.source == "split" and self.reality is not None and not self.reality.over:
                self.reality.step(move.action)
        self.frames = (*self.frames, outcome.frame)[-CONTEXT_STEPS:]
        self.actions = (*self.actions, move.action)[-CONTEXT_STEPS + 1 :]
        return outcome

    def score(self, luck: Luck) -> float | None:
        """`nll_excess` of the newest frame, nats; None if nothing led to it."""
        if self.engine is None or self._scored is None:
            return None
        state, action = self._scored
        noise = standard_normal(
            luck.seed, luck.row + SCORE_ROWS, luck.counter, self.engine.noise_size
        )
        nats = self.engine.score(state, np.array([action]), self.frame[None], noise[None])
        return float(nats[0])

    def mark(self) -> StageMark:
        """Where the stage stands now."""
        state = None if self._state is None else take_rows(self._state, FIRST)
        begun = self.reality is not None and self.reality.seed is not None
        real = self.reality.mark() if self.reality is not None and begun else None
        return StageMark(state, self.frames, self.actions, real)

    def go_back(self, mark: StageMark) -> None:
        """Stand where `mark` was made, with the real game as it was then."""
        self.frames, self.actions, self._scored = mark.frames, mark.actions, None
        self._state = None if mark.state is None else take_rows(mark.state, FIRST)
        if self.reality is not None:
            if mark.real is not None:
                self.reality.go_back(mark.real)
            else:
                self.reality.seed = None  # it had not begun

    def _take_real(self, move: Move) -> Outcome:
        assert self.reality is not None
        truth = self.reality.truth()
        real = self.reality.step(move.action)
        p_terminated = None
        if self.engine is not None:
            p_terminated = self._dream(move).p_terminated
            assert self._state is not None
            self._state = self.engine.observe(self._state, real.frame[None])
        return Outcome(
            real.frame,
            real.reward,
            real.terminated,
            real.truncated,
            real.life_lost,
            p_terminated,
            truth,
        )

    def _dream(self, move: Move) -> Outcome:
        assert self.engine is not None
        assert self._state is not None
        noise = standard_normal(*move.luck, self.engine.noise_size)
        temperature = np.array([move.temperature], np.float32)
        step = self.engine.step(self._state, np.array([move.action]), noise[None], temperature)
        self._scored, self._state = (self._state, move.action), step.state
        return Outcome(
            frame=step.frame[0].copy(),  # it may share memory with the state
            reward=float(step.reward[0]),
            terminated=bool(step.terminated[0]),
            truncated=False,
            life_lost=False,
            p_terminated=float(step.p_terminated[0]),
        )


def record_of(move: Move, outcome: Outcome, controller: str) -> StepRecord:
    """A step as an episode keeps it; `replay` takes the same move from it again."""
    return StepRecord(
        action=move.action,
        frame=outcome.frame,
        reward=outcome.reward,
        terminated=outcome.terminated,
        truncated=outcome.truncated,
        life_lost=outcome.life_lost,
        origin="real" if move.source == "real" else "dream",
        controller=controller,
        noise_seed=move.luck.seed,
        noise_row=move.luck.row,
        noise_counter=move.luck.counter,
        temperature=move.temperature,
        truth=outcome.truth,
    )
