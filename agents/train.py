"""`worldflow agent train`: an agent that learns in a learned world, or in the real game."""

import time
from contextlib import closing
from pathlib import Path
from typing import Never

import torch
import torch.nn.functional as F
from tqdm import tqdm

from worldflow.agents.agent_file import FILE
from worldflow.agents.checkpoint import read_about, untouched
from worldflow.agents.learner import (
    CHECKPOINT,
    AgentTrainConfig,
    Learner,
    StageMaker,
    run_settings,
)
from worldflow.agents.network import ActorCritic, newest
from worldflow.agents.stage import Stage
from worldflow.errors import InputError
from worldflow.film import side_by_side, write_mp4
from worldflow.journal import Log
from worldflow.playable import choose_device
from worldflow.train import stop_between_updates

__all__ = ["AgentTrainConfig", "train_agent"]

FILMED, FILM_STEPS, FILM_SCALE = 4, 150, 3  # episodes side by side, their steps, size of a pixel


def train_agent(config: AgentTrainConfig) -> None:
    """Train, or go on with the run in `out`; leaves `agent.safetensors`, log and film there.

    Raises:
        InputError: not one of `world` and `env`, not one of `steps` and `minutes`, a value out
            of range, or an `out` that is not a run of these settings.
        WorkError: the disk is full; the last checkpoint is kept.
        KeyboardInterrupt: stopped by the user; all updates are kept.
    """
    _check(config)
    resume = claimed(config)
    device = choose_device(config.device, config.threads)
    stages = StageMaker(config, device)
    learner = Learner(config, stages)
    if resume:
        learner.load(config.out)
    config.out.mkdir(parents=True, exist_ok=True)
    log = Log(config.out, learner.progress.update, tensorboard=False)
    where = f"in the world {config.world}" if config.world else f"in the real {config.env}"
    print(f"{config.ppo.envs} episodes {where}, from update {learner.progress.update}", flush=True)
    _run(learner, config, log)
    if config.film:
        film = config.out / f"film-{learner.progress.update:06d}.mp4"
        write_film(film, learner.network, stages.make(FILMED, FILM_STEPS, compiled=False))
    print(f"agent: {config.out / FILE}", flush=True)


def _check(config: AgentTrainConfig) -> None:
    if bool(config.world) == bool(config.env):
        raise InputError("where? give either world=bounce (dreams) or env=bounce (the real game)")
    if (config.steps > 0) == (config.minutes > 0):
        raise InputError("how long? give either steps=500000 or minutes=10")
    if config.env and (config.data or config.trust):
        raise InputError("data= and trust= are for dreams: give world=, or leave them out")
    for name in ("horizon", "log_every", "checkpoint_every"):
        if getattr(config, name) < 1:
            raise InputError(f"{name}={getattr(config, name)}: expected 1 or more")
    if config.seed < 0:
        raise InputError(f"seed={config.seed}: expected 0 or more")
    config.network.check()
    config.ppo.check()
    if 0 < config.steps < config.ppo.envs * config.ppo.rollout:
        raise InputError(
            f"steps={config.steps}: expected at least one update, ppo.envs * ppo.rollout ="
            f" {config.ppo.envs * config.ppo.rollout}"
        )


def claimed(config: AgentTrainConfig) -> bool:
    """Whether `out` holds this run, to go on with; InputError if it holds anything else."""
    out = config.out
    if untouched(out):
        return False
    if not (out / CHECKPOINT).is_file():
        raise InputError(f"out={out} exists and is no training run: choose another folder")
    before, now = read_about(out / CHECKPOINT)["settings"], run_settings(config)
    for name in now:
        if before.get(name) != now[name]:
            raise InputError(
                f"out={out} holds a run with {name}={before.get(name)}, not {now[name]}: "
                "use the same settings to go on with it, or another folder"
            )
    return True


def _run(learner: Learner, config: AgentTrainConfig, log: Log) -> None:
    """Updates until the budget is spent.

    Raises:
        KeyboardInterrupt: stopped by the user; all updates are kept.
    """
    progress = learner.progress
    learner.save(config.out)  # from now on the run can be killed
    began = progress.steps, progress.seconds
    clock = time.perf_counter()
    with closing(_bar(config, learner)) as bar, stop_between_updates() as stop:
        while not learner.finished() and not stop.is_set():
            figures = learner.update()
            if progress.update % config.checkpoint_every == 0:
                learner.save(config.out)
            now = time.perf_counter()  # all of it counts: what a budget in minutes buys
            progress.seconds, clock = progress.seconds + now - clock, now
            if progress.update % config.log_every == 0:
                told = {name: float(value) for name, value in figures.items()}
                speed = (progress.steps - began[0]) / (progress.seconds - began[1])
                log.write({
                    "step": progress.update,
                    "steps": progress.steps,
                    "seconds": round(progress.seconds, 1),
                    "steps_per_s": round(speed, 1),
                    **told,
                })  # fmt: skip
                bar.set_postfix_str(
                    f"{speed:.0f} steps/s, {1000 * told['reward_per_step']:.1f} reward/1000 "
                    f"steps, entropy {told['entropy']:.2f}"
                )
            bar.update(_done(config, learner) - bar.n)
        learner.save(config.out)
    if stop.is_set():
        raise KeyboardInterrupt


def _done(config: AgentTrainConfig, learner: Learner) -> float:
    """Steps or minutes, at most all: tqdm forgets a total that is passed."""
    progress = learner.progress
    if config.steps:
        return min(progress.steps, config.steps)
    return min(progress.seconds / 60, config.minutes)


def _bar(config: AgentTrainConfig, learner: Learner) -> "tqdm[Never]":
    layout = "{l_bar}{bar}| {n:.1f}/{total:.1f} {unit} [{elapsed}<{remaining}{postfix}]"
    return tqdm(
        total=config.steps or config.minutes,
        initial=_done(config, learner),
        unit="steps" if config.steps else "min",
        bar_format=layout,
        mininterval=1.0,
    )


@torch.no_grad()
def write_film(path: Path, network: ActorCritic, stage: Stage) -> None:
    """The agent at play, on all rows of `stage` side by side."""
    generator = torch.Generator(stage.device).manual_seed(0)
    observation = stage.restart(generator)
    shown = [newest(observation).cpu()]
    for _ in range(FILM_STEPS):
        logits, _ = network(observation)
        action = torch.multinomial(F.softmax(logits, dim=1), 1, generator=generator)[:, 0]
        observation = stage.step(action, generator).observation
        shown.append(newest(observation).cpu())
    films = torch.stack(shown, dim=1).numpy()  # (N, T+1, H, W, 3)
    write_mp4(path, side_by_side(list(films)), stage.card.frame_rate, FILM_SCALE)
