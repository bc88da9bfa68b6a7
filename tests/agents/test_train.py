"""`agent train`: what a run leaves, and that it goes on where it was killed."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from recorded import HEADER, record
from safetensors.torch import load_file
from tiny_world import SIZE, tiny_world

from worldflow.agents.agent_file import Agent
from worldflow.agents.network import NetworkConfig
from worldflow.agents.ppo import PPOConfig
from worldflow.agents.train import AgentTrainConfig, train_agent
from worldflow.cli import main
from worldflow.errors import InputError

ROLLOUT = 4 * 8  # steps of an update
KEYS = [
    *("ppo.envs=4", "ppo.rollout=8", "ppo.epochs=2", "ppo.minibatches=2", "network.stack=2"),
    *("network.width=4", "network.hidden=16", "horizon=6", "checkpoint_every=4", "log_every=1"),
    *("film=false", "device=cpu", "threads=1"),
]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    tiny_world().save(tmp_path / "world.safetensors")
    return tmp_path / "world.safetensors"


def config(out: Path, world: Path | None = None, **changes: Any) -> AgentTrainConfig:
    given = AgentTrainConfig(
        network=NetworkConfig(stack=2, width=4, hidden=16),
        ppo=PPOConfig(envs=4, rollout=8, epochs=2, minibatches=2),
        out=out,
        world=str(world or ""),
        steps=10 * ROLLOUT,
        horizon=6,
        checkpoint_every=4,
        log_every=1,
        film=False,
        device="cpu",
        threads=1,
    )
    return replace(given, **changes)


def weights(out: Path) -> dict[str, torch.Tensor]:
    found = load_file(out / "checkpoint.safetensors")
    return {name: value for name, value in found.items() if name.startswith("network.")}


def test_a_run_in_dreams_leaves_an_agent_a_log_and_a_film(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_agent(config(out, world, film=True, steps=2 * ROLLOUT))
    agent = Agent.load(out)
    assert agent.card.game == "bounce"
    assert agent.card.training["steps"] == 2 * ROLLOUT
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["steps"] for line in lines] == [ROLLOUT, 2 * ROLLOUT]
    assert {"reward_per_step", "policy_loss", "approx_kl", "entropy"} <= lines[0].keys()
    assert (out / "film-000002.mp4").stat().st_size > 1000


def test_the_same_learner_learns_in_the_real_game(tmp_path: Path) -> None:
    train_agent(config(tmp_path / "run", env="bounce", steps=2 * ROLLOUT))
    card = Agent.load(tmp_path / "run").card
    assert (card.frame_size, card.action_names) == (64, ("noop", "left", "right"))


@pytest.mark.parametrize("where", ["world", "env"])
def test_a_killed_run_ends_where_an_undisturbed_one_does(
    where: str, world: Path, tmp_path: Path
) -> None:
    place = {"world": str(world)} if where == "world" else {"world": "", "env": "bounce"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_agent(config(whole, **place, steps=10 * ROLLOUT))
    keys = [f"{where}={place[where]}", f"out={killed}", f"steps={10 * ROLLOUT}", *KEYS]
    process = subprocess.Popen([sys.executable, "-m", "worldflow", "agent", "train", *keys])
    deadline = time.monotonic() + 120
    log = killed / "log.jsonl"
    while not log.exists() or len(log.read_text().splitlines()) < 6:  # the last checkpoint is 4
        assert time.monotonic() < deadline
        if process.poll() is not None:
            break  # faster than this test: then it is all there
        time.sleep(0.005)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    train_agent(config(killed, **place, steps=10 * ROLLOUT))
    first, second = weights(whole), weights(killed)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    told = log.read_text().splitlines()
    assert [json.loads(line)["step"] for line in told] == list(range(1, 11))


def test_dreams_begin_at_recorded_steps_and_are_cut_short(world: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    record(tmp_path / "data" / "a.episode", 40, replace(HEADER, source="bounce"), size=SIZE)
    given = config(tmp_path / "run", world, data=str(tmp_path / "data"), trust=0.9)
    train_agent(replace(given, steps=2 * ROLLOUT))
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert all(json.loads(line)["disbelieved_per_1000"] > 0 for line in lines)


def test_an_agent_can_begin_where_another_ended(world: Path, tmp_path: Path) -> None:
    train_agent(config(tmp_path / "a", world, steps=ROLLOUT))
    again = config(tmp_path / "b", world, steps=ROLLOUT, init=str(tmp_path / "a"))
    train_agent(replace(again, ppo=replace(again.ppo, learning_rate=0.0)))
    first, second = weights(tmp_path / "a"), weights(tmp_path / "b")
    # What is usual goes on being learned, from where it was; a parameter does not at this rate.
    usual = {f"network.{name}" for name in ("looks", "usual", "variance")}
    assert (first["network.looks"], second["network.looks"]) == (2, 3)
    for name in first.keys() - usual:  # kept as float16
        torch.testing.assert_close(second[name], first[name], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"world": ""}, "where?"),
        ({"env": "bounce"}, "where?"),
        ({"minutes": 3.0}, "how long?"),
        ({"steps": 0}, "how long?"),
        ({"trust": 0.99}, "data=FOLDER"),
        ({"steps": ROLLOUT - 1}, "steps=31"),
        ({"horizon": 0}, "horizon=0"),
        ({"seed": -1}, "seed=-1"),
        ({"ppo": PPOConfig(envs=0)}, "ppo.envs=0"),
        ({"network": NetworkConfig(stack=0)}, "network.stack=0"),
        ({"init": "nobody"}, "unknown agent 'nobody'"),
    ],
)
def test_bad_settings_make_no_folder(
    wrong: dict[str, Any], told: str, world: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told.replace("?", r"\?")):
        train_agent(config(tmp_path / "run", **{"world": str(world)} | wrong))
    assert not (tmp_path / "run").exists()


def test_a_folder_of_others_is_left_alone(world: Path, tmp_path: Path) -> None:
    train_agent(config(tmp_path / "run", world, steps=ROLLOUT))
    with pytest.raises(InputError, match="holds a run with seed=0, not 1"):
        train_agent(config(tmp_path / "run", world, steps=ROLLOUT, seed=1))
    with pytest.raises(InputError, match="no training run"):
        train_agent(config(tmp_path, world))


def test_the_command_line_knows_verbs_of_two_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", "--help"]) == 0
    assert "agent evaluate" in capsys.readouterr().out
    assert main(["agent", "trian"]) == 2
    assert "worldflow agent: unknown verb 'agent trian', did you mean" in capsys.readouterr().err
    assert main(["agent", "train", "world=bounce", "env=bounce", "out=x", "steps=1"]) == 2
    assert "worldflow agent train: where?" in capsys.readouterr().err


def test_an_update_may_take_longer_than_the_budget(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a busy machine: here a clock that ticks a minute at every look."""
    ticks = itertools.count(step=60.0)
    monkeypatch.setattr("worldflow.agents.train.time.perf_counter", lambda: next(ticks))
    for _ in range(2):  # and again, when it is over
        train_agent(config(tmp_path / "run", world, steps=0, minutes=0.1))
    assert Agent.load(tmp_path / "run").card.training["minutes"] == 1.0
