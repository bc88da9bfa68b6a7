"""An agent's file: what it keeps, who takes it, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from recorded import HEADER, record
from safetensors.torch import save_file

from worldflow.agents.agent_file import Agent, AgentCard, agent_names
from worldflow.agents.collect import CollectConfig, collect
from worldflow.agents.learned import LearnedPolicy
from worldflow.agents.network import ActorCritic, NetworkConfig
from worldflow.agents.policy import make_policy
from worldflow.demos.cast import make_cast
from worldflow.envs.source import make_source
from worldflow.episode import Episode
from worldflow.errors import InputError
from worldflow.world import World, world_names

CARD = make_source("bounce").card


def make_agent(actions: tuple[str, ...] = CARD.action_names, game: str = "bounce") -> Agent:
    torch.manual_seed(0)
    card = AgentCard(game, {"size": 64}, actions, 64, {"steps": 5})
    config = NetworkConfig(stack=2, width=4, hidden=16)
    network = ActorCritic(config, size=64, action_count=len(actions))
    with torch.no_grad():
        network.policy.weight.mul_(300)  # so that it depends on what it sees
    return Agent(card, network.eval())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make_agent().save(tmp_path / "agent.safetensors")
    return tmp_path / "agent.safetensors"


def test_what_is_saved_comes_back(path: Path) -> None:
    agent, back = make_agent(), Agent.load(path)
    assert back.card == agent.card
    assert back.network.config == agent.network.config
    observation = torch.randint(0, 256, (5, 64, 64, 6), dtype=torch.uint8)
    logits, values = agent.network(observation)
    torch.testing.assert_close(back.network(observation)[0], logits, atol=0.02, rtol=0.01)
    torch.testing.assert_close(back.network(observation)[1], values, atol=0.02, rtol=0.01)


def test_the_policy_is_that_of_the_network_on_the_newest_frames(path: Path) -> None:
    game, agent = make_source("bounce"), Agent.load(path)
    policy = LearnedPolicy(agent, game.card, greedy=True)
    policy.reset(0)
    frames = [game.reset(seed=1)[0]]
    for _ in range(30):
        action = policy.act(frames[-1], {})
        newest = np.concatenate([frames[-2:][0], frames[-1]], axis=-1)
        logits, _ = agent.network(torch.from_numpy(newest)[None])
        assert action == int(logits.argmax())
        frames.append(game.step(np.int64(action))[0])


def test_a_policy_sees_larger_frames_as_it_learned_to_see_them() -> None:
    small, large = make_source("bounce", size=32), make_source("bounce")
    network = ActorCritic(NetworkConfig(stack=2, width=4, hidden=8), size=32, action_count=3)
    with torch.no_grad():
        network.policy.weight.mul_(300)
    agent = Agent(AgentCard("bounce", small.card.settings, small.card.action_names, 32), network)
    policies = [LearnedPolicy(agent, game.card, greedy=True) for game in (small, large)]
    frames, told = [game.reset(seed=1)[0] for game in (small, large)], []
    for _ in range(30):
        actions = [policy.act(f, {}) for policy, f in zip(policies, frames, strict=True)]
        assert actions[0] == actions[1]
        told.append(actions[0])
        frames = [game.step(np.int64(actions[0]))[0] for game in (small, large)]
    assert len(set(told)) > 1


def test_a_file_a_folder_and_a_seed_make_a_policy(path: Path) -> None:
    game = make_source("bounce")
    frame, _ = game.reset(seed=0)
    told = []
    for what in (str(path), str(path.parent)):
        policy = make_policy(what, game.card)
        policy.reset(5)
        told.append([policy.act(frame, {}) for _ in range(40)])
    assert told[0] == told[1]
    assert len(set(told[0])) > 1
    policy.reset(6)
    assert [policy.act(frame, {}) for _ in range(40)] != told[0]


def test_shipped_worlds_have_players_of_their_own() -> None:
    # Save that which is there to show its memory, and Freeway: scripts play them.
    assert {*agent_names(), "bounce-memory", "freeway"} == set(world_names())
    for name in agent_names():
        world = World.load(name)
        cast = make_cast(world.card, name)
        cast.reset(0)
        actions = {cast.act(0, frame, {}) for frame in world.start_frames[:, 0]}
        assert actions <= set(range(len(world.card.action_names)))
        judged = Agent.load(name).card.metrics["players"]
        assert judged["agent"]["return"]["low"] > judged["random"]["return"]["high"]


def test_collect_takes_an_agent(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    collect(CollectConfig(env="bounce", out=out, steps=60, policy=str(path)))
    (first, *_) = sorted(out.glob("*.episode"))
    assert set(Episode.open(first).controller()) == {"agent"}


def test_an_agent_of_another_game_is_refused() -> None:
    with pytest.raises(InputError, match="game pong, here it is bounce"):
        LearnedPolicy(make_agent(game="pong"), CARD)
    with pytest.raises(InputError, match="trained with actions"):
        LearnedPolicy(make_agent(("noop", "left")), CARD)
    with pytest.raises(InputError, match="frames of 64, here it is 32"):
        LearnedPolicy(make_agent(), replace(CARD, settings={"size": 32}))


def test_what_is_no_agent_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such policy"):
        make_policy("agnet.safetensors", CARD)
    with pytest.raises(InputError, match="no agent in the folder"):
        make_policy(str(tmp_path.parent), CARD)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="damaged"):
        make_policy(str(path), CARD)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="is no agent"):
        make_policy(str(path), CARD)
    record(tmp_path / "a.episode", 3, HEADER)
    with pytest.raises(InputError, match="damaged, or no agent"):
        make_policy(str(tmp_path / "a.episode"), CARD)
