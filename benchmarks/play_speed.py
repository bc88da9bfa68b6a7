"""From a key to its frame, the CPU time of a drawn frame, and whether drawing holds 60 fps.

    python benchmarks/play_speed.py breakout --seconds 60
    python benchmarks/play_speed.py breakout --seconds 60 --step-ms 66
    xvfb-run -a python benchmarks/play_speed.py breakout --seconds 60 --xdotool

The window, the session and the world are those of `worldflow play`. Keys are pressed at random
moments, and every picture that reaches the screen is noted, with the action that the engine drew
it for. Games do not end, so that each press can be answered. Exits with 1 if a bar is missed;
on a machine that does other work, too, it will be.
"""

import argparse
import bisect
import os
import random
import sys
import tempfile
import threading
import time
import zlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
# Where no GPU is, SDL would have Mesa draw the window's surface with threads of its own.
os.environ.setdefault("SDL_FRAMEBUFFER_ACCELERATION", "0")
if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
import pygame
from keyboard import Keyboard, post, wait_for_window

from worldflow.demos.picture import Picture
from worldflow.demos.play import PlayConfig, make_session
from worldflow.demos.view import View
from worldflow.demos.window import DISPLAY_RATE, Window, WindowConfig
from worldflow.demos.world_game import WorldGame
from worldflow.engine import State, Step
from worldflow.playable import load_playable

CPU_BAR_MS = 5.0
SMOOTH = 0.95  # of DISPLAY_RATE, to be called held
WARM_UP = DISPLAY_RATE  # pictures before CPU time counts: fonts are made, the engine settles
IN_TIME = 0.005  # seconds that a press may take from the keyboard to the window: it may be drawing


class Drawn(NamedTuple):
    """A picture that has reached the screen."""

    at: float
    drawing: float  # CPU seconds of the drawing thread so far
    outside: float  # of the whole process, but for the engine
    key: int  # of the frame


class Ran(NamedTuple):
    """A step of the engine."""

    began: float
    ended: float
    action: int


@dataclass
class Notes:
    """All that is seen, by time.perf_counter."""

    drawn: list[Drawn] = field(default_factory=list)
    ran: list[Ran] = field(default_factory=list)
    step_of: dict[int, int] = field(default_factory=dict)  # frame's key -> its index in `ran`
    presses: list[tuple[float, int]] = field(default_factory=list)  # when, for which action
    engine_cpu: float = 0.0


class WatchedEngine:
    """An engine whose steps are noted; each takes `step_ms` at least, by being done again."""

    def __init__(self, engine: Any, notes: Notes, step_ms: float) -> None:
        self._engine, self._notes, self._least = engine, notes, step_ms / 1000

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def step(self, state: State, action: Any, noise: Any, temperature: Any) -> Step:
        began, cpu = time.perf_counter(), time.thread_time()
        told = self._engine.step(state, action, noise, temperature)
        while time.perf_counter() - began < self._least:
            self._engine.step(state, action, noise, temperature)
        self._notes.engine_cpu += time.thread_time() - cpu
        self._notes.step_of[_key(told.frame[0])] = len(self._notes.ran)
        self._notes.ran.append(Ran(began, time.perf_counter(), int(action[0])))
        return told._replace(terminated=np.zeros(1, np.bool_))

    def score(self, *arguments: Any) -> Any:
        cpu = time.thread_time()
        told = self._engine.score(*arguments)
        self._notes.engine_cpu += time.thread_time() - cpu
        return told


def _key(frame: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(frame).tobytes())


def watch_drawing(notes: Notes) -> None:
    """Note each picture once it has been handed to the screen."""
    draw, flip = Picture.draw, pygame.display.flip
    shown: list[View] = []

    def noted_draw(picture: Picture, screen: Any, area: Any, view: View) -> None:
        shown[:] = [view]
        draw(picture, screen, area, view)

    def noted_flip() -> None:
        flip()
        outside = time.process_time() - notes.engine_cpu
        key = _key(shown[0].frame)
        notes.drawn.append(Drawn(time.perf_counter(), time.thread_time(), outside, key))

    Picture.draw, pygame.display.flip = noted_draw, noted_flip  # type: ignore[method-assign]


def press_keys(notes: Notes, keyboard: Keyboard, keys: dict[str, int], seconds: float) -> None:
    """One key after the other, each for a moment, with rests; then close the window."""
    rng = random.Random(0)
    wait_for_window()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        key, action = rng.choice(list(keys.items()))
        notes.presses.append((time.perf_counter(), action))
        keyboard.press(key)
        time.sleep(rng.uniform(0.01, 0.3))
        keyboard.release(key)
        time.sleep(rng.uniform(0.25, 0.5))
    post(pygame.QUIT)


def answers(notes: Notes) -> tuple[list[tuple[float, float]], int]:
    """Of each press: seconds to its first frame on the screen, and the engine's part of them.

    Returns:
        Those; and how many steps were for another action though they began after a press.
    """
    begun = [ran.began for ran in notes.ran]
    found, strays = [], 0
    first_drawn: dict[int, float] = {}
    for drawn in notes.drawn:
        if drawn.key in notes.step_of:
            first_drawn.setdefault(notes.step_of[drawn.key], drawn.at)
    for pressed, action in notes.presses:
        step = bisect.bisect_left(begun, pressed)
        while step < len(begun) and notes.ran[step].action != action:
            strays += begun[step] > pressed + IN_TIME
            step += 1
        if step in first_drawn:
            ran = notes.ran[step]
            found.append((first_drawn[step] - pressed, ran.ended - ran.began))
    return found, strays


def report(notes: Notes, rate: int) -> bool:
    """Print the figures. Returns whether all bars are held."""
    found, strays = answers(notes)
    times = np.array([seconds for seconds, _ in found])
    period = max(1 / rate, float(np.median(np.diff([ran.began for ran in notes.ran]))))
    bounds = np.array([period + step + 1 / DISPLAY_RATE for _, step in found])
    late = int((times > bounds).sum())
    print(
        f"key to photon: {len(found)} of {len(notes.presses)} presses answered, "
        f"{1000 * np.median(times):.0f} ms median, {1000 * times.max():.0f} ms max; "
        f"bound {1000 * np.median(bounds):.0f} ms (period {1000 * period:.0f} ms), {late} late; "
        f"{strays} steps after a press were for another action"
    )
    at = np.array([drawn.at for drawn in notes.drawn])
    gaps, fps = np.diff(at), (len(at) - 1) / (at[-1] - at[0])
    print(
        f"drawing: {fps:.1f} fps; between pictures {1000 * np.median(gaps):.1f} ms median, "
        f"{1000 * np.percentile(gaps, 99):.1f} p99, {1000 * gaps.max():.1f} max"
    )
    frames, steps = len(at) - 1 - WARM_UP, sum(ran.began > at[WARM_UP] for ran in notes.ran)
    first, last = notes.drawn[WARM_UP], notes.drawn[-1]
    drawing, outside = last.drawing - first.drawing, last.outside - first.outside
    worst = drawing / frames + (outside - drawing) / steps
    step_ms = 1000 * np.array([ran.ended - ran.began for ran in notes.ran])
    print(
        f"CPU outside the engine: {1000 * outside / frames:.2f} ms a drawn frame; drawing "
        f"{1000 * drawing / frames:.2f} ms, all else {1000 * (outside - drawing) / steps:.2f} ms "
        f"a step, so {1000 * worst:.2f} ms for a frame that is new"
    )
    print(f"engine: {np.median(step_ms):.1f} ms a step median, {steps} steps")
    told = {
        "every press answered in time": len(found) == len(notes.presses) and not late,
        "no step behind its key": not strays,
        f"{DISPLAY_RATE} fps": fps >= SMOOTH * DISPLAY_RATE,
        f"CPU at most {CPU_BAR_MS:g} ms": 1000 * worst <= CPU_BAR_MS,
    }
    for bar, held in told.items():
        print(f"{'held  ' if held else 'MISSED'}  {bar}")
    return all(told.values())


def main(arguments: argparse.Namespace) -> bool:
    notes = Notes()
    playable = load_playable(
        arguments.world, engine=arguments.engine, device=arguments.device, threads=1
    )
    engine = WatchedEngine(playable.engine, notes, arguments.step_ms)
    playable = playable.__class__(
        playable.card, engine, playable.start_frames, playable.start_actions
    )
    keyboard = Keyboard(real=arguments.xdotool)
    idle = playable.card.key_map.get("", 0)
    keys = {
        key: action
        for key, action in playable.card.key_map.items()
        if key and "+" not in key and action != idle
    }
    with tempfile.TemporaryDirectory() as folder:
        config = PlayConfig(record=arguments.record, recordings=folder)
        session = make_session(playable, config, arguments.world, seed=0)
        watch_drawing(notes)
        window = Window(WorldGame(session), WindowConfig(scale=arguments.scale))
        fingers = threading.Thread(
            target=press_keys, args=(notes, keyboard, keys, arguments.seconds), daemon=True
        )
        fingers.start()
        window.run()
        keyboard.close()
    return report(notes, playable.card.frame_rate)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", help="what `worldflow play` takes")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--step-ms", type=float, default=0.0, help="the least that a step takes")
    parser.add_argument("--record", action="store_true", help="record all the while")
    parser.add_argument("--xdotool", action="store_true", help="type on the X server")
    parser.add_argument("--scale", type=int, default=8)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--device", default="auto")
    sys.exit(0 if main(parser.parse_args()) else 1)
