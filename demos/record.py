"""`worldflow record`: a policy plays, without a window, into episodes and films."""

import math
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from worldflow.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from worldflow.demos.session import Session

SOURCES = ("dream", "real")


@dataclass(frozen=True)
class RecordConfig:
    """The keys of `worldflow record`."""

    world: str  # a shipped name, a run folder or a world file
    out: Path  # a folder; recordings are added to it
    steps: int = 600
    policy: str = "auto"  # who plays; auto: scripted where there is a script, else random
    source: str = "dream"  # or real: the game that the world has learned
    seed: int | None = None  # of the first game; null: another one every time
    temperature: float = 1.0
    films: tuple[str, ...] = ("mp4",)  # beside each episode: mp4, gif, webp
    engine: str = "auto"
    device: str = "auto"
    threads: int = 0  # CPU threads of the engine; 0: its own choice


def record(config: RecordConfig) -> None:
    """Play and record `steps` steps, one episode for each game.

    Raises:
        InputError: a value out of range, an unknown world, policy or film.
        WorkError: the disk is full or fails; what was recorded before is kept.
        KeyboardInterrupt: stopped by the user; what was recorded is kept.
    """
    _check(config)
    from worldflow.demos.cast import make_cast
    from worldflow.demos.recorder import Recorder
    from worldflow.demos.session import Session, SessionConfig
    from worldflow.playable import load_playable

    recorder = Recorder(config.out, config.films)
    playable = load_playable(
        config.world, engine=config.engine, device=config.device, threads=config.threads
    )
    seed = secrets.randbelow(2**31) if config.seed is None else config.seed
    session_config = SessionConfig(
        seed=seed,
        source="real" if config.source == "real" else "dream",
        temperature=config.temperature,
        surprise=False,
        world=config.world,
    )
    cast = make_cast(playable.card, config.policy)
    session = Session(playable, session_config, cast, recorder)
    try:
        _play(session, config.steps, f"{playable.card.name}, {cast.controller}, seed={seed}")
    finally:
        session.close()
        told = ", ".join(path.stem for path in recorder.paths)
        print(f"{config.out}: {recorder.steps} steps in {told or 'no episode'}")


def _play(session: "Session", steps: int, title: str) -> None:
    from tqdm import tqdm

    session.toggle_recording()
    for _ in tqdm(range(steps), title, unit="step"):
        session.step(0)
        session.appraise()
        if session.failure is not None:
            raise session.failure
        if session.figures.over:
            session.restart()


def _check(config: RecordConfig) -> None:
    if config.steps < 1:
        raise InputError(f"steps={config.steps}: expected 1 or more")
    if config.source not in SOURCES:
        raise InputError(f"source={config.source}: {did_you_mean(config.source, SOURCES)}")
    if not (math.isfinite(config.temperature) and config.temperature >= 0):
        raise InputError(f"temperature={config.temperature}: expected 0 or more; 1 is the world's")
    if config.seed is not None and not 0 <= config.seed < 2**63:
        raise InputError(f"seed={config.seed}: expected 0 to 2**63 - 1, or null for any")
