"""`worldflow agent compare`: does it help to end a dream where the world no longer knows?"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from worldflow.agents.evaluate import AgentEvaluateConfig, judged
from worldflow.agents.judge import interval
from worldflow.agents.network import NetworkConfig
from worldflow.agents.ppo import PPOConfig
from worldflow.agents.train import AgentTrainConfig, train_agent
from worldflow.errors import InputError
from worldflow.whole_file import write_whole


@dataclass(frozen=True)
class CompareConfig:
    """See `conf/agent_compare.yaml` for what each key means."""

    network: NetworkConfig
    ppo: PPOConfig
    world: str
    data: str
    out: Path
    steps: int = 200_000
    trust: float = 0.999
    seeds: tuple[int, ...] = (0, 1, 2)
    horizon: int = 64
    episodes: int = 20
    greedy: bool = False
    device: str = "auto"
    threads: int = 0


def compare(config: CompareConfig) -> None:
    """Train with `trust` and without, for every seed, and judge all in the real game.

    Leaves `table.md` in `out`, beside a run folder with a `report.json` for each agent. Killed,
    it goes on: runs go on, and reports that are there are kept.

    Raises:
        InputError: see `train_agent`; or trust=0, which leaves nothing to compare.
    """
    if not config.trust:
        raise InputError("trust=0: expected the share of recorded frames to believe, as in 0.999")
    if (config.out / "table.md").exists():
        raise InputError(f"out={config.out}: the comparison is there already; see table.md")
    reports: dict[str, list[dict[str, Any]]] = {"without": [], "with": []}
    for seed in config.seeds:
        for name in reports:
            reports[name].append(_one(config, name, seed))
    table = as_table(config, reports)
    (config.out / "table.md").write_text(table)
    print(table, end="")


def _one(config: CompareConfig, name: str, seed: int) -> dict[str, Any]:
    """Train one agent, and its report from the real game."""
    training = AgentTrainConfig(
        network=config.network,
        ppo=config.ppo,
        out=config.out / f"{name}-{seed}",
        world=config.world,
        data=config.data,
        steps=config.steps,
        horizon=config.horizon,
        seed=seed,
        device=config.device,
        threads=config.threads,
        film=False,
    )
    train_agent(replace(training, trust=config.trust if name == "with" else 0.0))
    path = training.out / "report.json"
    if not path.exists():
        settings = AgentEvaluateConfig(
            agent=str(training.out), episodes=config.episodes, greedy=config.greedy
        )
        write_whole(path, json.dumps(judged(settings), indent=2).encode())
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def as_table(config: CompareConfig, reports: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: mean real return of each agent, and of each side with an interval over agents."""
    seeds = " | ".join(f"seed {seed}" for seed in config.seeds)
    lines = [
        f"Mean return in the real game after {config.steps} dreamed steps in {config.world}:",
        "",
        f"| dreams | {seeds} | mean (95 % over agents) |",
        "|---" * (len(config.seeds) + 2) + "|",
    ]
    for name, told in reports.items():
        label = "all believed" if name == "without" else f"cut short, trust={config.trust:g}"
        means = [report["players"]["agent"]["return"]["mean"] for report in told]
        cells = " | ".join(f"{mean:.2f}" for mean in means)
        lines.append(f"| {label} | {cells} | {interval(np.array(means))} |")
    random = reports["without"][0]["players"]["random"]["return"]["mean"]
    return "\n".join([*lines, "", f"Random play: {random:.2f}.", ""])
