"""A session of play: what is real and what is dreamed, the luck, the way back, the recorder.

It knows no window, and no clock but for the time that a step takes.
"""

import math
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from worldflow.card import Playable
from worldflow.demos.cast import Cast
from worldflow.demos.reality import Reality, make_reality
from worldflow.demos.recorder import Recorder, Spot
from worldflow.demos.stage import Frame, Luck, Move, Outcome, Source, Stage, StageMark, record_of
from worldflow.demos.timeline import Timeline
from worldflow.envs.start import Context
from worldflow.episode import Header, StepRecord
from worldflow.errors import InputError, WorkError

REWIND_BYTES = 512 * 2**20  # of marks, one a second
REWIND_SECONDS = 60, 900  # the fewest and the most of them
GRAPH_STEPS = 240  # of the surprise graph


@dataclass(frozen=True)
class SessionConfig:
    """How a session begins."""

    seed: int = 0  # of the first game; every further one counts it up
    source: Source = "dream"
    temperature: float = 1.0
    surprise: bool = True  # score every frame
    start: Context | None = None  # where dreams begin; None: at the world's own starts
    world: str | None = None  # as the user named it, for recordings


@dataclass(frozen=True)
class Figures:
    """The running figures of one game."""

    step: int = 0
    total: float = 0.0  # the return
    action: int = 0
    reward: float = 0.0
    p_terminated: float | None = None
    over: str = ""  # why it has ended


@dataclass(frozen=True, eq=False)
class SessionMark:
    """All that decides how play goes on, but for who plays and how warm it is."""

    stage: StageMark
    source: Source
    seed: int
    luck: Luck
    figures: Figures
    spot: Spot | None  # on tape
    left_real_at: Spot | None


class Session:
    """One person's play.

    A recording holds all that its replay needs: where one begins, the dream's state is built anew
    from the frames shown last, which the recording keeps. A world looks back over fewer of them,
    so this changes nothing of what is dreamed.

    Args:
        make_real: makes the real game, when it is first wanted; None: as the world's card says.

    Raises:
        InputError: the session is to begin in the real game, and there is none.
    """

    def __init__(
        self,
        playable: Playable,
        config: SessionConfig,
        cast: Cast,
        recorder: Recorder,
        make_real: Callable[[], Reality] | None = None,
    ) -> None:
        self.playable, self.cast, self.recorder = playable, cast, recorder
        self.source, self.temperature, self.seed = config.source, config.temperature, config.seed
        self.figures, self.luck = Figures(), Luck(0, 0, 0)
        self.surprise: deque[tuple[int, float]] = deque(maxlen=GRAPH_STEPS)  # step, bits
        self.step_seconds = 0.0  # that the newest step took
        self.failure: InputError | WorkError | None = None  # of the recorder, the newest
        self._config, self._make_real = config, make_real
        self._rows = 0  # of noise: each rewind takes another
        self._left_real_at: Spot | None = None
        self._pending: StepRecord | None = None  # not on tape yet
        self._stage = Stage(playable.engine)
        self._stage.begin(self._start_of_world(0))
        second = 2 * playable.card.frame_rate * self.frame.nbytes  # of dream and game
        keep = REWIND_BYTES // (self._stage.state_bytes + second)
        keep = min(max(keep, REWIND_SECONDS[0]), REWIND_SECONDS[1])
        self._timeline: Timeline[SessionMark, Move] = Timeline(playable.card.frame_rate, keep)
        self.restart(config.seed)

    def restart(self, seed: int | None = None) -> None:
        """A new game where the one before was played, real or dreamed; None: the next seed."""
        recording = self._end_tape()
        self.seed = self.seed + 1 if seed is None else seed
        rng = np.random.default_rng(self.seed)  # draws what WorldEnv.reset(seed=...) draws
        noise_seed, start = (
            int(rng.integers(2**63)),
            int(rng.integers(len(self.playable.start_frames))),
        )
        self.luck = Luck(noise_seed, 0, 0)
        self.figures = Figures()
        self._left_real_at = None
        self.surprise.clear()
        if self.source == "dream":
            self._stage.begin(self._config.start or self._start_of_world(start))
        else:
            self.reality().reset(self.seed)
            self._stage.begin(self.reality().context())
        self.cast.reset(self.seed)
        self._go_on(recording)

    def step(self, action: int) -> None:
        """Take one step with the human's `action`, unless somebody else plays."""
        self.appraise()
        if self.figures.over:
            return
        if self._timeline.due:
            self._timeline.mark(self._mark())
        real = self.source == "real"
        truth = self.reality().truth() if real else {}
        action = self.cast.act(action, self._stage.frame, truth)
        move = Move(self.source, action, self.luck, self.temperature)
        started = time.perf_counter()
        outcome = self._take(move)
        self.step_seconds = time.perf_counter() - started
        self._timeline.add(move)
        if self.recorder.tape is not None:
            self._pending = record_of(move, outcome, self.cast.controller)

    def appraise(self) -> None:
        """Score the newest frame and record it, unless that is done."""
        step = self.figures.step
        scored = bool(self.surprise) and self.surprise[-1][0] >= step
        if self._config.surprise and not scored:
            nats = self._stage.score(self.luck._replace(counter=max(0, self.luck.counter - 1)))
            if nats is not None:
                self.surprise.append((step, nats / math.log(2)))
        record, self._pending = self._pending, None
        if record is not None:
            try:
                self.recorder.append(record)
            except (InputError, WorkError) as error:
                self.failure = error
                self._timeline.mark(self._mark())

    def _take(self, move: Move) -> Outcome:
        outcome = self._stage.take(move)
        step = self.figures.step + 1
        if move.source != "real" and step >= self.playable.card.max_episode_steps:
            outcome = replace(outcome, truncated=not outcome.terminated)
        over = "game over" if outcome.terminated else "time is up" if outcome.truncated else ""
        total = self.figures.total + outcome.reward
        self.figures = Figures(step, total, move.action, outcome.reward, outcome.p_terminated, over)
        self.luck = move.luck._replace(counter=move.luck.counter + 1)
        return outcome

    def switch(self, source: Source) -> None:
        """Go on elsewhere. A dream goes on from what is seen; the real game from where it stood.

        Raises:
            InputError: the real game is not there.
        """
        if source == self.source:
            return
        if source != "dream":
            self._ready_reality(anew=source == "real")
        if source == "real":
            self._back_to_reality()
            return
        if self.source == "real":
            self._left_real_at = self.recorder.spot
        self.source = source
        self._timeline.mark(self._mark())

    def _ready_reality(self, *, anew: bool) -> None:
        """See to it that there is a real game of this seed, not over if `anew`."""
        reality = self.reality()
        if reality.seed != self.seed or (anew and reality.over):
            reality.reset(self.seed)

    def _back_to_reality(self) -> None:
        """The picture jumps to where the real game stands, so that a recording begins anew."""
        recording, parent = self._end_tape(), self._left_real_at
        if self.source == "split":
            parent = None  # the real game went on beside the dream, off the tape
        reality = self.reality()
        self.source = "real"
        self.figures = replace(self.figures, over="")
        self._stage.begin(reality.context())
        self._go_on(recording, parent)

    def rewind(self, steps: int, *, same_luck: bool = False) -> int:
        """Go back; what follows has luck of its own, or the same that it had.

        Returns:
            How many steps back; fewer than asked for where the way back ends.
        """
        recording = self._end_tape()
        steps = min(steps, len(self._timeline))
        mark, moves = self._timeline.back(steps)
        self._go_to(mark)
        for move in moves:
            self._take(move)
        while self.surprise and self.surprise[-1][0] > self.figures.step:
            self.surprise.pop()
        if not same_luck:
            self._rows += 1
            self.luck = self.luck._replace(row=self._rows)
        spot = mark.spot and Spot(mark.spot.tape, mark.spot.step + len(moves))
        self._go_on(recording, spot)
        return steps

    def toggle_recording(self) -> None:
        """Begin a recording here, or finish the one that runs."""
        if self.recorder.tape is None:
            self._go_on(recording=True)
        else:
            self._end_tape()
            self._timeline.mark(self._mark())

    def rest(self) -> None:
        """Nothing will happen for a while: nothing is left pending."""
        self.appraise()
        try:
            self.recorder.flush()
        except WorkError as error:
            self.failure = error

    @property
    def frame(self) -> Frame:
        """The newest frame `(H, W, 3)`."""
        return self._stage.frame

    @property
    def ring_bytes(self) -> int:
        """What the way back takes: the states and frames of its marks, each frame once."""
        sizes: dict[int, int] = {}
        for mark in self._timeline.marks:
            for array in mark.stage.arrays():
                base = getattr(array, "base", None)  # a tensor has none
                owner = array if base is None else base
                sizes[id(owner)] = owner.nbytes
        return sum(sizes.values())

    def reality(self) -> Reality:
        """The real game, made when it is first wanted. Raises InputError if it is not there."""
        if self._stage.reality is None:
            card = self.playable.card
            self._stage.reality = (
                self._make_real()
                if self._make_real is not None
                else make_reality(card.game, card.settings, len(card.action_names))
            )
        return self._stage.reality

    def close(self) -> None:
        """Finish what is recorded."""
        self._end_tape()
        if self._stage.reality is not None:
            self._stage.reality.close()

    def _start_of_world(self, index: int) -> Context:
        return Context(self.playable.start_frames[index], self.playable.start_actions[index])

    def _mark(self) -> SessionMark:
        return SessionMark(
            self._stage.mark(),
            self.source,
            self.seed,
            self.luck,
            self.figures,
            self.recorder.spot,
            self._left_real_at,
        )

    def _go_to(self, mark: SessionMark) -> None:
        self._stage.go_back(mark.stage)
        self.source, self.seed, self.luck = mark.source, mark.seed, mark.luck
        self.figures, self._left_real_at = mark.figures, mark.left_real_at

    def _go_on(self, recording: bool, parent: Spot | None = None) -> None:
        """Play goes on from a place to which no step led; on a tape of its own, if `recording`."""
        if recording:
            context = self._stage.context()
            self._stage.begin(context)
            self.recorder.begin(_stem(self.playable.card.name), self._header(parent), context)
        self._timeline.mark(self._mark())

    def _end_tape(self) -> bool:
        """Finish the recording that runs. Returns whether one did."""
        self.appraise()
        recording = self.recorder.tape is not None
        try:
            self.recorder.end()
        except WorkError as error:
            self.failure = error
        return recording

    def _header(self, parent: Spot | None) -> Header:
        card, engine = self.playable.card, self.playable.engine
        place = parent and parent.tape.place(parent.step)
        name, step = place or (None, None)
        return Header(
            source=card.game,
            settings=card.settings,
            frame_rate=card.frame_rate,
            action_names=card.action_names,
            key_map=card.key_map,
            seed=self.seed,
            max_episode_steps=card.max_episode_steps,
            world_hash=engine.world_hash,
            engine=engine.name,
            dtype=engine.dtype,
            parent=name,
            parent_step=step,
            world=self._config.world,
            game_actions=tuple(self.reality().actions) if self.source == "real" else (),
        )


def _stem(name: str) -> str:
    """What a world's recordings are called."""
    return re.sub(r"[^\w.]+", "-", name)
