"""`worldflow replay`: a recording is played again from what it holds, and compared bit for bit."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldflow.errors import InputError, WorkError

if TYPE_CHECKING:
    from worldflow.card import Playable
    from worldflow.demos.reality import Reality
    from worldflow.demos.stage import Outcome
    from worldflow.episode import Episode, Header


@dataclass(frozen=True)
class ReplayConfig:
    """The keys of `worldflow replay`."""

    episode: Path  # a recording
    world: str | None = None  # that dreamed it; None: the one that the recording names
    engine: str = "recorded"  # or auto, torch, ...
    device: str = "auto"
    threads: int = 0  # CPU threads of the engine; 0: its own choice


def replay(config: ReplayConfig) -> None:
    """Take every step of a recording again and compare what it gives with what was recorded.

    Bit for bit is promised for the same machine, engine, dtype and number of threads.

    Raises:
        InputError: no such recording, or not the world that dreamed it.
        WorkError: a step gives something else now; the first such step is named.
    """
    from tqdm import tqdm

    from worldflow.episode import Episode

    episode = Episode.open(config.episode)
    origins = episode.origin()
    playable = _world_of(episode.header, config) if "dream" in origins else None
    reality = _game_of(episode) if "real" in origins else None
    steps = regenerate(episode, playable, reality)
    for step, outcome in enumerate(tqdm(steps, "replay", total=len(episode), unit="step")):
        difference = difference_of(episode, step, outcome)
        if difference:
            raise WorkError(
                f"{config.episode}: the first {step} of {len(episode)} steps are the same bit for "
                f"bit; step {step} differs: {difference}"
            )
    told = ", ".join(f"{origins.count(name)} {name}" for name in sorted(set(origins)))
    players = ", ".join(sorted(set(episode.controller())))
    print(f"{config.episode}: {len(episode)} steps ({told}; {players}) are the same bit for bit")


def regenerate(
    episode: "Episode", playable: "Playable | None", reality: "Reality | None"
) -> Iterator["Outcome"]:
    """What each step gives when it is taken again: only actions and noise keys are read.

    Raises:
        WorkError: the real game does not stand where the recording begins.
    """
    from worldflow.demos.stage import Luck, Move, Stage
    from worldflow.envs.start import Context

    header = episode.header
    start = Context(episode.start_frames, episode.start_actions)
    if reality is not None:
        reality.replay(header.seed, header.game_actions)
        if not np.array_equal(reality.frame, start.frames[-1]):
            raise WorkError(
                f"{episode.path}: {header.source} shows another frame here after "
                f"{len(header.game_actions)} steps from seed {header.seed}"
            )
    stage = Stage(playable.engine if playable else None, reality)
    stage.begin(start)
    for row in episode.steps().rows:
        yield stage.take(
            Move(
                "dream" if row["dream"] else "real",
                int(row["action"]),
                Luck(int(row["noise_seed"]), int(row["noise_row"]), int(row["noise_counter"])),
                float(row["temperature"]),
            )
        )


def difference_of(episode: "Episode", step: int, outcome: "Outcome") -> str:
    """What is not as it was recorded, in words; "" if nothing."""
    recorded, row = episode.frames(step + 1, step + 2)[0], episode.steps(step, step + 1).rows[0]
    found = []
    off = np.abs(outcome.frame.astype(np.int16) - recorded).max(axis=-1)
    if off.any():
        found.append(f"{np.count_nonzero(off)} pixels of its frame, by up to {off.max()} of 255")
    told: dict[str, Any] = {"reward": outcome.reward, "terminated": outcome.terminated}
    for name, value in told.items():
        if row[name] != value:
            found.append(f"{name} is {value}, was {row[name]}")
    return ", ".join(found)


def _world_of(header: "Header", config: ReplayConfig) -> "Playable":
    from worldflow.playable import load_playable

    world = config.world or header.world
    if world is None:
        raise InputError(
            f"{config.episode} does not name the world that dreamed it; give world=NAME or PATH"
        )
    engine = config.engine
    if engine == "recorded":
        engine = header.engine or "auto"
    playable = load_playable(world, engine=engine, device=config.device, threads=config.threads)
    found = playable.engine.world_hash
    if found != header.world_hash:
        raise InputError(
            f"{config.episode} was dreamed by world {header.world_hash}, {world} is {found}; "
            "give the one that dreamed it: world=PATH"
        )
    return playable


def _game_of(episode: "Episode") -> "Reality":
    from worldflow.demos.reality import make_reality

    header = episode.header
    return make_reality(header.source, header.settings, len(header.action_names))
