"""Where a rollout in a learned world begins: reset options, read and checked, and starts."""

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldflow.card import Playable
from worldflow.engine import State
from worldflow.episode import Episode
from worldflow.errors import InputError, did_you_mean

CONTEXT_FRAMES = 8  # of an episode before the step asked for; evaluation gives as many
OPTIONS = ("frames", "actions", "episode", "step", "start", "temperature")
NEEDED_BESIDE = {"actions": "frames", "step": "episode", "episode": "step"}


class Context(NamedTuple):
    """Frames to begin after, newest last, and the actions between them."""

    frames: NDArray[np.uint8]  # (T, H, W, 3), T >= 1
    actions: NDArray[np.int64]  # (T-1,)


@dataclass(frozen=True)
class ResetOptions:
    """What `reset(options=...)` asks for; None where it is left to the env."""

    context: Context | None = None
    start: int | None = None  # one of the world's own starts
    temperature: float | None = None


def read_options(options: Mapping[str, Any] | None, playable: Playable) -> ResetOptions:
    """Check the options of a reset.

    Args:
        options: at most one of `frames` (uint8, `(T, H, W, 3)` or `(H, W, 3)`, with
            `actions` `(T-1,)` if T > 1), `episode` (a path) with `step`, and `start` (an index
            of the world's own starts); besides, `temperature`, a number >= 0.
        playable: the world they must fit.

    Raises:
        InputError: an option is unknown, lacks its companion or does not fit the world.
    """
    options = options or {}
    for name in options:
        if name not in OPTIONS:
            raise InputError(f"reset option {name!r} is unknown: {did_you_mean(name, OPTIONS)}")
        beside = NEEDED_BESIDE.get(name)
        if beside is not None and beside not in options:
            raise InputError(f"reset option {name!r} needs {beside!r} beside it")
    places = [name for name in ("frames", "episode", "start") if name in options]
    if len(places) > 1:
        raise InputError(f"reset options {places} each say where to start: give one of them")
    context = start = temperature = None
    if "frames" in options:
        context = given_context(options["frames"], options.get("actions", ()), playable)
    if "episode" in options:
        context = episode_context(options["episode"], options["step"], playable)
    if "start" in options:
        start = checked_integer("start", options["start"], len(playable.start_frames) - 1)
    if "temperature" in options:
        temperature = checked_temperature(options["temperature"])
    return ResetOptions(context, start, temperature)


def given_context(frames: Any, actions: Any, playable: Playable) -> Context:
    """The context in the user's own arrays."""
    height, width, channels = playable.engine.frame_shape
    frames = as_array("frames", frames)
    if frames.ndim == 3:
        frames = frames[None]
    size_fits = frames.shape[1:] == (height, width, channels) and len(frames) > 0
    if not size_fits or frames.dtype != np.uint8:
        raise InputError(
            f"reset option 'frames' is {frames.dtype} of shape {frames.shape}: expected uint8 "
            f"(T, {height}, {width}, {channels}) or ({height}, {width}, {channels})"
        )
    actions = as_array("actions", actions)
    whole = actions.dtype.kind in "iu" or actions.size == 0  # an empty list reads as float
    if actions.shape != (len(frames) - 1,) or not whole:
        raise InputError(
            f"reset option 'actions' is {actions.dtype} of shape {actions.shape}: expected "
            f"integers, shape ({len(frames) - 1},), one between each two of {len(frames)} frames"
        )
    for action in actions:
        checked_integer("actions", action, playable.engine.action_count - 1)
    return Context(frames, actions.astype(np.int64))


def episode_context(path: Any, step: Any, playable: Playable) -> Context:
    """Up to CONTEXT_FRAMES frames of a recording, the last being that in which `step` acted."""
    if not isinstance(path, str | Path):
        raise InputError(f"reset option 'episode' is {path!r}: expected the path of an episode")
    episode = Episode.open(path)
    step = checked_integer("step", step, len(episode))
    action_count = len(episode.header.action_names)
    if action_count != playable.engine.action_count:
        raise InputError(
            f"episode {path} has {action_count} actions: world {playable.card.name!r} has "
            f"{playable.engine.action_count}; record one with this world or its game"
        )
    first = max(0, step - CONTEXT_FRAMES + 1)
    frames, actions = episode.frames(first, step + 1), episode.steps(first, step).rows["action"]
    if first == 0:  # what the recording began after is context too
        frames = np.concatenate([episode.start_frames[:-1], frames])[-CONTEXT_FRAMES:]
        actions = np.concatenate([episode.start_actions, actions])
    return given_context(frames, actions[len(actions) - len(frames) + 1 :], playable)


def image_context(path: Path, playable: Playable) -> Context:
    """A picture file of any size as the one frame to begin after, resized by area."""
    from PIL import Image

    height, width, _ = playable.engine.frame_shape
    try:
        with Image.open(path) as image:
            picture = image.convert("RGB").resize((width, height), Image.Resampling.BOX)
    except OSError as error:
        raise InputError(f"image={path}: cannot be read as a picture ({error})") from None
    return given_context(np.asarray(picture), (), playable)


def as_array(name: str, value: Any) -> NDArray[Any]:
    """`value` as an array, or an InputError if it is ragged."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise InputError(f"reset option {name!r} is no array: {error}") from None


def checked_integer(name: str, value: Any, highest: int) -> int:
    """`value` as an int in [0, highest], or an InputError."""
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number <= highest:
        raise InputError(f"{name}={value!r}: expected an integer from 0 to {highest}")
    return number


def checked_temperature(value: Any) -> float:
    """`value` as a float in [0, inf), or an InputError."""
    if not isinstance(value, Real) or not 0 <= float(value) < math.inf:
        raise InputError(f"temperature={value!r}: expected a number >= 0 (1 is the world's own)")
    return float(value)


class Start(NamedTuple):
    """A place to begin from, ready to step."""

    state: State  # of one row
    frame: NDArray[np.uint8]  # (H, W, 3), what is seen there


class Starts:
    """The starts of a world, each replayed through the engine once, when first needed.

    Always as a batch of one: a row begins with the same bytes whichever rows begin beside it.
    """

    def __init__(self, playable: Playable) -> None:
        self.playable = playable
        self.known: dict[int, Start] = {}

    def __len__(self) -> int:
        return len(self.playable.start_frames)

    def own(self, index: int) -> Start:
        """Start number `index` of the world file."""
        if index not in self.known:
            frames, actions = self.playable.start_frames, self.playable.start_actions
            self.known[index] = self.after(Context(frames[index], actions[index]))
        return self.known[index]

    def after(self, context: Context) -> Start:
        """The start behind frames and actions of any origin."""
        state = self.playable.engine.start(context.frames[None], context.actions[None])
        return Start(state, context.frames[-1])
