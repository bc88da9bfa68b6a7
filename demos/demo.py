"""`worldflow demo`: films that show what a learned world is, made by one command."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worldflow.errors import InputError, WorkError, did_you_mean

if TYPE_CHECKING:
    from worldflow.agents.policy import Policy
    from worldflow.card import Playable
    from worldflow.demos.reality import Reality
    from worldflow.demos.stage import Luck
    from worldflow.engine import Engine
    from worldflow.envs.start import Context
    from worldflow.film import Frames

FILMS = ("webp", "gif", "mp4")
CONTEXT_STEPS = 24  # of real play before a dream begins
COLUMNS = 3
MAX_ACTIONS = 6  # on a wall


@dataclass(frozen=True)
class DemoConfig:
    """The keys of `worldflow demo`."""

    world: str  # a shipped name, a run folder or a world file
    out: Path  # a folder; films that are there already are not written over
    dreams: int = 9  # on a wall
    steps: int = 90  # of each film
    seed: int = 0
    policy: str = "auto"  # who plays; auto: scripted where there is a script, else random
    film: str = "webp"  # or gif, mp4
    scale: int = 2  # pixels of a film for each pixel of a frame
    engine: str = "auto"
    device: str = "auto"
    threads: int = 0  # CPU threads of the engine; 0: its own choice


def demo(config: DemoConfig) -> None:
    """Make the films: `NAME-luck`, `NAME-actions` and, where the real game is there, `NAME-real`.

    Raises:
        InputError: a value out of range, an unknown world or policy, a film already there.
        WorkError: a film cannot be written.
    """
    _check(config)
    from worldflow.demos.reality import make_reality
    from worldflow.playable import load_playable

    playable = load_playable(
        config.world, engine=config.engine, device=config.device, threads=config.threads
    )
    card = playable.card
    paths = {
        kind: config.out / f"{card.name}-{kind}.{config.film}"
        for kind in ("luck", "actions", "real")
    }
    for path in paths.values():
        if path.exists():
            raise InputError(f"{path} is already there; name another folder or remove it first")
    for kind, make in (("luck", luck_wall), ("actions", action_wall)):
        _write(paths[kind], make(playable, config), card.frame_rate)
    try:
        reality = make_reality(card.game, card.settings, len(card.action_names))
    except InputError as error:
        print(f"no film beside the real game: {error}")
        return
    _write(paths["real"], real_wall(playable, config, reality), card.frame_rate)
    reality.close()


def luck_wall(playable: "Playable", config: DemoConfig) -> "Frames":
    """Dreams of one start, each with luck of its own; one and the same policy plays them all."""
    from worldflow.demos.stage import Luck
    from worldflow.demos.walls import Cell, wall

    policies = [_policy(playable, config) for _ in range(config.dreams)]
    lucks = [Luck(config.seed, row, 0) for row in range(config.dreams)]
    films = dream_together(playable.engine, _start(playable, config), policies, lucks, config.steps)
    cells = [
        Cell(f"luck {luck.row}", frames, surprise)
        for luck, (frames, surprise) in zip(lucks, films, strict=True)
    ]
    return wall(cells, COLUMNS, config.scale)


def action_wall(playable: "Playable", config: DemoConfig) -> "Frames":
    """Dreams of one start with the same luck, each with another action held all the time."""
    from worldflow.demos.stage import Luck
    from worldflow.demos.walls import Cell, wall

    names = playable.card.action_names[:MAX_ACTIONS]
    policies = [_Held(action) for action in range(len(names))]
    lucks = [Luck(config.seed, 0, 0)] * len(names)
    films = dream_together(playable.engine, _start(playable, config), policies, lucks, config.steps)
    cells = [
        Cell(name.lower(), frames, surprise)
        for name, (frames, surprise) in zip(names, films, strict=True)
    ]
    return wall(cells, 2 if len(cells) == 4 else COLUMNS, config.scale)


def real_wall(playable: "Playable", config: DemoConfig, reality: "Reality") -> "Frames":
    """The real game, a dream that begins at one of its frames, and how far they are apart.

    The dream takes the actions that are played in the real game, and ends with it.
    """
    from worldflow.demos.stage import Luck, Move, Stage
    from worldflow.demos.walls import Cell, wall

    engine = playable.engine
    policy = _policy(playable, config)
    reality.reset(config.seed)
    for _ in range(CONTEXT_STEPS):
        if not reality.over:
            reality.step(policy.act(reality.frame, reality.truth()))
    real, dream = Stage(engine, reality), Stage(engine)
    films: dict[str, list[NDArray[np.uint8]]] = {"real": [], "dream": []}
    bits: dict[str, list[float]] = {"real": [], "dream": []}
    for stage in (real, dream):
        stage.begin(reality.context())
    for step in range(config.steps):
        if reality.over:
            break
        action = policy.act(reality.frame, reality.truth())
        luck = Luck(config.seed, 0, step)
        for name, stage in (("real", real), ("dream", dream)):
            stage.take(Move("real" if name == "real" else "dream", action, luck, 1.0))
            films[name].append(stage.frame)
            bits[name].append((stage.score(luck) or 0.0) / math.log(2))
    shown = {name: np.stack(frames) for name, frames in films.items()}
    apart = np.abs(shown["real"].astype(np.int16) - shown["dream"]).astype(np.uint8)
    cells = [Cell(name, shown[name], np.array(bits[name])) for name in ("real", "dream")]
    return wall([*cells, Cell("difference", apart)], 3, config.scale)


def dream_together(
    engine: "Engine",
    start: "Context",
    policies: Sequence["Actor"],
    lucks: Sequence["Luck"],
    steps: int,
) -> list[tuple["Frames", NDArray[np.float64]]]:
    """N dreams side by side in one batch: frames `(T, H, W, 3)` and bits of surprise `(T,)` each.

    A dream that has ended shows its last frame on, with no surprise (nan).
    """
    from worldflow.engine import take_rows
    from worldflow.envs.dream import SCORE_ROWS
    from worldflow.noise import standard_normal

    count, size = len(policies), engine.noise_size
    state = engine.start(start.frames[None], start.actions[None])
    state = take_rows(state, np.zeros(count, np.int64))
    shown = np.repeat(start.frames[-1:], count, axis=0)
    over = np.zeros(count, np.bool_)
    frames, bits = [], []
    for step in range(steps):
        actions = np.array([p.act(f, {}) for p, f in zip(policies, shown, strict=True)], np.int64)
        noise = [standard_normal(luck.seed, luck.row, step, size) for luck in lucks]
        told = engine.step(state, actions, np.stack(noise), np.ones(count, np.float32))
        noise = [standard_normal(luck.seed, luck.row + SCORE_ROWS, step, size) for luck in lucks]
        nats = engine.score(state, actions, told.frame, np.stack(noise))
        shown = np.where(over[:, None, None, None], shown, told.frame)
        frames.append(shown)
        bits.append(np.where(over, np.nan, nats / math.log(2)))
        state, over = told.state, over | told.terminated
    films, surprise = np.stack(frames, axis=1), np.stack(bits, axis=1)
    return list(zip(films, surprise, strict=True))


class _Held:
    """Holds one action."""

    def __init__(self, action: int) -> None:
        self.action = action

    def act(self, frame: NDArray[np.uint8], truth: dict[str, NDArray[Any]]) -> int:
        return self.action


class Actor(Protocol):
    """The half of a policy that is needed here."""

    def act(self, frame: NDArray[np.uint8], truth: dict[str, NDArray[Any]]) -> int:
        """The action for `frame`."""


def _policy(playable: "Playable", config: DemoConfig) -> "Policy":
    from worldflow.agents.policy import make_policy, usual_player
    from worldflow.demos.reality import game_card

    name, card = config.policy, playable.card
    if name == "auto":
        name = usual_player(card.game)
    policy = make_policy(name, game_card(card))
    policy.reset(config.seed)
    return policy


def _start(playable: "Playable", config: DemoConfig) -> "Context":
    from worldflow.envs.start import Context

    index = config.seed % len(playable.start_frames)
    return Context(playable.start_frames[index], playable.start_actions[index])


def _write(path: Path, frames: "Frames", frame_rate: int) -> None:
    from contextlib import closing

    from worldflow.film import film_writer

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(film_writer(path, frame_rate, scale=1)) as film:
            for frame in frames:
                film.add(frame)
    except OSError as error:
        raise WorkError(f"{path}: the film cannot be written: {error.strerror}") from error
    print(path)


def _check(config: DemoConfig) -> None:
    for name, highest in (("dreams", 36), ("steps", 10_000), ("scale", 16)):
        value = getattr(config, name)
        if not 1 <= value <= highest:
            raise InputError(f"{name}={value}: expected 1 to {highest}")
    if config.film not in FILMS:
        raise InputError(f"film={config.film}: {did_you_mean(config.film, FILMS)}")
    if config.out.exists() and not config.out.is_dir():
        raise InputError(f"out={config.out}: is a file; films need a folder")
