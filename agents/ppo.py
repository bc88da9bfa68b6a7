"""Proximal policy optimisation (Schulman et al. 2017), top to bottom.

Everything stays on the device of the stage: episodes, advantages and updates. Details follow
"The 37 implementation details of PPO" (Huang et al. 2022).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from worldflow.agents.network import ActorCritic
from worldflow.agents.stage import Stage
from worldflow.errors import InputError


@dataclass(frozen=True)
class PPOConfig:
    """How to learn; defaults in `conf/ppo/`."""

    envs: int = 64  # N, episodes side by side
    rollout: int = 32  # T, steps of each between two updates
    epochs: int = 4  # times that an update goes through its N*T steps
    minibatches: int = 8  # parts of the N*T steps, one step of the optimiser each
    learning_rate: float = 1e-3  # at first; falls to nothing over the budget
    gamma: float = 0.99  # discount of a step
    gae_lambda: float = 0.95  # of the advantages' exponential average
    clip: float = 0.2  # how far the probability of an action may move in an update
    entropy: float = 0.01  # bonus for each nat of the policy's entropy
    value: float = 0.5  # weight of the value's squared error
    max_grad_norm: float = 0.5
    reward_clip: float = 1.0  # the learner sees rewards in [-clip, clip]; 0: raw
    reward_scale: float = 1.0  # and multiplied by this, after clipping

    def check(self) -> None:
        """Raise InputError for a value out of range."""
        for name in ("envs", "rollout", "epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise InputError(f"ppo.{name}={getattr(self, name)}: expected 1 or more")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"ppo.{name}={getattr(self, name)}: expected 0 to 1")
        size, rest = divmod(self.envs * self.rollout, self.minibatches)
        if rest or size < 2:  # advantages are standardised in each
            raise InputError(
                f"ppo.minibatches={self.minibatches}: expected a divisor of envs * rollout ="
                f" {self.envs * self.rollout}, at most half of it"
            )


class Rollout(NamedTuple):
    """T steps of N episodes, as the policy saw and took them."""

    observations: Tensor  # (T, N, H, W, 3*stack) uint8
    actions: Tensor  # (T, N) int64
    log_probs: Tensor  # (T, N), of the actions
    values: Tensor  # (T, N)
    rewards: Tensor  # (T, N), clipped and scaled; the value of what a truncation cut off added
    dones: Tensor  # (T, N) float32: 1 where the step ended an episode
    next_value: Tensor  # (N,), of what follows the last step


class Played(NamedTuple):
    """What happened on stage in a rollout, for the log; raw game units."""

    rewards: Tensor  # (T, N)
    terminated: Tensor  # (T, N) bool
    truncated: Tensor  # (T, N) bool
    cut: Tensor  # (T, N) bool


@torch.no_grad()
def play(
    network: ActorCritic,
    stage: Stage,
    observation: Tensor,
    config: PPOConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Rollout, Played]:
    """Let the policy act for T steps from `observation`; the next observation, and the steps."""
    kept: list[tuple[Tensor, ...]] = []
    told: list[tuple[Tensor, ...]] = []
    for _ in range(config.rollout):
        logits, value = network(observation)
        log_probs = F.log_softmax(logits, dim=1)
        action = torch.multinomial(log_probs.exp(), 1, generator=generator)
        log_prob = log_probs.gather(1, action)[:, 0]
        step = stage.step(action[:, 0], generator)
        reward = step.reward
        if config.reward_clip:
            reward = reward.clamp(-config.reward_clip, config.reward_clip)
        reward = reward * config.reward_scale
        # A truncated episode would have gone on: what that is worth belongs to its last reward.
        rows = step.truncated.nonzero()[:, 0]
        if len(rows):
            reward[rows] += config.gamma * network(step.last[rows])[1]
        done = (step.terminated | step.truncated).float()
        kept.append((observation, action[:, 0], log_prob, value, reward, done))
        told.append((step.reward, step.terminated, step.truncated, step.cut))
        observation = step.observation
    _, next_value = network(observation)
    columns = [torch.stack(column) for column in zip(*kept, strict=True)]
    played = Played(*(torch.stack(column) for column in zip(*told, strict=True)))
    return observation, Rollout(*columns, next_value), played  # type: ignore[call-arg]


def advantages(rollout: Rollout, gamma: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimates `(T, N)` (Schulman et al. 2016)."""
    result = torch.zeros_like(rollout.values)
    following, advantage = rollout.next_value, torch.zeros_like(rollout.next_value)
    for t in reversed(range(len(result))):
        goes_on = 1 - rollout.dones[t]
        error = rollout.rewards[t] + gamma * goes_on * following - rollout.values[t]
        advantage = error + gamma * gae_lambda * goes_on * advantage
        result[t], following = advantage, rollout.values[t]
    return result


class Batch(NamedTuple):
    """Steps to learn from, in any order; B rows."""

    observations: Tensor  # (B, H, W, 3*stack) uint8
    actions: Tensor  # (B,) int64
    log_probs: Tensor  # (B,), when they were taken
    advantages: Tensor  # (B,)
    returns: Tensor  # (B,)

    def rows(self, rows: Tensor) -> "Batch":
        return Batch(*(column[rows] for column in self))


def update(
    network: ActorCritic,
    optimizer: torch.optim.Optimizer,
    rollout: Rollout,
    config: PPOConfig,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Improve policy and values on a rollout; the figures of the log, each a scalar."""
    advantage = advantages(rollout, config.gamma, config.gae_lambda)
    returns = advantage + rollout.values
    columns = rollout.observations, rollout.actions, rollout.log_probs, advantage, returns
    batch = Batch(*(column.flatten(0, 1) for column in columns))
    count = len(batch.actions)
    told: list[dict[str, Tensor]] = []
    for _ in range(config.epochs):
        order = torch.randperm(count, generator=generator, device=batch.actions.device)
        for rows in order.split(count // config.minibatches):
            loss, figures = ppo_loss(network, batch.rows(rows), config)
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.max_grad_norm)
            optimizer.step()
            told.append({**figures, "grad_norm": norm})
    means = {name: torch.stack([each[name] for each in told]).mean() for name in told[0]}
    unexplained = (returns - rollout.values).var() / (returns.var() + 1e-8)
    return {**means, "value_mean": rollout.values.mean(), "explained_variance": 1 - unexplained}


def ppo_loss(
    network: ActorCritic, batch: Batch, config: PPOConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The clipped surrogate, the values' squared error and the entropy bonus; with figures."""
    logits, value = network(batch.observations)
    log_probs = F.log_softmax(logits, dim=1)
    log_ratio = log_probs.gather(1, batch.actions[:, None])[:, 0] - batch.log_probs
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
    gain = (batch.advantages - batch.advantages.mean()) / (batch.advantages.std() + 1e-8)
    policy_loss = -torch.minimum(gain * ratio, gain * clipped).mean()
    value_loss = 0.5 * (value - batch.returns).square().mean()
    entropy = -(log_probs.exp() * log_probs).sum(dim=1).mean()
    loss = policy_loss + config.value * value_loss - config.entropy * entropy
    figures = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": (ratio - 1 - log_ratio).mean(),  # Schulman's low-variance estimate
        "clip_fraction": ratio.ne(clipped).float().mean(),
    }
    return loss, {name: figure.detach() for name, figure in figures.items()}
