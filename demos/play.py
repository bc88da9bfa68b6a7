"""`worldflow play`: a person plays a learned world in a window; without a display, a film."""

import math
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from worldflow.errors import InputError, WorkError

if TYPE_CHECKING:
    from worldflow.agents.policy import Policy
    from worldflow.card import Playable, WorldCard
    from worldflow.envs.world_env import WorldEnv

FILM_SECONDS = 30


@dataclass(frozen=True)
class PlayConfig:
    """The keys of `worldflow play`."""

    world: str = "breakout"  # a shipped name, a run folder or a .safetensors file
    engine: str = "auto"
    device: str = "auto"
    threads: int = 0  # CPU threads of the engine; 0: its own choice
    seed: int | None = None  # of start and luck; null: another one every time
    temperature: float = 1.0  # 0: the likeliest future at every step
    scale: int = 8  # pixels of window or film for each pixel of a frame
    fps: int = 0  # steps per second; 0: the game's own pace
    steps: int = 0  # stop after so many; 0: window: when the player quits, film: 30 seconds
    surprise: bool = True  # window: show how unlikely each frame is (costs time at every step)
    policy: str = "auto"  # film: who plays; auto: scripted where there is a script, else random
    out: Path | None = None  # make a film (.mp4, .gif) here, even if there is a display


def play(config: PlayConfig) -> None:
    """Open the window, or make a film where there is no display or `out` asks for one.

    Raises:
        InputError: a value out of range, an unknown world or policy, or `out` already there.
        WorkError: the film cannot be written.
    """
    _check(config)
    from worldflow.demos.window import why_no_display

    no_display = why_no_display() if config.out is None else None
    if no_display:
        print(f"no display ({no_display}): making a film instead")
    from worldflow.playable import load_playable

    playable = load_playable(
        config.world, engine=config.engine, device=config.device, threads=config.threads
    )
    seed = secrets.randbelow(2**31) if config.seed is None else config.seed
    if config.out is None and no_display is None:
        play_in_window(playable, config, seed)
    else:
        make_film(playable, config, seed)


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
    if config.out is not None:
        _check_out(config.out)


def _check_out(out: Path) -> None:
    from worldflow.film import film_writer

    film_writer(out, frame_rate=1)  # refuses a wrong suffix
    if out.is_dir():
        raise InputError(f"out={out}: is a folder; name a film in it, {out / 'film.mp4'}")
    if out.exists() and out.stat().st_size:
        raise InputError(f"out={out}: is already there; choose another name or remove it first")


def play_in_window(playable: "Playable", config: PlayConfig, seed: int) -> None:
    """Let a person play.

    Raises:
        WorkError: the window system gave up.
    """
    import pygame

    from worldflow.demos.window import Window, WindowConfig

    card = playable.card
    window_config = WindowConfig(
        title=f"worldflow: {card.name} (F1: keys)",
        key_map=card.key_map,
        action_names=card.action_names,
        frame_rate=config.fps or card.frame_rate,
        scale=config.scale,
        steps=config.steps,
        seed=seed,
    )
    engine = playable.engine
    print(f"{card.name}: {engine.name}, {engine.device}, {engine.dtype}; seed={seed}")
    print("keys: " + ", ".join(key for key in card.key_map if key and "+" not in key), end="")
    print("; P pause, N one step, R restart, + and - speed, F1 help, Esc quit")
    try:
        Window(_make_env(playable, config, config.surprise), window_config).run()
    except pygame.error as error:
        raise WorkError(
            f"the window failed ({error}); out=film.mp4 makes a film instead"
        ) from error


def make_film(playable: "Playable", config: PlayConfig, seed: int) -> Path:
    """Let a policy play and film it. Ctrl-C ends the film early and keeps it.

    Returns:
        Where the film is.

    Raises:
        InputError: unknown policy.
        WorkError: the film cannot be written.
    """
    from tqdm import tqdm

    card = playable.card
    policy = _film_policy(config.policy, card)
    path = config.out or _free_name(card.name)
    frame_rate = config.fps or card.frame_rate
    steps = config.steps or FILM_SECONDS * frame_rate
    title = f"{card.name}, policy={policy.name} seed={seed}"
    frames = rollout(_make_env(playable, config, surprise=False), policy, seed, steps)
    bar = tqdm(frames, title, total=steps, unit="step")
    _write(path, bar, frame_rate, config.scale)
    print(f"{title}, {steps} steps, {steps / frame_rate:.1f} s: {path}")
    return path


def _write(path: Path, frames: Iterable[NDArray[np.uint8]], frame_rate: int, scale: int) -> None:
    from worldflow.film import film_writer

    filmed = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(film_writer(path, frame_rate, scale)) as film:
            for frame in frames:
                film.add(frame)
                filmed += 1
    except OSError as error:
        with suppress(OSError):  # what there is cannot be read, and would stand in the way
            path.unlink()
        raise WorkError(f"{path}: the film cannot be written: {error.strerror}") from error
    except KeyboardInterrupt:
        if filmed:
            print(f"stopped; the first {filmed} steps are in {path}")
        raise


def rollout(
    env: "WorldEnv", policy: "Policy", seed: int, steps: int
) -> Iterator[NDArray[np.uint8]]:
    """The frames `(H, W, 3)` after each of `steps` steps, episode after episode.

    Reproducible: a function of env, policy, seed and steps.
    """
    frame, _ = env.reset(seed=seed)
    policy.reset(seed)
    for step in range(1, steps + 1):
        frame, _, terminated, truncated, _ = env.step(np.int64(policy.act(frame, {})))
        yield frame
        if terminated or truncated:
            frame, _ = env.reset()
            policy.reset(seed + step)


def _make_env(playable: "Playable", config: PlayConfig, surprise: bool) -> "WorldEnv":
    from worldflow.envs.world_env import WorldEnv

    return WorldEnv(playable, temperature=config.temperature, surprise=surprise)


def _film_policy(name: str, card: "WorldCard") -> "Policy":
    from worldflow.agents.policy import make_policy
    from worldflow.agents.scripted import SCRIPTS
    from worldflow.envs.source import GameCard

    if name == "auto":
        name = "scripted" if card.game in SCRIPTS else "random"
    game = GameCard(
        id=card.game,
        action_names=card.action_names,
        key_map=card.key_map,
        frame_rate=card.frame_rate,
        settings=card.settings,
        max_episode_steps=card.max_episode_steps,
    )
    return make_policy(name, game)


def _free_name(world: str) -> Path:
    """`worldflow-NAME.mp4` in the current folder, with a number where that is taken."""
    stem = "worldflow-" + re.sub(r"[^\w.-]+", "-", world)
    names = (f"{stem}{suffix}.mp4" for suffix in ("", *(f"-{n}" for n in range(2, 10_000))))
    return next(path for path in map(Path, names) if not path.exists())
