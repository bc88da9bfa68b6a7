"""Keeps a game's time in a thread of its own, so that drawing never waits for a step."""

import math
import threading
import time
from collections import deque
from typing import NamedTuple

from worldflow.demos.keys import Keypad
from worldflow.demos.view import Game, View

GAME_OVER_SECONDS = 2.0  # how long the last frame stays before the next game
BACK_SECONDS = 0.5  # play waits so long after a rewind, so that one may go back farther
FRAME_RATES = (1, 2, 3, 5, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 90, 120, 240)  # of + and -
FPS_STEPS = 30  # the pace is the mean over so many steps
BACKWARDS = ("step_back", "back", "far_back", "same_luck")


class Pace(NamedTuple):
    """How fast the game goes."""

    fps: float  # steps a second of late; 0 before there are two
    limit: int  # steps a second at most
    paused: bool


class Conductor:
    """Steps a game when its time has come, and does what the player orders, between steps.

    The keys are read immediately before a step and its view is published immediately after, so
    the first view after a press that had to wait for a step follows that key's action.

    Orders are the game's own commands and: "pause", "single_step", "restart", "restart:SEED",
    "faster", "slower".

    Args:
        frame_rate: steps a second; 0: the game's own pace.
        steps: finish after so many; 0: never.
    """

    def __init__(self, game: Game, keypad: Keypad, *, frame_rate: int = 0, steps: int = 0) -> None:
        self._game, self._keypad = game, keypad
        self._frame_rate = frame_rate or game.frame_rate
        self._steps_left = steps or math.inf
        self._orders: deque[str] = deque()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = self._paused = self._rested = False
        self._due = 0.0  # when the next step is, by time.perf_counter
        self._times: deque[float] = deque(maxlen=FPS_STEPS)
        self.error: BaseException | None = None  # that ended it
        self.view: View = game.view()  # the newest; a new object whenever anything changes
        self.pace = Pace(0.0, self._frame_rate, False)

    @property
    def finished(self) -> bool:
        """Whether it has failed, or taken all of its steps."""
        return self.error is not None or self._steps_left <= 0

    def order(self, name: str) -> None:
        """Have something done before the next step; may be called by any thread."""
        with self._wake:
            self._orders.append(name)
            self._wake.notify()

    def start(self) -> None:
        """Begin to keep time."""
        self._thread = threading.Thread(target=self._run, name="conductor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the step that runs, and no other."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopped and not self.finished:
                now = time.perf_counter()
                due = now + self.advance(now)
                wait = due - time.perf_counter()  # of which a slow step has used up a part
                with self._wake:
                    if not self._orders and not self._stopped and wait > 0:
                        self._wake.wait(min(wait, threading.TIMEOUT_MAX))
        except BaseException as error:  # it is the window's, which ends
            self.error = error

    def advance(self, now: float) -> float:
        """Do what is ordered and what is due at `now`.

        Returns:
            Seconds until something is due, counted from `now`; infinite while paused.
        """
        while self._orders:
            self._obey(self._orders.popleft(), now)
        if not self._paused and now >= self._due and self._steps_left > 0:
            self._beat(now)
        if self._paused and not self._rested:
            self._game.rest()
            self._rested = True
        return math.inf if self._paused else self._due - now

    def _obey(self, order: str, now: float) -> None:
        name, _, value = order.partition(":")
        match name:
            case "pause":
                self._paused, self._rested = not self._paused, False
                self._due = now
                self._times.clear()  # a pause is no slow step
            case "single_step":
                self._paused, self._rested = True, False
                self._step()
            case "restart":
                self._restart(int(value) if value else None, now)
            case "faster":
                higher = (rate for rate in FRAME_RATES if rate > self._frame_rate)
                self._frame_rate = min(higher, default=self._frame_rate)
            case "slower":
                lower = (rate for rate in FRAME_RATES if rate < self._frame_rate)
                self._frame_rate = max(lower, default=self._frame_rate)
            case _:
                self._game.command(order)
                if name in BACKWARDS:
                    self._due = now + BACK_SECONDS
                    self._times.clear()
        self._publish()

    def _beat(self, now: float) -> None:
        """Take the step that is due, or begin the next game."""
        if self.view.over:
            self._restart(None, now)
            return
        period = 1 / self._frame_rate
        # Keep to the beat if it is near; else (a pause, a slow step) begin a new one.
        on_beat = now - self._due < period
        self._due = (self._due if on_beat else now) + period
        self._step()
        if self.view.over:
            self._due = now + GAME_OVER_SECONDS

    def _step(self) -> None:
        if self.view.over:
            return
        self._game.step(self._keypad.next_action())
        self._steps_left -= 1
        self._times.append(time.perf_counter())
        self._publish()
        self._game.appraise()
        self._publish()

    def _restart(self, seed: int | None, now: float) -> None:
        self._game.restart(seed)
        self._keypad.forget_taps()
        self._times.clear()
        self._due = now + 1 / self._frame_rate
        self._publish()

    def _publish(self) -> None:
        times = self._times
        seconds = times[-1] - times[0] if len(times) > 1 else 0.0
        fps = (len(times) - 1) / seconds if seconds else 0.0
        self.pace = Pace(fps, self._frame_rate, self._paused)
        self.view = self._game.view()
