"""`agent loop` and `agent compare`: all parts one after the other, each once."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from worldflow.agents import loop as loop_module
from worldflow.agents.agent_file import Agent
from worldflow.agents.compare import CompareConfig, compare
from worldflow.agents.loop import LoopConfig, agent_settings, loop, parts, world_settings
from worldflow.agents.network import NetworkConfig
from worldflow.agents.ppo import PPOConfig
from worldflow.episode import Episode
from worldflow.errors import InputError

TINY = (
    "model=tiny model.channels=[8,8,16] model.hidden=[4,4,4,4] model.heads=2 batch=2 film_minutes=0"
)
SMALL_AGENT = "ppo.envs=2 ppo.rollout=8 network.width=4 network.hidden=16 film=false"


def config(out: Path, **changes: object) -> LoopConfig:
    given = LoopConfig(
        env="bounce",
        out=out,
        world_minutes=0.01,
        agent_minutes=0.01,
        real_steps=120,
        rounds=2,
        world_keys=TINY,
        agent_keys=SMALL_AGENT,
        episodes=1,
        greedy=True,
        device="cpu",
        threads=1,
    )
    return replace(given, **changes)  # type: ignore[arg-type]


class KilledError(Exception):
    """What a kill -9 is to the parts: they do not return."""


def test_a_loop_that_is_killed_before_every_part_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And after some of them, before these are noted as done."""
    tried, out = [], tmp_path / "loop"

    def killed(given: LoopConfig) -> dict[str, object]:
        def run(name: str, part: object) -> None:
            tried.append(name)
            if tried.count(name) == 1:
                raise KilledError
            part()  # type: ignore[operator]
            if tried.count(name) == 2 and name in ("collect-1", "world-2"):
                raise KilledError

        real = parts(given)
        return {name: lambda n=name, p=part: run(n, p) for name, part in real.items()}

    monkeypatch.setattr(loop_module, "parts", killed)
    order = ["collect-1", "world-1", "agent-1", "collect-2", "world-2", "agent-2", "evaluate"]
    for _ in range(len(order) + 2):
        with pytest.raises(KilledError):
            loop(config(out))
    loop(config(out))
    assert list(dict.fromkeys(tried)) == order
    assert json.loads((out / "loop.json").read_text())["done"] == order
    episodes = [Episode.open(path) for path in sorted((out / "data").rglob("*.episode"))]
    assert sum(map(len, episodes)) == 120
    assert {name for episode in episodes for name in episode.controller()} == {"random", "agent"}
    report = json.loads((out / "report.json").read_text())
    assert report["players"]["agent"]["returns"]
    assert report["greedy"]
    assert Agent.load(out / "agent-2").card.game == "bounce"


def test_each_round_goes_on_from_the_one_before(tmp_path: Path) -> None:
    given = config(tmp_path, rounds=4, world_minutes=8.0, agent_minutes=2.0)
    first, later = world_settings(given, 1), world_settings(given, 3)
    assert (first.minutes, first.init) == (2.0, "")
    assert Path(later.init).parent == tmp_path / "world-2"
    assert first.model.channels == (8, 8, 16)
    agent = agent_settings(given, 3, "loop/agent-2")
    assert (agent.minutes, agent.init, agent.ppo.envs) == (0.5, "loop/agent-2", 2)
    assert agent.world == str(tmp_path / "world-3")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"rounds": 0}, "rounds=0"),
        ({"real_steps": 1}, "real_steps=1"),
        ({"world_minutes": 0.0}, "world_minutes=0"),
        ({"first_policy": "clever"}, "policy=clever"),
        ({"env": "bonce"}, "did you mean"),
        ({"world_keys": "modle=tiny"}, "did you mean 'model'"),
        ({"agent_keys": "ppo.env=3"}, "did you mean 'ppo.envs'"),
    ],
)
def test_bad_settings_make_no_folder(wrong: dict[str, object], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        loop(config(tmp_path / "loop", **wrong))
    assert not (tmp_path / "loop").exists()


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="is no loop"):
        loop(config(tmp_path))
    out = tmp_path / "loop"
    out.mkdir()
    settings = {"settings": {"env": "pong"}, "done": []}
    (out / "loop.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="env=pong, not bounce"):
        loop(config(out))


def test_a_comparison_is_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []

    def judged(given: object) -> dict[str, object]:
        told = {"agent": {"return": {"mean": len(trained)}}, "random": {"return": {"mean": 0.5}}}
        return {"players": told}

    monkeypatch.setattr("worldflow.agents.compare.train_agent", lambda c: _fake(c, trained))
    monkeypatch.setattr("worldflow.agents.compare.judged", judged)
    given = CompareConfig(
        NetworkConfig(), PPOConfig(), world="w", data="d", out=tmp_path, seeds=(0, 7)
    )
    compare(given)
    assert trained == [(0, 0.0), (0, 0.999), (7, 0.0), (7, 0.999)]
    table = (tmp_path / "table.md").read_text()
    assert "| all believed | 1.00 | 3.00 | 2.0 (1.0 to 3.0) |" in table
    assert "| cut short, trust=0.999 | 2.00 | 4.00 | 3.0 (2.0 to 4.0) |" in table
    assert "Random play: 0.50." in table
    with pytest.raises(InputError, match="there already"):
        compare(given)


def _fake(config: object, trained: list[tuple[int, float]]) -> None:
    config.out.mkdir()  # type: ignore[attr-defined]
    trained.append((config.seed, config.trust))  # type: ignore[attr-defined]
