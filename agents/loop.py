"""`worldflow agent loop`: play, learn the world, learn in its dreams, and again.

The protocol of the Atari 100k benchmark (Kaiser et al. 2020): so many steps in the real game in
all, then whole episodes of it as the judge. Every part is a verb of its own, in a folder of its
own, that goes on where it was stopped; so the loop does, too.
"""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldflow.agents.checkpoint import untouched
from worldflow.agents.collect import CollectConfig, collect
from worldflow.agents.evaluate import AgentEvaluateConfig, evaluate_agent
from worldflow.agents.policy import make_policy
from worldflow.agents.train import AgentTrainConfig, train_agent
from worldflow.agents.widen import widened
from worldflow.config import Source, read_config
from worldflow.dataset import open_dataset
from worldflow.envs.source import make_source
from worldflow.errors import InputError
from worldflow.train import TrainConfig, train
from worldflow.whole_file import write_whole

LEDGER = "loop.json"  # settings, and the parts that are done
WIDENED = "widened.safetensors"  # in a world's folder: what the next round begins with


@dataclass(frozen=True)
class LoopConfig:
    """See `conf/agent_loop.yaml` for what each key means."""

    env: str
    out: Path
    world_minutes: float
    agent_minutes: float
    size: int = 64
    real_steps: int = 100_000
    rounds: int = 3
    first_policy: str = "random"
    world_keys: str = "model=small"
    agent_keys: str = ""
    episodes: int = 20
    greedy: bool = False
    workers: int = 1
    seed: int = 0
    device: str = "auto"
    threads: int = 0


def loop(config: LoopConfig) -> None:
    """Run the parts that are not done yet; leaves the last agent and its `report.json` in `out`.

    Raises:
        InputError: a value out of range, or an `out` that is no loop of these settings.
        WorkError: a part failed; all before it is kept.
        KeyboardInterrupt: stopped by the user; the same command goes on.
    """
    _check(config)
    done = claimed(config)
    todo = parts(config)
    for number, (name, run) in enumerate(todo.items(), 1):
        if name in done:
            continue
        print(f"{name} ({number} of {len(todo)})", flush=True)
        run()
        done.append(name)
        _note(config, done)
    print(f"agent: {config.out / f'agent-{config.rounds}'}", flush=True)


def parts(config: LoopConfig) -> dict[str, Callable[[], None]]:
    """What there is to do, in its order, by name."""
    out, rounds = config.out, config.rounds
    todo: dict[str, Callable[[], None]] = {}
    for number in range(1, rounds + 1):
        before = config.real_steps * (number - 1) // rounds
        steps = config.real_steps * number // rounds - before
        agent, again = out / f"agent-{number - 1}", number > 1
        playing = CollectConfig(
            env=config.env,
            out=out / "data" / f"round-{number}",
            steps=steps,
            policy=str(agent) if again else config.first_policy,
            workers=min(config.workers, steps),
            seed=config.seed + number,
            size=config.size,
        )
        learning = world_settings(config, number)
        dreaming = agent_settings(config, number, str(agent) if again else "")
        todo[f"collect-{number}"] = lambda given=playing: collect(given)  # type: ignore[misc]
        todo[f"world-{number}"] = lambda given=learning: _learn(given)  # type: ignore[misc]
        todo[f"agent-{number}"] = lambda given=dreaming: train_agent(given)  # type: ignore[misc]
    todo["evaluate"] = lambda: _evaluate(config)
    return todo


def world_settings(config: LoopConfig, number: int) -> TrainConfig:
    """Of `worldflow train` in a round: all data so far, from the world of the round before."""
    init = config.out / f"world-{number - 1}" / WIDENED
    given = {
        "data": str(config.out / "data"),
        "out": str(config.out / f"world-{number}"),
        "init": str(init) if number > 1 else "",
        "minutes": str(config.world_minutes / config.rounds),
        **_common(config),
    }
    source = Source("train", TrainConfig, "worldflow train")
    return read_config(source, shlex.split(config.world_keys), given)


def _learn(given: TrainConfig) -> None:
    """Train a world, from one that knows of all rewards that have been met by now."""
    if given.init:
        training, _ = open_dataset(given.data).split(given.holdout)
        widened(Path(given.init).parent, training).save(given.init)
    train(given)


def agent_settings(config: LoopConfig, number: int, init: str) -> AgentTrainConfig:
    """Of `worldflow agent train` in a round: dreams from all data so far."""
    given = {
        "world": str(config.out / f"world-{number}"),
        "data": str(config.out / "data"),
        "out": str(config.out / f"agent-{number}"),
        "init": init,
        "minutes": str(config.agent_minutes / config.rounds),
        **_common(config),
    }
    source = Source("agent_train", AgentTrainConfig, "worldflow agent train")
    return read_config(source, shlex.split(config.agent_keys), given)


def _common(config: LoopConfig) -> dict[str, str]:
    return {"seed": str(config.seed), "device": config.device, "threads": str(config.threads)}


def _evaluate(config: LoopConfig) -> None:
    last = config.out / f"agent-{config.rounds}"
    world = config.out / f"world-{config.rounds}"
    report = config.out / "report.json"
    report.unlink(missing_ok=True)  # ours: of an evaluation that was stopped before it was noted
    evaluate_agent(
        AgentEvaluateConfig(
            agent=str(last),
            env=config.env,
            world=str(world),
            episodes=config.episodes,
            greedy=config.greedy,
            out=report,
            device=config.device,
            threads=config.threads,
        )
    )


def _check(config: LoopConfig) -> None:
    for name in ("rounds", "episodes", "workers"):
        if getattr(config, name) < 1:
            raise InputError(f"{name}={getattr(config, name)}: expected 1 or more")
    if config.real_steps < config.rounds:
        raise InputError(f"real_steps={config.real_steps}: expected at least one for each round")
    for name in ("world_minutes", "agent_minutes"):
        if getattr(config, name) <= 0:
            raise InputError(f"{name}={getattr(config, name)}: expected more than 0 minutes")
    make_policy(config.first_policy, make_source(config.env, size=config.size).card)
    parts(config)  # reads the keys of every round, before any work is done


def claimed(config: LoopConfig) -> list[str]:
    """The parts that are done in `out`; makes the folder.

    Raises:
        InputError: it holds something else, or a loop of other settings.
    """
    ledger = config.out / LEDGER
    if ledger.is_file():
        found = json.loads(ledger.read_text())
        for name, value in _settings(config).items():
            if found["settings"].get(name) != value:
                raise InputError(
                    f"out={config.out} holds a loop with {name}={found['settings'].get(name)}, not"
                    f" {value}: use the same settings to go on with it, or another folder"
                )
        done: list[str] = found["done"]
        return done
    if not untouched(config.out):
        raise InputError(f"out={config.out} exists and is no loop: choose another folder")
    config.out.mkdir(parents=True, exist_ok=True)
    _note(config, [])
    return []


def _note(config: LoopConfig, done: list[str]) -> None:
    text = json.dumps({"settings": _settings(config), "done": done}, indent=2) + "\n"
    write_whole(config.out / LEDGER, text.encode())


def _settings(config: LoopConfig) -> dict[str, Any]:
    """What must stay the same for a loop to be the same loop, as JSON has it."""
    free = ("out", "workers", "device", "threads")
    values = {name: value for name, value in vars(config).items() if name not in free}
    settings: dict[str, Any] = json.loads(json.dumps(values))
    return settings
