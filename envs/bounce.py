"""Bounce: a small random game of our own that knows the true distribution of its next frame.

A model that learns it can be held against the truth: how often each future is drawn, and whether
a drawn frame is one that can happen at all. All there is to know shows in the last two frames;
with `memory=True` a sign is hidden for longer (envs/sign.py).
"""

from dataclasses import astuple, dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from worldflow.envs.area import AreaResize
from worldflow.envs.sign import CLOCK, OPEN_PHASES, OPENS, SIGN_PROBABILITIES, draw_sign
from worldflow.envs.source import GameCard, SourceGame
from worldflow.errors import InputError

SIZE = 64  # pixels, height and width
BALL = 3  # pixels, height and width
PADDLE = 12  # pixels, width; 3 high
PADDLE_STEP = 3  # pixels a step
LEFT, RIGHT = 2, 62  # columns of the court: left edge within, right edge without
CEILING_ROW = 13  # the highest row of the ball's upper edge
CONTACT_ROW = 55  # ball stands on the paddle; an even way below the ceiling: always met exactly
PADDLE_ROW = CONTACT_ROW + BALL
MISS_ROW = SIZE - BALL  # ball at the bottom: the episode is over
RISE = 2  # pixels a step, up or down
LAUNCHES = {-3: 0.15, -1: 0.35, 1: 0.3, 3: 0.2}  # horizontal pixels a step -> probability
LAMP_PROBABILITIES = (0.5, 0.3, 0.2)  # red, blue, green
GREEN = 2
NO_SIGN = -1

NIGHT, STRIP, FRAME = (18, 20, 38), (28, 31, 56), (74, 81, 120)
DOT_OFF, DOT_ON, PADDLE_COLOUR = (50, 55, 88), (176, 184, 214), (214, 220, 235)
BALL_COLOUR = (255, 205, 40)
LAMP_COLOURS = ((232, 62, 70), (64, 128, 255), (48, 205, 110))


@dataclass(frozen=True)
class BounceState:
    """All that the game remembers. Positions are upper left corners, in pixels."""

    ball_x: int  # LEFT .. RIGHT - BALL
    ball_y: int  # CEILING_ROW .. MISS_ROW, in steps of RISE
    velocity_x: int  # the ball's last displacement; (0, 0) before the first launch
    velocity_y: int
    paddle_x: int  # LEFT .. RIGHT - PADDLE, in steps of PADDLE_STEP
    lamp: int  # 0 red, 1 blue, 2 green
    clock: int  # 0 .. CLOCK - 1, dots lit beside the lamp, less one; the lamp is drawn at 0
    sign: int = NO_SIGN  # 0, 1 or 2 with the memory option
    half: int = 0  # 0 or 1, of the sign's cycle

    @property
    def on_paddle(self) -> bool:
        """Whether the ball stands on the paddle, so that the next step launches it."""
        beside = self.ball_x + BALL <= self.paddle_x or self.ball_x >= self.paddle_x + PADDLE
        return self.ball_y == CONTACT_ROW and not beside

    @property
    def missed(self) -> bool:
        """Whether the ball lies at the bottom, so that the episode is over."""
        return self.ball_y == MISS_ROW

    @property
    def uncovers(self) -> bool:
        """Whether the next step takes the lid off a sign: only memory tells which."""
        return self.sign != NO_SIGN and self.half * CLOCK + self.clock == OPENS - 1


class Outcome(NamedTuple):
    """One thing that can happen in a step."""

    probability: float
    state: BounceState
    reward: float
    terminated: bool


def outcomes(state: BounceState, action: int) -> list[Outcome]:
    """All that can follow `state` under `action` (0 noop, 1 left, 2 right), each state once.

    This is the whole game: `step` draws from it and `next_frames` lists it.
    """
    balls, reward = _move_ball(state)
    lamps = {state.lamp: 1.0} if state.clock < CLOCK - 1 else dict(enumerate(LAMP_PROBABILITIES))
    shift = (0, -PADDLE_STEP, PADDLE_STEP)[action]
    paddle_x = min(max(state.paddle_x + shift, LEFT), RIGHT - PADDLE)
    clock = (state.clock + 1) % CLOCK
    signs, half = _turn_sign(state)
    return [
        Outcome(
            ball_probability * lamp_probability * sign_probability,
            BounceState(*ball, paddle_x, lamp, clock, sign, half),
            reward,
            ball[1] == MISS_ROW,
        )
        for ball, ball_probability in balls.items()
        for lamp, lamp_probability in lamps.items()
        for sign, sign_probability in signs.items()
    ]


def _turn_sign(state: BounceState) -> tuple[dict[int, float], int]:
    """The next sign -> its probability, and the half of the cycle that it is in."""
    if state.sign == NO_SIGN or state.clock < CLOCK - 1:
        return {state.sign: 1.0}, state.half
    return ({state.sign: 1.0}, 1) if state.half == 0 else (dict(enumerate(SIGN_PROBABILITIES)), 0)


def _move_ball(state: BounceState) -> tuple[dict[tuple[int, int, int, int], float], float]:
    """Where the ball can go: (x, y, velocity x, velocity y) -> probability; and the reward.

    A wall turns the ball before the move, never within it: so the velocity is the displacement
    that two frames show, and nothing is hidden.
    """
    launches, velocity_y, reward = {state.velocity_x: 1.0}, state.velocity_y, 0.0
    if state.on_paddle:
        launches, velocity_y, reward = LAUNCHES, -RISE, 1.0
    elif state.ball_y + velocity_y < CEILING_ROW:
        velocity_y, reward = RISE, 2.0 if state.lamp == GREEN else 0.0
    y = state.ball_y + velocity_y
    if y == MISS_ROW:
        reward = -1.0
    balls: dict[tuple[int, int, int, int], float] = {}
    for launch, probability in launches.items():
        inside = LEFT <= state.ball_x + launch <= RIGHT - BALL
        velocity_x = launch if inside else -launch
        ball = (state.ball_x + velocity_x, y, velocity_x, velocity_y)
        balls[ball] = balls.get(ball, 0.0) + probability  # beside a wall two launches are one
    return balls, reward


@cache
def _background(lamp: int, clock: int, sign: int, half: int) -> NDArray[np.uint8]:
    """`(64, 64, 3)`: all but paddle and ball."""
    frame = np.empty((SIZE, SIZE, 3), np.uint8)
    frame[:] = FRAME
    frame[: CEILING_ROW - 2] = STRIP
    frame[CEILING_ROW:, LEFT:RIGHT] = NIGHT
    frame[2:9, 3:10] = LAMP_COLOURS[lamp]
    for dot in range(CLOCK):
        left = 14 + 3 * dot
        frame[5:7, left : left + 2] = DOT_ON if dot <= clock else DOT_OFF
    if sign != NO_SIGN:
        draw_sign(frame, sign, half, clock)
    frame.flags.writeable = False
    return frame


_PADDLE_PIXEL = np.array(PADDLE_COLOUR, np.uint8)
_BALL_PIXEL = np.array(BALL_COLOUR, np.uint8)


def draw(state: BounceState) -> NDArray[np.uint8]:
    """The frame `(64, 64, 3)` that shows `state`; the ball is drawn over the paddle."""
    frame = _background(state.lamp, state.clock, state.sign, state.half).copy()
    frame[PADDLE_ROW : PADDLE_ROW + 3, state.paddle_x : state.paddle_x + PADDLE] = _PADDLE_PIXEL
    x, y = state.ball_x, state.ball_y
    frame[y : y + BALL, x : x + BALL] = _BALL_PIXEL
    return frame


class BounceGame(SourceGame):
    """Keep the ball up with the paddle.

    ## Action space
    `Discrete(3)`: 0 noop, 1 left, 2 right. The paddle moves 3 pixels a step.

    ## Observation space
    `Box(0, 255, (64, 64, 3), uint8)`, RGB; smaller if `size` says so. Below a strip with a lamp
    and its clock of 16 dots is the court: ball 3x3, paddle 12x3, walls left, right and above,
    nothing below.

    ## Dynamics
    The ball moves 2 pixels a step up or down and 1 or 3 sideways; walls turn it. Where it stands
    on the paddle it is launched at -3, -1, 1 or 3 pixels a step sideways, with probabilities
    .15, .35, .3 and .2 (mirrored where a wall is in the way). The clock lights one more dot each
    step; every 16 steps the lamp turns red, blue or green with probabilities .5, .3 and .2. All
    else is determined. What follows is a function of the last two frames and the action; of the
    first frame alone at an episode's start.

    ## Rewards
    +1 for every launch, +2 when the ball turns at the ceiling under a green lamp, -1 for a miss.

    ## Starting state
    The ball rests on the paddle; its place, the paddle's, lamp and clock are random.

    ## Episode end
    Termination: the ball is at the bottom, and shown there. Truncation: none; the usual
    `TimeLimit` is `card.max_episode_steps`.

    ## Arguments
    `render_mode`: None or "rgb_array" (the observation). `size`: frames of 16 to 63 pixels are
    area averages. `memory`: a sign in the strip is shown, covered for 20 frames, and shown again;
    then another is drawn, each of three as likely.
    """

    # Gymnasium declares it for instances, so that mypy refuses a ClassVar.
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012
    card = GameCard(
        id="bounce",
        action_names=("noop", "left", "right"),
        key_map={"": 0, "left": 1, "right": 2, "a": 1, "d": 2},
        frame_rate=15,
        settings={"size": SIZE},
        max_episode_steps=1000,
    )

    def __init__(
        self, render_mode: str | None = None, memory: bool = False, size: int = SIZE
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise InputError(f"render_mode={render_mode!r}: bounce has None and 'rgb_array'")
        self.render_mode = render_mode
        if not 16 <= size <= SIZE:
            raise InputError(f"size={size}: bounce is drawn with 64 pixels; expected 16 to 64")
        self.memory = memory
        settings = {**self.card.settings, "size": size} | ({"memory": True} if memory else {})
        self.card = replace(self.card, settings=settings)
        self._resize = None if size == SIZE else AreaResize(SIZE, SIZE, size)
        self.observation_space = gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(self.card.action_names))
        self._state: BounceState | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """A new episode; `options` is not used."""
        super().reset(seed=seed)
        random = self.np_random
        paddle_x = LEFT + PADDLE_STEP * int(
            random.integers((RIGHT - PADDLE - LEFT) // PADDLE_STEP + 1)
        )
        state = BounceState(
            ball_x=paddle_x + int(random.integers(PADDLE - BALL + 1)),
            ball_y=CONTACT_ROW,
            velocity_x=0,
            velocity_y=0,
            paddle_x=paddle_x,
            lamp=int(random.choice(len(LAMP_PROBABILITIES), p=LAMP_PROBABILITIES)),
            clock=int(random.integers(CLOCK)),
        )
        if self.memory:
            sign = int(random.choice(len(SIGN_PROBABILITIES), p=SIGN_PROBABILITIES))
            half, clock = divmod(int(random.choice(OPEN_PHASES)), CLOCK)
            state = replace(state, sign=sign, half=half, clock=clock)
        self._state = state
        return self._shown(state), {"life_lost": False}

    def step(
        self, action: np.int64 | int
    ) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Draw one of the `outcomes`."""
        possible = self._outcomes(action)
        luck = self.np_random.random()
        for outcome in possible:
            luck -= outcome.probability
            if luck < 0.0:
                break
        self._state = outcome.state
        info = {"life_lost": outcome.terminated}
        return self._shown(outcome.state), outcome.reward, outcome.terminated, False, info

    def next_frames(self, action: np.int64 | int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The true distribution of the frame that `step(action)` would show.

        Returns:
            frames: `(M, size, size, 3)`, distinct, 1 <= M <= 12.
            probabilities: `(M,)`, positive, sum 1.

        Raises:
            InputError: no such action.
            ResetNeeded: no episode is under way.
        """
        possible = self._outcomes(action)
        frames = np.stack([self._shown(outcome.state) for outcome in possible])
        return frames, np.array([outcome.probability for outcome in possible])

    def _shown(self, state: BounceState) -> NDArray[np.uint8]:
        frame = draw(state)
        return frame if self._resize is None else self._resize(frame)

    def _outcomes(self, action: np.int64 | int) -> list[Outcome]:
        if not self.action_space.contains(action):
            raise InputError(f"action={action!r}: expected 0 noop, 1 left or 2 right")
        state = self.state()
        if state.missed:
            raise ResetNeeded("the ball is lost and the episode over: call reset()")
        return outcomes(state, int(action))

    def render(self) -> NDArray[np.uint8] | None:
        """The current frame `(size, size, 3)`, or None without a render mode."""
        return self._shown(self.state()) if self.render_mode == "rgb_array" else None

    def state(self) -> BounceState:
        """The current state. Raises ResetNeeded before the first reset."""
        if self._state is None:
            raise ResetNeeded("no episode yet: call reset()")
        return self._state

    def set_state(self, state: BounceState) -> None:
        """Go on from `state`. Raises InputError for a state that the game cannot be in."""
        _check(state)
        self._state = state

    def truth(self) -> dict[str, NDArray[Any]]:
        """`{"bounce": int8 (7,)}`: the fields of `BounceState`, in their order; 9 with a sign."""
        fields = astuple(self.state())
        return {"bounce": np.array(fields if self.memory else fields[:7], np.int8)}

    def snapshot(self) -> Any:
        """The state and that of the random generator."""
        return self.state(), self.np_random.bit_generator.state

    def restore(self, snapshot: Any) -> None:
        self._state, self.np_random.bit_generator.state = snapshot

    @staticmethod
    def from_truth(truth: dict[str, NDArray[Any]]) -> BounceState:
        """The state that `truth()` told. Raises InputError if it is not one of Bounce."""
        if "bounce" not in truth or truth["bounce"].shape not in ((7,), (9,)):
            raise InputError(
                f"truth with {sorted(truth)}: expected 'bounce' of 7 numbers, or 9 with a sign, as "
                "BounceGame tells"
            )
        state = BounceState(*truth["bounce"].tolist())
        _check(state)
        return state


def _check(state: BounceState) -> None:
    """Raise InputError for a state outside the rules, naming the first field that is wrong."""
    allowed: dict[str, Any] = {
        "ball_x": range(LEFT, RIGHT - BALL + 1),
        "ball_y": range(CEILING_ROW, MISS_ROW + 1, RISE),
        "velocity_x": (0, *LAUNCHES),
        "velocity_y": (0, -RISE, RISE),
        "paddle_x": range(LEFT, RIGHT - PADDLE + 1, PADDLE_STEP),
        "lamp": range(len(LAMP_PROBABILITIES)),
        "clock": range(CLOCK),
        "sign": range(NO_SIGN, len(SIGN_PROBABILITIES)),
        "half": range(1 if state.sign == NO_SIGN else 2),
    }
    for name, values in allowed.items():
        value = getattr(state, name)
        if value not in values:
            raise InputError(f"{name}={value}: expected one of {list(values)}")
    resting = state.velocity_x == 0 and state.velocity_y == 0 and state.on_paddle
    before_x, before_y = state.ball_x - state.velocity_x, state.ball_y - state.velocity_y
    flying = state.velocity_x != 0 and state.velocity_y != 0
    lowest = CONTACT_ROW if state.velocity_y < 0 else MISS_ROW
    came_from_court = LEFT <= before_x <= RIGHT - BALL and CEILING_ROW <= before_y <= lowest
    if not (resting or (flying and came_from_court)):
        raise InputError(
            f"velocity=({state.velocity_x}, {state.velocity_y}): expected the way the ball came "
            "within the court, or (0, 0) on the paddle"
        )
