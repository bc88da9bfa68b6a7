"""`worldflow agent evaluate`: what an agent gets in the real game, and what it dreamed it would."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldflow.agents.agent_file import Agent
from worldflow.agents.atari_scores import REFERENCES, human_normalised
from worldflow.agents.judge import Interval, Played, dream_returns, figures, interval, play_games
from worldflow.agents.learned import LearnedPolicy
from worldflow.agents.policy import Policy, make_policy, scripted
from worldflow.card import Playable
from worldflow.envs.source import SourceGame, recorded_source
from worldflow.errors import InputError
from worldflow.info import write_new_json
from worldflow.playable import load_playable


@dataclass(frozen=True)
class AgentEvaluateConfig:
    """See `conf/agent_evaluate.yaml` for what each key means."""

    agent: str
    env: str = ""
    world: str = ""
    episodes: int = 20
    seeds: tuple[int, ...] = (0, 1, 2)
    greedy: bool = False
    horizon: int = 500
    out: Path | None = None
    device: str = "auto"
    threads: int = 0


def evaluate_agent(config: AgentEvaluateConfig) -> None:
    """Print the figures of `judged`, and write them to `out` if that is given.

    Raises:
        InputError: no such agent, game or world, none that fit together, or `out` is there.
    """
    if config.out is not None and config.out.exists():
        raise InputError(f"out={config.out}: is already there; choose another name")
    report = judged(config)
    print(summary(report), flush=True)
    if config.out is not None:
        write_new_json(config.out, report)


def judged(config: AgentEvaluateConfig) -> dict[str, Any]:
    """Whole episodes in the real game of the agent, of random play and of the script beside it.

    The game's frames are as large as those that the agent learned from, or as the world's.
    `dream_gap`, where a world is given: what the agent gets in dreams from the first frames of
    its real episodes, less what it then really got in as many steps.

    Raises:
        InputError: see `evaluate_agent`.
    """
    agent = Agent.load(config.agent)
    settings = agent.card.settings
    playable = None
    if config.world:
        playable = load_playable(config.world, device=config.device, threads=config.threads)
        settings = settings | {"size": playable.engine.frame_shape[0]}
    game = recorded_source(config.env or agent.card.game, settings)
    if playable is not None and playable.card.game != game.card.id:
        raise InputError(
            f"world={config.world} is of {playable.card.game}, the agent plays {game.card.id}"
        )
    players: dict[str, tuple[SourceGame, Policy]] = {
        "agent": (game, LearnedPolicy(agent, game.card, greedy=config.greedy)),
        "random": (game, make_policy("random", game.card)),
    }
    if scripted(game.card.id):  # written for frames of 64 pixels; the game is the same
        seen = recorded_source(game.card.id, {**settings, "size": 64})
        players["scripted"] = (seen, make_policy("scripted", seen.card))
    if config.horizon < 1:
        raise InputError(f"horizon={config.horizon}: expected 1 step or more")
    played = {
        name: play_games(played_in, policy, config.seeds, config.episodes)
        for name, (played_in, policy) in players.items()
    }
    report: dict[str, Any] = {
        "agent": config.agent,
        "game": game.card.id,
        "episodes": config.episodes * len(config.seeds),
        "seeds": list(config.seeds),
        "greedy": config.greedy,
        "players": {name: figures(games, game.card.id) for name, games in played.items()},
    }
    mean = report["players"]["agent"]["return"]["mean"]
    report["human_normalised"] = human_normalised(game.card.id, mean)
    if playable is not None:
        report["dream_gap"] = _dream_gap(config, playable, agent, game, played["agent"])
    return report


def _dream_gap(
    config: AgentEvaluateConfig,
    playable: Playable,
    agent: Agent,
    game: SourceGame,
    played: list[Played],
) -> dict[str, Any]:
    """Paired by the first frame; of the first seed's episodes, for dreams take their time."""
    compared = [episode for episode in played if episode.seed == config.seeds[0]]
    real = np.array([episode.rewards[: config.horizon].sum() for episode in compared])
    dreamed = dream_returns(
        playable,
        lambda: LearnedPolicy(agent, game.card, greedy=config.greedy),
        np.stack([episode.first_frame for episode in compared]),
        config.horizon,
        config.seeds[0],
    )
    return {
        "world": config.world,
        "horizon": config.horizon,
        "dreamed": interval(dreamed)._asdict(),
        "real": interval(real)._asdict(),
        "gap": interval(dreamed - real)._asdict(),
    }


def summary(report: dict[str, Any]) -> str:
    """The report as a few lines; means with 95 % confidence intervals."""
    lines = [f"{report['game']}: {report['episodes']} real episodes, seeds {report['seeds']}"]
    for name, told in report["players"].items():
        line = f"  {name:9} return {Interval(**told['return'])}, {told['steps']:.0f} steps"
        if "caught" in told:
            line += (
                f", caught {told['caught']:.1f}, {100 * told['caught_share']:.1f} % of the balls"
            )
        lines.append(line)
    if report["human_normalised"] is not None:
        random, human = REFERENCES[report["game"]]
        lines.append(
            f"  human-normalised {report['human_normalised']:.2f}"
            f" (0: {random}, random; 1: {human}, human)"
        )
    if "dream_gap" in report:
        gap = report["dream_gap"]
        lines.append(
            f"  in the first {gap['horizon']} steps: dreamed {Interval(**gap['dreamed'])},"
            f" real {Interval(**gap['real'])}, gap {Interval(**gap['gap'])}"
        )
    return "\n".join(lines)
