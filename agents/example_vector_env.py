"""A plain Gymnasium loop in a learned world: `python -m worldflow.agents.example_vector_env`.

Nothing here knows of worldflow but the env's id: an advantage actor-critic over any vector env
of pictures.
"""

import sys

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from torch import Tensor, nn

import worldflow  # noqa: F401 (registers the ids)

STEPS, GAMMA = 16, 0.99  # steps between two updates; discount


def make_network(actions: int) -> nn.Module:
    """`(N, 3, 64, 64)` in [0, 1] -> `(N, actions + 1)`: logits, and the value."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 8, stride=4),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.LazyLinear(128),
        nn.ReLU(),
        nn.Linear(128, actions + 1),
    )


def seen(frames: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(frames).movedim(-1, 1).float() / 255


def train(
    env: "VectorEnv[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float64]]", updates: int
) -> list[float]:
    """Learn for `updates` x 16 steps of all rows; the mean reward of a step, by update."""
    assert isinstance(env.single_action_space, gymnasium.spaces.Discrete)
    network = make_network(int(env.single_action_space.n))
    optimizer = torch.optim.RMSprop(network.parameters(), lr=7e-4)
    frames, _ = env.reset(seed=0)
    told = []
    for _ in range(updates):
        log_probs, values, entropies, rewards, goes_on = [], [], [], [], []
        for _ in range(STEPS):
            out = network(seen(frames))
            chances = torch.distributions.Categorical(logits=out[:, :-1])
            action = chances.sample()
            frames, reward, terminated, truncated, _ = env.step(action.numpy())
            log_probs.append(chances.log_prob(action))
            values.append(out[:, -1])
            entropies.append(chances.entropy())
            rewards.append(torch.from_numpy(np.clip(reward, -1, 1)).float())
            goes_on.append(torch.from_numpy(~np.logical_or(terminated, truncated)).float())
        with torch.no_grad():
            following = network(seen(frames))[:, -1]
        returns: list[Tensor] = []
        for reward_now, on in zip(reversed(rewards), reversed(goes_on), strict=True):
            following = reward_now + GAMMA * on * following
            returns.insert(0, following)
        advantage = torch.stack(returns) - torch.stack(values)
        policy_loss = -(torch.stack(log_probs) * advantage.detach()).mean()
        loss = policy_loss + 0.5 * advantage.square().mean() - 0.01 * torch.stack(entropies).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        told.append(float(torch.stack(rewards).mean()))
    return told


if __name__ == "__main__":
    name = (sys.argv[1:] or ["worldflow/Bounce-v0"])[0]
    dreams = gymnasium.make_vec(
        name, num_envs=8, vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}
    )
    print("mean reward of a step, by update:", train(dreams, updates=100))
