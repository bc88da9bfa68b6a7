"""`worldflow play`: a person plays a learned world in a window; without a display, a film."""

import math
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from worldflow.errors import InputError, WorkError, did_you_mean

if TYPE_CHECKING:
    from worldflow.card import Playable
    from worldflow.demos.bindings import Bindings
    from worldflow.demos.session import Session
    from worldflow.demos.view import Game
    from worldflow.envs.start import Context

SOURCES = ("dream", "real", "split")
WITHOUT_A_MENU = "breakout"


@dataclass(frozen=True)
class PlayConfig:
    """The keys of `worldflow play`."""

    world: str | None = None  # a name, a run folder, a world file, a recording; None: the menu
    engine: str = "auto"
    device: str = "auto"
    threads: int = 0  # CPU threads of the engine; 0: its own choice
    seed: int | None = None  # of start and luck; null: another one every time
    source: str = "dream"  # or real, or split: both side by side
    player: str = "human"  # who begins: or scripted, random, an agent
    temperature: float = 1.0  # 0: the likeliest future at every step
    episode: Path | None = None  # begin dreams in this recording, at `step`
    step: int = 0
    image: Path | None = None  # begin dreams at this picture
    record: bool = False  # from the first step
    recordings: str = "recordings"  # the folder for them
    films: tuple[str, ...] = ("mp4",)  # beside each recording: mp4, gif, webp
    scale: int = 8  # pixels of window or film for each pixel of a frame
    fullscreen: bool = False
    terminal: bool = False  # play in the terminal, for machines reached over ssh
    fps: int = 0  # steps per second; 0: the game's own pace
    steps: int = 0  # stop after so many; 0: window: when the player quits, film: 30 seconds
    surprise: bool = True  # window: show how unlikely each frame is (costs time at every step)
    keys: Path | None = None  # keys of one's own, a YAML file
    policy: str = "auto"  # film: who plays; auto: scripted where there is a script, else random
    out: Path | None = None  # make a film (.mp4, .gif, .webp) here, even if there is a display


def play(config: PlayConfig) -> None:
    """Open the window, or make a film where there is no display or `out` asks for one.

    Raises:
        InputError: a value out of range, an unknown world or policy, or `out` already there.
        WorkError: the film cannot be written.
    """
    _check(config)
    from worldflow.demos.window import why_no_display

    silent = config.terminal or config.out is not None
    no_display = None if silent else why_no_display()
    if config.world is not None and _is_recording(config.world):
        _show_recording(config, film=bool(no_display))
        return
    if no_display:
        print(f"no display ({no_display}): making a film instead")
    filming = no_display is not None or config.out is not None
    world = config.world or (WITHOUT_A_MENU if filming or config.terminal else _chosen())
    if world is None:
        return
    from worldflow.playable import load_playable

    playable = load_playable(
        world, engine=config.engine, device=config.device, threads=config.threads
    )
    seed = secrets.randbelow(2**31) if config.seed is None else config.seed
    if filming:
        from worldflow.demos.play_film import make_film

        make_film(playable, config, seed)
    else:
        play_live(playable, config, world, seed)


def _check(config: PlayConfig) -> None:
    if not (math.isfinite(config.temperature) and config.temperature >= 0):
        raise InputError(f"temperature={config.temperature}: expected 0 or more; 1 is the world's")
    if not 1 <= config.scale <= 64:
        raise InputError(f"scale={config.scale}: expected 1 to 64 pixels for each of a frame's")
    if not 0 <= config.fps <= 1000:
        raise InputError(f"fps={config.fps}: expected 1 to 1000, or 0 for the game's own pace")
    if config.steps < 0:
        raise InputError(f"steps={config.steps}: expected 1 or more, or 0 for no limit")
    if config.seed is not None and not 0 <= config.seed < 2**63:
        raise InputError(f"seed={config.seed}: expected 0 to 2**63 - 1, or null for any")
    if config.source not in SOURCES:
        raise InputError(f"source={config.source}: {did_you_mean(config.source, SOURCES)}")
    if config.episode is not None and config.image is not None:
        raise InputError("episode and image both say where dreams begin: give one of them")
    if config.source != "dream" and (config.episode or config.image):
        raise InputError(
            f"source={config.source}: the real game cannot begin at a picture; leave it out"
        )
    if config.out is not None:
        from worldflow.demos.play_film import check_out

        check_out(config.out)


def _is_recording(what: str) -> bool:
    from worldflow.episode import SUFFIX

    return what.endswith(SUFFIX)


def _chosen() -> str | None:
    """The world that the player chooses in a menu; None if the player leaves."""
    from worldflow.demos.menu import choose_world

    return choose_world()


def play_live(playable: "Playable", config: PlayConfig, world: str, seed: int) -> None:
    """Let a person play, in a window or in the terminal.

    Raises:
        InputError: a player, a start, a key or a folder that does not fit.
        WorkError: the window system gave up.
    """
    from worldflow.demos.world_game import WorldGame

    session = make_session(playable, config, world, seed)
    card, engine = playable.card, playable.engine
    print(f"{card.name}: {engine.name}, {engine.device}, {engine.dtype}; seed={seed}")
    game = WorldGame(session)
    bindings = _bindings(game, config)
    print("keys: " + ", ".join(key for key in bindings.key_map if key and "+" not in key), end="")
    print("; F1 tells all of them, Esc quits")
    try:
        _open_window(game, bindings, config)
    finally:
        for path in session.recorder.paths:
            print(f"recorded {path}")


def make_session(playable: "Playable", config: PlayConfig, world: str, seed: int) -> "Session":
    """The session that a configuration asks for.

    Raises:
        InputError: a player, a start or a folder that does not fit.
    """
    from worldflow.demos.cast import make_cast
    from worldflow.demos.recorder import Recorder
    from worldflow.demos.session import Session, SessionConfig

    session_config = SessionConfig(
        seed=seed,
        source=config.source,  # type: ignore[arg-type]  # checked
        temperature=config.temperature,
        surprise=config.surprise,
        start=_start(playable, config),
        world=world,
    )
    recorder = Recorder(Path(config.recordings), config.films)
    session = Session(playable, session_config, make_cast(playable.card, config.player), recorder)
    _warm_up(playable)
    if config.record:
        session.toggle_recording()
    return session


def _warm_up(playable: "Playable") -> None:
    """Step and score once, so that what an engine puts off until then is no hitch in the game."""
    import numpy as np

    engine, action = playable.engine, np.zeros(1, np.int64)
    noise = np.zeros((1, engine.noise_size), np.float32)
    state = engine.start(playable.start_frames[:1], playable.start_actions[:1])
    step = engine.step(state, action, noise, np.ones(1, np.float32))
    engine.score(state, action, step.frame, noise)


def _start(playable: "Playable", config: PlayConfig) -> "Context | None":
    """Where dreams begin, if not at the world's own starts."""
    from worldflow.envs.start import episode_context, image_context

    if config.episode is not None:
        return episode_context(config.episode, config.step, playable)
    if config.image is not None:
        return image_context(config.image, playable)
    return None


def _show_recording(config: PlayConfig, *, film: bool) -> None:
    """Show a recording, in a window, the terminal or a film."""
    from worldflow.demos.episode_game import EpisodeGame, film_episode
    from worldflow.episode import Episode

    episode = Episode.open(str(config.world))
    if film or config.out is not None:
        film_episode(episode, config.out, config.fps, config.scale)
    else:
        game = EpisodeGame(episode)
        _open_window(game, _bindings(game, config), config)


def _bindings(game: "Game", config: PlayConfig) -> "Bindings":
    """The usual keys, or what the player's file makes of them."""
    from worldflow.demos.bindings import Bindings, read_bindings

    bindings = Bindings(game.key_map)
    return read_bindings(config.keys, bindings, game.action_names) if config.keys else bindings


def _open_window(game: "Game", bindings: "Bindings", config: PlayConfig) -> None:
    if config.terminal:
        from worldflow.demos.terminal import Terminal

        Terminal(game, bindings, frame_rate=config.fps, steps=config.steps).run()
        return
    import pygame

    from worldflow.demos.window import Window, WindowConfig

    window = WindowConfig(config.scale, config.fps, config.steps, config.fullscreen, bindings)
    try:
        Window(game, window).run()
    except pygame.error as error:
        raise WorkError(
            f"the window failed ({error}); out=film.mp4 makes a film instead"
        ) from error
