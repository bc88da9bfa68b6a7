"""A world model small enough for exact tests, with weights that are far from their start."""

import numpy as np
import torch
from numpy.typing import NDArray

from worldflow.base import Conditions
from worldflow.card import WorldCard
from worldflow.model import ModelConfig, WorldModel
from worldflow.tracking import Tracker
from worldflow.world import World

SIZE, ACTIONS, WINDOW = 16, 3, 5
CONFIG = ModelConfig(
    channels=(8, 8, 16),
    blocks=(1, 1, 1),
    hidden=(8, 8, 8, 8),
    components=(4, 4, 3, 3),
    heads=2,
    window=WINDOW,
    further=1,
    evidence=True,
    ways=3,
    tracking=8,
    objects=2,
    waiting=True,
)


def tiny_model(seed: int = 0) -> WorldModel:
    """Every layer does something: those that start at zero are shaken, too."""
    torch.manual_seed(seed)
    model = WorldModel(
        CONFIG, size=SIZE, action_count=ACTIONS, reward_support=torch.tensor([-1.0, 0.0, 1.0])
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for tracker, channel in zip(model.base.trackers, (0, 1), strict=True):
            assert isinstance(tracker, Tracker)
            look_for(channel, tracker)
    return model.eval()


def look_for(channel: int, tracker: Tracker) -> None:
    """A colour that is as good as any object, in frames of noise."""
    tracker.channels.copy_(1.5 * torch.eye(3)[channel] - 0.5)
    tracker.bias.fill_(-0.5)
    tracker.seen.fill_(1)
    tracker.among[: SIZE // 2].fill_(1)
    tracker.usual.fill_(10)
    tracker.colours.copy_((1.2 * torch.eye(3)[channel] - 0.35)[:, None])


def tiny_world(seed: int = 0) -> World:
    frames = random_frames(2, 3, seed)
    card = WorldCard(
        name="tiny",
        game="bounce",
        settings={},
        action_names=("noop", "left", "right"),
        key_map={"": 0, "left": 1, "right": 2},
        frame_rate=15,
        max_episode_steps=50,
    )
    return World(card, tiny_model(seed), frames, np.array([[1, 2], [0, 1]]))


def random_frames(batch: int, length: int, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (batch, length, SIZE, SIZE, 3), np.uint8)


def random_actions(batch: int, length: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed + 1).integers(0, ACTIONS, (batch, length))


def some_conditions(model: WorldModel, rows: int, seed: int = 0) -> Conditions:
    """Conditions of `rows` steps, of the model's own precision."""
    torch.manual_seed(seed + 2)
    dtype = next(model.parameters()).dtype
    frames = torch.rand(1, rows, 3, SIZE, SIZE, dtype=dtype) * 2 - 1
    actions = torch.from_numpy(random_actions(1, rows, seed))
    with torch.no_grad():
        return model.conditions(*model.trunk.pad_history(frames, actions))
