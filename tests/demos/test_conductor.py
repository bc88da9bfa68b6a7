"""Time and orders, driven by hand: `advance(now)` is all that the thread does."""

import math
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from worldflow.demos import conductor as conductor_module
from worldflow.demos.conductor import GAME_OVER_SECONDS, Conductor
from worldflow.demos.keys import Keypad
from worldflow.demos.view import View

FRAME = np.zeros((4, 4, 3), np.uint8)


class CountingGame:
    """Tells what was asked of it; a game is `length` steps long."""

    title, frame_rate = "counting", 10
    key_map = {"": 0, "left": 1, "right": 2}  # noqa: RUF012
    action_names = ("noop", "left", "right")
    commands = frozenset({"back", "source"})

    def __init__(self, length=10**6):
        self.length, self.told, self.count = length, [], 0

    def restart(self, seed=None):
        self.told.append(("restart", seed))
        self.count = 0

    def step(self, action):
        assert self.count < self.length, "stepped after the end"
        self.count += 1
        self.told.append(action)

    def command(self, name):
        self.told.append(name)

    def appraise(self):
        pass

    def rest(self):
        self.told.append("rest")

    def view(self):
        over = "game over" if self.count == self.length else ""
        return View(FRAME, step=self.count, over=over)

    def close(self):
        self.told.append("close")


@pytest.fixture
def game():
    return CountingGame()


@pytest.fixture
def keypad(game):
    return Keypad(game.key_map)


@pytest.fixture
def conductor(game, keypad):
    return Conductor(game, keypad)


def run(conductor, seconds, start=0.0):
    """Advance whenever something is due; returns when."""
    now, times = start, []
    while now < start + seconds:
        times.append(now)
        now += conductor.advance(now)
    return times


def test_it_keeps_the_games_own_pace(conductor, game):
    run(conductor, 2.0)
    assert len(game.told) == pytest.approx(20, abs=1)


def test_a_late_step_is_caught_up_but_a_pause_is_not(conductor, game):
    conductor.advance(0.0)
    conductor.advance(0.15)  # half a period late
    assert conductor.advance(0.2) == pytest.approx(0.1)  # back on the beat
    assert conductor.advance(9.0) == pytest.approx(0.1)
    assert len(game.told) == 4


def test_nothing_is_stepped_before_its_time(conductor, game):
    conductor.advance(0.0)
    assert conductor.advance(0.05) == pytest.approx(0.05)
    assert len(game.told) == 1


def test_keys_are_read_at_the_step(conductor, keypad, game):
    conductor.advance(0.0)
    keypad.press("left")
    conductor.advance(0.1)
    keypad.release("left")
    keypad.press("right")
    keypad.release("right")
    conductor.advance(0.21)
    conductor.advance(0.31)
    assert game.told == [0, 1, 2, 0]


def test_paused_it_rests_once_and_does_no_step_but_single_ones(conductor, keypad, game):
    conductor.order("pause")
    assert conductor.advance(0.0) == math.inf
    assert conductor.advance(5.0) == math.inf
    assert game.told == ["rest"]
    keypad.press("left")
    conductor.order("single_step")
    assert conductor.advance(6.0) == math.inf
    assert game.told == ["rest", 1, "rest"]
    assert conductor.pace.paused
    conductor.order("pause")
    assert conductor.advance(7.0) == pytest.approx(0.1)
    assert not conductor.pace.paused


def test_a_single_step_pauses_a_running_game(conductor, game):
    conductor.order("single_step")
    conductor.advance(0.0)
    conductor.advance(0.1)
    assert game.told == [0, "rest"]


def test_slower_and_faster(conductor, game):
    for _ in range(3):
        conductor.order("slower")
    conductor.advance(0.0)
    assert conductor.pace.limit == 3
    assert conductor.advance(0.1) == pytest.approx(1 / 3 - 0.1)
    conductor.order("faster")
    conductor.advance(0.2)
    assert conductor.pace.limit == 5


def test_a_restart_takes_a_seed_and_forgets_taps(conductor, keypad, game):
    keypad.press("left")
    keypad.release("left")
    conductor.order("restart:42")
    conductor.advance(0.0)
    conductor.advance(0.1)
    assert game.told == [("restart", 42), 0]


def test_the_games_commands_are_handed_on_between_steps(conductor, game):
    conductor.advance(0.0)
    conductor.order("source")
    conductor.advance(0.01)
    assert game.told == [0, "source"]


def test_after_a_rewind_play_waits_so_that_one_may_go_back_farther(conductor, game):
    conductor.advance(0.0)
    conductor.order("back")
    conductor.advance(0.1)
    conductor.order("back")
    assert conductor.advance(0.5) == pytest.approx(0.5)
    assert game.told == [0, "back", "back"]


def test_the_next_game_begins_by_itself(keypad):
    game = CountingGame(length=2)
    conductor = Conductor(game, keypad)
    assert conductor.advance(0.0) == pytest.approx(0.1)
    assert conductor.advance(0.1) == pytest.approx(GAME_OVER_SECONDS)
    conductor.advance(0.1 + GAME_OVER_SECONDS)
    conductor.advance(0.4 + GAME_OVER_SECONDS)
    assert game.told == [0, 0, ("restart", None), 0]


def test_it_finishes_after_the_steps_asked_for(game, keypad):
    conductor = Conductor(game, keypad, steps=3)
    run(conductor, 0.25)
    assert conductor.finished
    conductor.advance(9.0)
    assert game.told == [0, 0, 0]


def test_the_view_of_a_step_is_published_before_it_is_appraised(game, keypad, monkeypatch):
    conductor = Conductor(game, keypad)
    seen = []
    monkeypatch.setattr(game, "appraise", lambda: seen.append(conductor.view.step))
    conductor.advance(0.0)
    assert seen == [1]


def test_a_slow_step_does_not_hold_up_who_draws(game, keypad, monkeypatch):
    entered, leave = threading.Event(), threading.Event()

    def slow(action):
        entered.set()
        assert leave.wait(10)

    monkeypatch.setattr(game, "step", slow)
    conductor = Conductor(game, keypad)
    conductor.start()
    assert entered.wait(10)
    before = conductor.view  # what the window does at 60 Hz: none of it waits
    keypad.press("left")
    conductor.order("source")
    assert before.step == 0
    leave.set()
    conductor.stop()


def test_the_time_that_a_step_takes_is_part_of_its_period(game, keypad, monkeypatch):
    """A clock that only steps and waits move: a step of 90 ms, then 10 ms of waiting."""
    clock, waits = SimpleNamespace(now=0.0), []

    def step(action):
        clock.now += 0.09

    conductor = Conductor(game, keypad)

    def wait(seconds):
        waits.append(seconds)
        clock.now += seconds
        conductor._stopped = len(waits) == 5

    monkeypatch.setattr(conductor_module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(game, "step", step)
    monkeypatch.setattr(conductor._wake, "wait", wait)
    conductor._run()
    assert waits == pytest.approx([0.01] * 5)


def test_an_error_of_the_game_ends_it(game, keypad, monkeypatch):
    monkeypatch.setattr(game, "step", lambda action: 1 // 0)
    conductor = Conductor(game, keypad)
    conductor.start()
    conductor._thread.join(10)
    assert conductor.finished
    assert isinstance(conductor.error, ZeroDivisionError)
