"""Competent scripted players of games with a ball: Breakout, Pong and Bounce.

Each has an eye and a hand. The eye finds ball and paddle: in the console's memory where the
truth tells it, otherwise in the pixels of a 64x64 frame, so that a script plays inside a learned
world as well. The hand brings the paddle to where the ball will arrive.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldflow.envs.area import AreaResize
from worldflow.envs.source import BOUNCE_IDS

LOOKAHEAD = 5  # steps that a hand plans exactly
MEMORY = 4  # past steps whose pushes may still move a paddle
PLANS = np.array(list(product((0, -1, 1), repeat=LOOKAHEAD)))  # (3**LOOKAHEAD, LOOKAHEAD)
ALE_PIXEL = (210 / 64, 160 / 64)  # height and width, in screen pixels, of a pixel of a frame


class Sight(NamedTuple):
    """What an eye sees, None where it sees no such thing: centres, in the pixels of the game.

    `along` is measured the way that the paddle moves, `across` towards the paddle.
    """

    ball: tuple[float, float] | None  # along, across
    paddle: float | None  # along


@dataclass(frozen=True)
class Rules:
    """What a hand needs to know of a game."""

    look: Callable[[NDArray[np.uint8]], Sight]  # at a frame (64, 64, 3)
    recall: Callable[[NDArray[np.uint8]], Sight] | None  # from the console's memory (128,)
    walls: tuple[float, float]  # between which the ball's centre moves, along
    contact: float  # across: where the ball's centre is when it meets the paddle
    screens: int  # the game's own time steps in one step
    response: NDArray[np.float64]  # [n]: how far a push has moved the paddle n screens later
    keys: tuple[str, str, str]  # action names: rest, push on, push back
    serve: str  # the action that brings a ball
    aims: tuple[float, ...]  # from the ball to the paddle's middle, where they are to meet


class ScriptedPolicy:
    """Plays one of the games with a ball.

    Args:
        game: id of the source game, one of `SCRIPTS`.
        action_names: as on its card.
    """

    name = "scripted"

    def __init__(self, game: str, action_names: tuple[str, ...]) -> None:
        self.rules = SCRIPTS[game]
        self.actions = {name.lower(): action for action, name in enumerate(action_names)}
        self.reset(0)

    def reset(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.pushes = deque([0] * MEMORY, maxlen=MEMORY)  # newest first; -1, 0 or 1
        self.ball: tuple[float, float] | None = None
        self.velocity = (0.0, 0.0)  # of the ball, pixels a step: along, across
        self.offset = 0.0  # one of the aims, for the next hit
        self.unseen = 0  # steps without a ball

    def act(self, frame: NDArray[np.uint8], truth: dict[str, NDArray[Any]]) -> int:
        rules = self.rules
        if rules.recall is not None and "ram" in truth:
            sight = rules.recall(truth["ram"])
        else:
            sight = rules.look(_enlarged(frame))
        self._track(sight.ball)
        push, key = 0, rules.keys[0]
        if sight.ball is not None and sight.paddle is not None:
            push = self._push(sight.ball, sight.paddle)
            key = rules.keys[push]
        elif self.unseen > 1:  # it may have been hidden for a moment
            key = rules.serve
        self.pushes.appendleft(push)
        return self.actions[key]

    def _track(self, ball: tuple[float, float] | None) -> None:
        self.unseen = 0 if ball else self.unseen + 1
        if ball and self.ball:
            came = self.velocity[1] > 0
            self.velocity = (ball[0] - self.ball[0], ball[1] - self.ball[1])
            if self.velocity[1] > 0 and not came:
                self.offset = float(self.rng.choice(self.rules.aims))
        self.ball = ball

    def _push(self, ball: tuple[float, float], paddle: float) -> int:
        """-1, 0 or 1: the first of the pushes that bring the paddle to the ball."""
        rules = self.rules
        (along, across), (drift, speed) = ball, self.velocity
        if speed <= 0 or across >= rules.contact:
            return self._towards(along, paddle)
        steps = (rules.contact - across) / speed
        target = reflect(along + drift * steps, *rules.walls) + self.offset
        screens = max(1, round(rules.screens * steps))
        if screens > rules.screens * LOOKAHEAD:
            return self._towards(target, paddle)
        # The screen of contact is known to one or so: the plan must be good around it.
        times = screens + np.array([-1, 0, 1])
        left = np.maximum(times - rules.screens * np.arange(LOOKAHEAD)[:, None], 0)
        arrivals = self._rest(paddle, times) + PLANS @ rules.response[left]  # (plans, times)
        miss = np.abs(arrivals - target).max(1)
        # Of plans that are as good, the laziest: it leaves the most for later.
        cost = miss + 0.1 * np.abs(PLANS).sum(1)
        return int(PLANS[np.argmin(cost), 0])

    def _rest(self, paddle: float, screens: NDArray[np.int64]) -> NDArray[np.float64]:
        """Where the paddle will be `screens` `(n,)` later if it is not pushed any more."""
        response = self.rules.response
        age = self.rules.screens * np.arange(1, MEMORY + 1)[:, None]
        moves = np.array(self.pushes) @ (response[age + screens] - response[age])
        return np.asarray(paddle + moves)

    def _towards(self, target: float, paddle: float) -> int:
        gap = target - float(self._rest(paddle, np.array([self.rules.screens * LOOKAHEAD]))[0])
        return int(np.sign(gap)) if abs(gap) > 0.6 * self.rules.response[-1] else 0


def reflect(x: float, low: float, high: float) -> float:
    """Where a ball flying to `x` in a straight line ends up between two walls."""
    span = high - low
    folded = (x - low) % (2 * span)
    return low + min(folded, 2 * span - folded)


def knob_response(period: int) -> NDArray[np.float64]:
    """How an Atari paddle answers to a direction held for 4 screens; see `Rules.response`.

    Measured on the console: every `period` screens the place that the paddle seeks moves by 6
    pixels a screen, and the paddle goes half of the way there, shown one screen later.
    """
    moved, seeks, ticks = 0.0, 0.0, [0.0]
    for tick in range(4 * (LOOKAHEAD + MEMORY + 1) // period):
        seeks += 6.0 * period if tick < 4 // period else 0.0
        moved += (seeks - moved) / 2
        ticks.append(moved)
    shown = np.maximum(np.arange(4 * (LOOKAHEAD + MEMORY) + 2) - 1, 0) // period
    return np.array([ticks[tick] for tick in shown])


def _enlarged(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`frame` with the 64x64 pixels that an eye looks at; coarser ones are seen less exactly."""
    height, width = frame.shape[:2]
    if (height, width) == (64, 64):
        return frame
    return _resizer(height, width)(frame)


@cache
def _resizer(height: int, width: int) -> AreaResize:
    return AreaResize(height, width, 64)


def centroid(weights: NDArray[Any], top: int, left: int) -> tuple[float, float] | None:
    """Centre of mass (x, y) of `weights`, a patch of a frame with its corner at (top, left)."""
    total = float(weights.sum())
    if total <= 0.0:
        return None
    y = float(weights.sum(1) @ np.arange(weights.shape[0])) / total + top + 0.5
    x = float(weights.sum(0) @ np.arange(weights.shape[1])) / total + left + 0.5
    return x, y


def recall_breakout(ram: NDArray[np.uint8]) -> Sight:
    ball = (int(ram[99]) - 48.0, int(ram[101]) + 11.0)
    return Sight(ball if ram[101] else None, int(ram[72]) - 39.0)


def look_breakout(frame: NDArray[np.uint8]) -> Sight:
    """What is red below the bricks is the ball, or the paddle at the bottom."""
    red = frame[..., 0].astype(np.int16) - frame[..., 1]
    red = np.where(red > 20, red, 0)
    ball = centroid(red[29:57, 3:61], 29, 3)
    paddle = centroid(red[57:59, 3:61], 57, 3)
    height, width = ALE_PIXEL
    return Sight(
        (ball[0] * width, ball[1] * height) if ball else None,
        paddle[0] * width if paddle else None,
    )


def recall_pong(ram: NDArray[np.uint8]) -> Sight:
    ball = (int(ram[54]) - 12.0, int(ram[49]) - 48.0)
    return Sight(ball if ram[49] else None, int(ram[51]) - 5.0)


def look_pong(frame: NDArray[np.uint8]) -> Sight:
    """What is whiter than the brown court is the ball, what is green at the right the paddle."""
    colours = frame.astype(np.int16)
    blue = colours[11:59, :, 2] - 40  # the court has 17, the ball 236, our paddle 92
    ball = centroid(np.where(blue[:, 9:56] > 0, blue[:, 9:56], 0), 11, 9)
    green = colours[11:59, 56:58, 1] - colours[11:59, 56:58, 0]
    paddle = centroid(np.where(green > 20, green, 0), 11, 56)
    height, width = ALE_PIXEL
    return Sight(
        (ball[1] * height, ball[0] * width) if ball else None,
        paddle[1] * height if paddle else None,
    )


def look_bounce(frame: NDArray[np.uint8]) -> Sight:
    """Ball and paddle by their colours, yellow and nearly white."""
    colours = frame[13:].astype(np.int16)
    ball = centroid(colours[..., 0] - colours[..., 2] > 100, 13, 0)
    paddle = centroid(colours[45:48].min(axis=-1) > 160, 58, 0)
    return Sight(ball, paddle[0] if paddle else None)


BREAKOUT = Rules(
    look=look_breakout,
    recall=recall_breakout,
    walls=(9.0, 151.0),
    contact=187.0,
    screens=4,
    response=knob_response(1),
    keys=("noop", "right", "left"),
    serve="fire",
    aims=(-4.0, -2.0, 0.0, 2.0, 4.0),
)
# Right is up, and up is less.
PONG = Rules(
    look=look_pong,
    recall=recall_pong,
    walls=(36.0, 192.0),
    contact=141.0,
    screens=4,
    response=knob_response(2),
    keys=("noop", "left", "right"),
    serve="fire",
    aims=(-6.0, 6.0),  # a hit with the paddle's end is steep: too fast for the opponent
)
BOUNCE = Rules(
    look=look_bounce,
    recall=None,
    walls=(3.5, 60.5),
    contact=56.5,
    screens=1,
    response=np.array([0.0] + [3.0] * (LOOKAHEAD + MEMORY + 1)),
    keys=("noop", "right", "left"),
    serve="noop",
    aims=(-4.0, -2.0, 0.0, 2.0, 4.0),
)
SCRIPTS = {"ALE/Breakout-v5": BREAKOUT, "ALE/Pong-v5": PONG} | dict.fromkeys(BOUNCE_IDS, BOUNCE)
