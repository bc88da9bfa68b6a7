"""A world that is to learn from more data than it has seen: it must know of their rewards, too."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldflow.dataset import Dataset
from worldflow.model import WorldModel
from worldflow.objective import reward_support
from worldflow.world import World

UNSEEN = 5.0  # nats by which a reward begins less likely than the one that it is nearest to


def widened(init: str | Path, dataset: Dataset) -> World:
    """The world `init` with a head that chooses among the rewards of `dataset`.

    What it has learned of a reward is kept; a new one begins as the nearest, but unlikely.
    """
    rewards = np.concatenate([e.steps(0, len(e)).rows["reward"] for e in dataset.episodes])
    support = reward_support(dataset.reward_values, float(rewards.min()), float(rewards.max()))
    world = World.load(init)
    return replace(world, model=with_rewards(world.model, support))


def with_rewards(model: WorldModel, support: Tensor) -> WorldModel:
    """`model` for the rewards `support` `(R,)`, ascending."""
    distance = (support[:, None] - model.reward_support[None]).abs()
    nearest = distance.argmin(dim=1)
    rows = torch.cat((nearest, torch.tensor([len(model.reward_support)])))  # the last: the end
    tensors = dict(model.state_dict())
    for name in ("outcome.verdict.weight", "outcome.verdict.bias"):
        tensors[name] = tensors[name][rows]
    unseen = distance.amin(dim=1) > 0
    tensors["outcome.verdict.bias"][:-1] -= UNSEEN * unseen
    tensors["reward_support"] = support
    wider = WorldModel(
        model.config, size=model.size, action_count=model.action_count, reward_support=support
    )
    wider.load_state_dict(tensors)
    return wider.eval().requires_grad_(False)
