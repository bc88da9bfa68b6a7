"""An agent while it learns: its network and optimiser, on a stage, one update after the other."""

import json
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldflow.agents.agent_file import FILE, Agent, AgentCard
from worldflow.agents.checkpoint import Progress, load_checkpoint, save_checkpoint
from worldflow.agents.dreams import Dreams, Limits, Starts, calibrated
from worldflow.agents.network import ActorCritic, NetworkConfig, newest
from worldflow.agents.ppo import Played, PPOConfig, play, update
from worldflow.agents.stage import RealGames, Stage
from worldflow.cost import device_name
from worldflow.dataset import open_dataset
from worldflow.errors import InputError
from worldflow.world import World

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class AgentTrainConfig:
    """See `conf/agent_train.yaml` for what each key means."""

    network: NetworkConfig
    ppo: PPOConfig
    out: Path
    world: str = ""
    env: str = ""
    size: int = 64
    data: str = ""
    init: str = ""
    steps: int = 0
    minutes: float = 0.0
    horizon: int = 64
    trust: float = 0.0
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    compile: bool | None = None
    log_every: int = 5
    checkpoint_every: int = 50
    film: bool = True


def run_settings(config: AgentTrainConfig) -> dict[str, Any]:
    """What must stay the same for a run to be the same run, as JSON has it."""
    free = ("out", "steps", "minutes", "device", "threads", "compile", "log_every", "film")
    settings: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    return {name: value for name, value in settings.items() if name not in free}


class StageMaker:
    """Builds the stages of a run: the one to learn on, and small ones to film.

    Raises:
        InputError: no such world, game or data.
    """

    def __init__(self, config: AgentTrainConfig, device: str) -> None:
        self.config, self.device = config, device
        self.world: World | None = None
        if not config.world:
            return
        self.world = World.load(config.world, device)
        dataset = open_dataset(config.data) if config.data else None
        if dataset is not None and dataset.header.source != self.world.card.game:
            raise InputError(
                f"data={config.data} is of {dataset.header.source}, but the world of"
                f" {self.world.card.game}: give recordings of the same game"
            )
        self.starts = Starts(self.world, dataset)
        self.limits: Limits | None = None
        if config.trust:
            if dataset is None:
                raise InputError("trust= is calibrated on recorded play: give data=FOLDER, too")
            self.limits = calibrated(self.world, dataset, config.trust)

    def make(self, envs: int, horizon: int, *, compiled: bool) -> Stage:
        """A stage of `envs` episodes; dreams are cut off after `horizon` steps."""
        config, stack = self.config, self.config.network.stack
        if self.world is None:
            return RealGames(
                config.env, envs=envs, stack=stack, size=config.size, device=self.device
            )
        return Dreams(
            self.world,
            self.starts,
            envs=envs,
            stack=stack,
            horizon=horizon,
            limits=self.limits,
            compiled=compiled,
        )


class Learner:
    """Network, optimiser and progress; every draw is a function of (seed, update).

    The stage begins anew every `checkpoint_every` updates, which is when checkpoints are
    written: so that a run that was killed goes on as if nothing had happened, without a
    checkpoint that holds what the stage stands at.
    """

    def __init__(self, config: AgentTrainConfig, stages: StageMaker) -> None:
        self.config, self.device = config, stages.device
        wanted = config.compile if config.compile is not None else self.device != "cpu"
        self.stage = stages.make(config.ppo.envs, config.horizon, compiled=wanted)
        torch.manual_seed(config.seed)
        self.network = ActorCritic(
            config.network,
            size=self.stage.frame_size,
            action_count=len(self.stage.card.action_names),
        ).to(self.device)
        if config.init:
            self._start_from(config.init)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=config.ppo.learning_rate, eps=1e-5
        )
        self.progress = Progress()
        self.observation: Tensor | None = None

    def _start_from(self, init: str) -> None:
        agent = Agent.load(init)
        try:
            self.network.load_state_dict(agent.network.state_dict())
        except RuntimeError as error:
            raise InputError(
                f"init={init} has another shape ({str(error).splitlines()[1].strip()}): "
                "give the network= and the game that it was trained with, or no init"
            ) from error

    def update(self) -> dict[str, Tensor]:
        """Play a rollout and learn from it; figures, each a scalar on the device."""
        config, progress = self.config, self.progress
        seed = np.random.SeedSequence((config.seed, progress.update)).generate_state(1)[0]
        generator = torch.Generator(self.device).manual_seed(int(seed))
        if self.observation is None or progress.update % config.checkpoint_every == 0:
            self.observation = self.stage.restart(generator)
        if not self.network.looks:
            self.network.look(newest(self.observation))
        for group in self.optimizer.param_groups:
            group["lr"] = config.ppo.learning_rate * max(0.0, 1 - self.spent())
        self.observation, rollout, played = play(
            self.network, self.stage, self.observation, config.ppo, generator
        )
        figures = update(self.network, self.optimizer, rollout, config.ppo, generator)
        self.network.look(newest(rollout.observations).flatten(0, 1))
        progress.update += 1
        progress.steps += played.rewards.numel()
        return {**stage_figures(played), **figures}

    def spent(self) -> float:
        """The share of the budget that is used up."""
        if self.config.steps:
            return self.progress.steps / self.config.steps
        return self.progress.seconds / (60 * self.config.minutes)

    def finished(self) -> bool:
        """Whether there is no budget for another update."""
        if self.config.steps:
            ppo = self.config.ppo
            return self.progress.steps + ppo.envs * ppo.rollout > self.config.steps
        return self.spent() >= 1

    def agent(self) -> Agent:
        """The agent as it stands."""
        config, progress, card = self.config, self.progress, self.stage.card
        history = {
            "command": shlex.join(["worldflow", *sys.argv[1:]]),
            "world": config.world,
            "env": config.env,
            "device": device_name(self.device),
            "updates": progress.update,
            "steps": progress.steps,
            "minutes": round(progress.seconds / 60, 2),
            "seed": config.seed,
        }
        about = AgentCard(card.id, card.settings, card.action_names, self.stage.frame_size, history)
        return Agent(about, self.network)

    def save(self, out: Path) -> None:
        """Write the checkpoint, and the agent as it stands."""
        settings = run_settings(self.config)
        path = out / CHECKPOINT
        save_checkpoint(path, self.network, self.optimizer, self.progress, settings)
        self.agent().save(out / FILE)

    def load(self, out: Path) -> None:
        self.progress = load_checkpoint(out / CHECKPOINT, self.network, self.optimizer)


def stage_figures(played: Played) -> dict[str, Tensor]:
    """What the episodes gave, per step and per 1000 steps; raw game units."""
    return {
        "reward_per_step": played.rewards.mean(),
        "gained_per_1000": 1000 * (played.rewards > 0).float().mean(),
        "lost_per_1000": 1000 * (played.rewards < 0).float().mean(),
        "terminated_per_1000": 1000 * played.terminated.float().mean(),
        "truncated_per_1000": 1000 * played.truncated.float().mean(),
        "disbelieved_per_1000": 1000 * played.cut.float().mean(),
    }
