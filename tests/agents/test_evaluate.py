"""`agent evaluate`: who gets what in the real game, and in a dream beside it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_engine import make_playable

from worldflow.agents.agent_file import Agent, AgentCard
from worldflow.agents.atari_scores import human_normalised
from worldflow.agents.evaluate import AgentEvaluateConfig, evaluate_agent, judged
from worldflow.agents.judge import Played, caught, dream_returns, figures, interval, play_games
from worldflow.agents.network import ActorCritic, NetworkConfig
from worldflow.agents.policy import make_policy
from worldflow.envs.source import make_source
from worldflow.errors import InputError

FRAME = np.zeros((64, 64, 3), np.uint8)


class Always:
    """A policy that knows one action."""

    name = "always"

    def __init__(self, actions: Iterator[int]) -> None:
        self.action = next(actions)

    def reset(self, seed: int) -> None: ...

    def act(self, frame: np.ndarray, truth: dict[str, Any]) -> int:
        return self.action


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    card = make_source("bounce").card
    network = ActorCritic(NetworkConfig(stack=1, width=4, hidden=8), size=64, action_count=3)
    about = AgentCard("bounce", card.settings, card.action_names, 64)
    Agent(about, network).save(tmp_path / "agent.safetensors")
    return tmp_path / "agent.safetensors"


def test_the_same_seeds_are_the_same_games_whoever_plays() -> None:
    game = make_source("bounce")
    told = [
        play_games(game, make_policy(name, game.card), (0, 5), 2) for name in ("noop", "random")
    ]
    for one, other in zip(*told, strict=True):
        assert one.seed == other.seed
        assert np.array_equal(one.first_frame, other.first_frame)
    assert len({episode.first_frame.tobytes() for episode in told[0]}) == 4


def test_a_perfect_player_catches_all_and_random_play_few() -> None:
    game = make_source("bounce")
    shares = {}
    for name in ("scripted", "random"):
        played = play_games(game, make_policy(name, game.card), (0,), 3)
        shares[name] = caught(played)["caught_share"]
    assert shares["scripted"] == 1.0
    assert shares["random"] < 0.7


def test_an_agent_is_judged_in_the_game_that_it_learned(tmp_path: Path) -> None:
    """With frames of its size; the script beside it sees the 64 pixels that it is written for."""
    card = make_source("bounce", size=32).card
    network = ActorCritic(NetworkConfig(stack=1, width=4, hidden=8), size=32, action_count=3)
    about = AgentCard("bounce", card.settings, card.action_names, 32)
    Agent(about, network).save(tmp_path / "agent.safetensors")
    config = AgentEvaluateConfig(str(tmp_path / "agent.safetensors"), episodes=2, seeds=(0,))
    players = judged(config)["players"]
    assert players["scripted"]["caught_share"] == 1.0
    assert players["agent"]["steps"] > 0


def test_balls_are_counted_by_their_rewards() -> None:
    played = [Played(0, FRAME, np.array(r)) for r in ([1, 0, 1, 2, 1, -1.0], [1, 0, -1.0])]
    assert caught(played) == {"caught": 1.0, "caught_share": 0.5}
    told = figures(played, "bounce")
    assert told["returns"] == [4.0, 0.0]
    assert told["steps"] == 4.5
    assert "caught" not in figures(played, "ALE/Pong-v5")


def test_an_interval_holds_its_mean_and_covers_as_it_should() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(60):
        found = interval(rng.normal(3.0, 1.0, 40))
        assert found.low <= found.mean <= found.high
        hits += found.low <= 3.0 <= found.high
    assert 50 <= hits < 60


def test_human_scale() -> None:
    assert human_normalised("ALE/Breakout-v5", 1.7) == 0
    assert human_normalised("ALE/Pong-v5", 14.6) == pytest.approx(1)
    assert human_normalised("bounce", 3.0) is None


def test_a_dream_returns_what_its_rewards_sum_to() -> None:
    """The fake world gives an action's own number as reward."""
    playable, actions = make_playable(max_episode_steps=1000), iter([2, 1, 0])
    frames = np.stack([FRAME, FRAME + 20, FRAME + 40])
    returns = dream_returns(playable, lambda: Always(actions), frames, horizon=7, seed=0)
    assert returns.tolist() == [14.0, 7.0, 0.0]


def test_a_dream_that_has_ended_gets_no_more() -> None:
    playable = make_playable(p_terminated=1.0)
    returns = dream_returns(playable, lambda: Always(iter([2])), FRAME[None], horizon=9, seed=0)
    assert returns.tolist() == [2.0]


def test_the_report_has_all_players_and_the_gap(
    agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    playable = make_playable()
    playable.card.__dict__["game"] = "bounce"
    monkeypatch.setattr("worldflow.agents.evaluate.load_playable", lambda *_, **__: playable)
    out = tmp_path / "report.json"
    settings = {"agent": str(agent), "episodes": 2, "seeds": (3, 4), "world": "fake", "horizon": 5}
    evaluate_agent(AgentEvaluateConfig(**settings, out=out))
    report = json.loads(out.read_text())
    assert report["players"].keys() == {"agent", "random", "scripted"}
    assert report["players"]["agent"]["return_by_seed"].keys() == {"3", "4"}
    assert len(report["players"]["agent"]["returns"]) == report["episodes"] == 4
    gap = report["dream_gap"]
    assert gap["gap"]["mean"] == pytest.approx(gap["dreamed"]["mean"] - gap["real"]["mean"])
    shown = capsys.readouterr().out
    assert "scripted  return" in shown
    assert "% of the balls" in shown
    with pytest.raises(InputError, match="already there"):
        evaluate_agent(AgentEvaluateConfig(**settings, out=out))


def test_an_agent_of_another_game_is_refused(agent: Path) -> None:
    with pytest.raises(InputError, match="trained with game bounce"):
        judged(AgentEvaluateConfig(str(agent), env="CartPole-v1", episodes=1))
    with pytest.raises(InputError, match="episodes=0"):
        judged(AgentEvaluateConfig(str(agent), episodes=0))
