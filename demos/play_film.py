"""A policy plays a learned world and is filmed: what `worldflow play` does without a display."""

import re
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from worldflow.errors import InputError, WorkError

if TYPE_CHECKING:
    from worldflow.agents.policy import Policy
    from worldflow.card import Playable, WorldCard
    from worldflow.demos.play import PlayConfig
    from worldflow.envs.world_env import WorldEnv

FILM_SECONDS = 30


def check_out(out: Path) -> None:
    """Raise InputError unless a film can be made there."""
    from worldflow.film import film_writer

    film_writer(out, frame_rate=1)  # refuses a wrong suffix
    if out.is_dir():
        raise InputError(f"out={out}: is a folder; name a film in it, {out / 'film.mp4'}")
    if out.exists() and out.stat().st_size:
        raise InputError(f"out={out}: is already there; choose another name or remove it first")


def make_film(playable: "Playable", config: "PlayConfig", seed: int) -> Path:
    """Let a policy play and film it. Ctrl-C ends the film early and keeps it.

    Returns:
        Where the film is.

    Raises:
        InputError: unknown policy.
        WorkError: the film cannot be written.
    """
    from tqdm import tqdm

    from worldflow.envs.world_env import WorldEnv

    card = playable.card
    policy = _film_policy(config.policy, card)
    path = config.out or free_name(card.name)
    frame_rate = config.fps or card.frame_rate
    steps = config.steps or FILM_SECONDS * frame_rate
    title = f"{card.name}, policy={policy.name} seed={seed}"
    env = WorldEnv(playable, temperature=config.temperature)
    frames = rollout(env, policy, seed, steps)
    bar = tqdm(frames, title, total=steps, unit="step")
    write_film(path, bar, frame_rate, config.scale)
    print(f"{title}, {steps} steps, {steps / frame_rate:.1f} s: {path}")
    return path


def write_film(
    path: Path, frames: Iterable[NDArray[np.uint8]], frame_rate: int, scale: int
) -> None:
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


def _film_policy(name: str, card: "WorldCard") -> "Policy":
    from worldflow.agents.policy import make_policy, usual_player
    from worldflow.demos.reality import game_card

    if name == "auto":
        name = usual_player(card.game)
    return make_policy(name, game_card(card))


def free_name(world: str) -> Path:
    """`worldflow-NAME.mp4` in the current folder, with a number where that is taken."""
    stem = "worldflow-" + re.sub(r"[^\w.-]+", "-", world)
    names = (f"{stem}{suffix}.mp4" for suffix in ("", *(f"-{n}" for n in range(2, 10_000))))
    return next(path for path in map(Path, names) if not path.exists())
