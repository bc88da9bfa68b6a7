"""PPO: its advantages, what truncation means to it, and that it learns."""

import pytest
import torch

from worldflow.agents.network import MOST, ActorCritic, NetworkConfig, first_stack, next_stack
from worldflow.agents.ppo import PPOConfig, Rollout, advantages, play, update
from worldflow.agents.stage import Transition
from worldflow.envs.source import GameCard
from worldflow.errors import InputError

SIZE, ENVS = 16, 8


class Signals:
    """The screen is black or white; action 1 is right on white, action 0 on black.

    An episode ends after two steps, terminated or truncated as told.
    """

    device = "cpu"
    envs = ENVS
    frame_size = SIZE
    card = GameCard("signals", ("zero", "one"), {"": 0}, 15, {"size": SIZE}, 2)

    def __init__(self, terminates: bool = True, reward: float = 1.0) -> None:
        self.terminates, self.reward = terminates, reward

    def restart(self, generator: torch.Generator) -> torch.Tensor:
        self.age = 0
        self.observation = first_stack(self._screens(generator), 1)
        return self.observation

    def _screens(self, generator: torch.Generator) -> torch.Tensor:
        self.white = torch.rand(ENVS, generator=generator) < 0.5
        return (255 * self.white)[:, None, None, None].repeat(1, SIZE, SIZE, 3).to(torch.uint8)

    def step(self, action: torch.Tensor, generator: torch.Generator) -> Transition:
        reward = self.reward * (action == self.white.long()).float()
        self.age += 1
        over = torch.full((ENVS,), self.age % 2 == 0)
        last = next_stack(self.observation, self._screens(generator))
        self.observation = last
        never = torch.zeros_like(over)
        ends = (over, never) if self.terminates else (never, over)
        return Transition(last, reward, *ends, last, never)


def network(actions: int = 2) -> ActorCritic:
    torch.manual_seed(0)
    return ActorCritic(NetworkConfig(stack=1, width=4, hidden=16), size=SIZE, action_count=actions)


def played(stage: Signals, net: ActorCritic, config: PPOConfig) -> Rollout:
    generator = torch.Generator().manual_seed(0)
    return play(net, stage, stage.restart(generator), config, generator)[1]


def test_advantages_are_those_of_the_definition() -> None:
    torch.manual_seed(0)
    steps, gamma, lam = 6, 0.9, 0.8
    values, next_value = torch.randn(steps, 1), torch.randn(1)
    rewards, dones = torch.randn(steps, 1), torch.tensor([[0.0], [0], [1], [0], [0], [0]])
    rollout = Rollout(*[torch.zeros(steps, 1)] * 3, values, rewards, dones, next_value)
    after = torch.cat((values[1:], next_value[None]))
    errors = rewards + gamma * (1 - dones) * after - values
    for t in range(steps):
        expected, weight = 0.0, 1.0
        for later in range(t, steps):
            expected += weight * float(errors[later])
            weight *= gamma * lam * (1 - float(dones[later]))
        assert float(advantages(rollout, gamma, lam)[t]) == pytest.approx(expected, abs=1e-5)


def test_only_a_truncated_episode_has_a_worth_after_its_end() -> None:
    net, config = network(), PPOConfig(rollout=4, gamma=0.5)
    torch.nn.init.constant_(net.value.bias, 10.0)
    cut, over = (played(Signals(terminates), net, config) for terminates in (False, True))
    assert torch.equal(cut.dones, over.dones)
    added = cut.rewards - over.rewards
    assert torch.equal(added != 0, cut.dones == 1)
    assert added[cut.dones == 1] == pytest.approx(0.5 * 10.0, abs=1.0)


def test_the_learner_clips_rewards() -> None:
    for clip, scale, expected in ((1.0, 1.0, 1.0), (0.0, 1.0, 7.0), (2.0, 0.5, 1.0)):
        config = PPOConfig(rollout=4, reward_clip=clip, reward_scale=scale)
        assert played(Signals(reward=7.0), network(), config).rewards.max() == expected


def test_it_learns_what_is_usual_as_statistics_have_it() -> None:
    net = network()
    looks = torch.randint(0, 256, (3, 10, SIZE, SIZE, 3), dtype=torch.uint8)
    for frames in looks:
        net.look(frames)
    pixels = looks.flatten(0, 1).double() / 255
    torch.testing.assert_close(net.usual.double(), pixels.mean(dim=0), rtol=0, atol=1e-5)
    variance = pixels.var(dim=0, unbiased=False)
    torch.testing.assert_close(net.variance.double(), variance, rtol=0, atol=1e-5)


def test_a_ball_stands_out_from_a_bright_background_that_never_changes() -> None:
    net = network()
    frames = torch.full((200, SIZE, SIZE, 3), 200, dtype=torch.uint8)
    frames[0, 3, 3] = 0
    net.look(frames)
    given: list[torch.Tensor] = []
    net.conv1.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    net(frames[:2])
    (seen,) = given  # (2, 3, SIZE, SIZE)
    assert float(seen[0, :, 3, 3].abs().min()) == MOST
    seen[0, :, 3, 3] = 0
    assert float(seen.abs().max()) < 0.1


def test_it_learns_what_the_screen_says() -> None:
    config = PPOConfig(envs=ENVS, rollout=16, minibatches=4, learning_rate=5e-3, gamma=0.0)
    net, stage = network(), Signals()
    optimizer = torch.optim.Adam(net.parameters(), lr=config.learning_rate)
    generator = torch.Generator().manual_seed(0)
    observation, rewards = stage.restart(generator), []
    for _ in range(20):
        observation, rollout, told = play(net, stage, observation, config, generator)
        figures = update(net, optimizer, rollout, config, generator)
        rewards.append(float(told.rewards.mean()))
    assert rewards[0] < 0.7
    assert rewards[-1] > 0.95
    assert float(figures["entropy"]) < 0.5


@pytest.mark.parametrize(
    "wrong", [{"envs": 0}, {"gamma": 1.5}, {"minibatches": 3}, {"rollout": -1}, {"epochs": 0}]
)
def test_values_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        PPOConfig(**wrong).check()
