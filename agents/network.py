"""The agent's network: stacked frames -> what to do, and what it is worth."""

from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflow.errors import InputError

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)

FLOOR = 0.03  # of a pixel's standard deviation, on the [0, 1] range: flicker is no event
MOST = 5.0  # standard deviations that are told apart
LOOKS = 100.0  # rollouts whose pixels are remembered


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of an agent; defaults in `conf/network/`."""

    stack: int = 4  # newest frames that it sees, at least 1
    width: int = 16  # channels of the first convolution; the others have twice as many
    hidden: int = 256  # width of the layer that both heads share

    def check(self) -> None:
        """Raise InputError for a value out of range."""
        for name in ("stack", "width", "hidden"):
            if getattr(self, name) < 1:
                raise InputError(f"network.{name}={getattr(self, name)}: expected 1 or more")


class ActorCritic(nn.Module):
    """Three convolutions and one shared layer, as in Mnih et al. (2015), for square frames.

    Each pixel is seen as it differs from what is usual at its place, in units of how much it
    varies there: else a ball of a few pixels drowns in a background that never changes.
    The layers start orthogonal, with the gains of "The 37 implementation details of PPO"
    (Huang et al. 2022): a policy that is nearly uniform, and values near zero.
    """

    def __init__(self, config: NetworkConfig, *, size: int, action_count: int) -> None:
        super().__init__()
        self.config, self.size, self.action_count = config, size, action_count
        channels = (3 * config.stack, config.width, 2 * config.width, 2 * config.width)
        self.conv1 = _started(nn.Conv2d(channels[0], channels[1], 8, stride=4, padding=2), 2**0.5)
        self.conv2 = _started(nn.Conv2d(channels[1], channels[2], 4, stride=2, padding=1), 2**0.5)
        self.conv3 = _started(nn.Conv2d(channels[2], channels[3], 3, padding=1), 2**0.5)
        self.usual: Tensor
        self.variance: Tensor
        self.looks: Tensor
        self.register_buffer("usual", torch.full((size, size, 3), 0.5))
        self.register_buffer("variance", torch.ones(size, size, 3))
        self.register_buffer("looks", torch.zeros(()))
        cells = (size // 8) ** 2
        self.shared = _started(nn.Linear(channels[3] * cells, config.hidden), 2**0.5)
        self.policy = _started(nn.Linear(config.hidden, action_count), 0.01)
        self.value = _started(nn.Linear(config.hidden, 1), 1.0)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """`observation` `(N, H, W, 3*stack)` uint8 -> logits `(N, actions)`, values `(N,)`."""
        stack = self.config.stack
        usual, spread = (
            values.repeat(1, 1, stack) for values in (self.usual, (self.variance + FLOOR**2).sqrt())
        )
        seen = observation.to(usual.dtype).mul_(1 / 255).sub_(usual).div_(spread)
        h = seen.clamp_(-MOST, MOST).permute(0, 3, 1, 2)  # channels last: no copy, and fast
        h = F.relu(self.conv1(h))
        h = F.relu(self.conv2(h))
        h = F.relu(self.conv3(h))
        h = F.relu(self.shared(h.flatten(1)))
        return self.policy(h), self.value(h)[:, 0]

    @torch.no_grad()
    def look(self, frames: Tensor) -> None:
        """Learn from `frames` `(N, H, W, 3)` uint8 what is usual: of late, LOOKS times over."""
        pixels = frames.to(self.usual.dtype) / 255
        self.looks.add_(1).clamp_(max=LOOKS)
        share = 1 / self.looks
        apart = pixels.mean(dim=0) - self.usual
        variance = pixels.var(dim=0, unbiased=False) + (1 - share) * apart.square()
        self.variance.lerp_(variance, share)
        self.usual.add_(share * apart)


def first_stack(frame: Tensor, stack: int) -> Tensor:
    """What is seen at an episode's first `frame` `(N, H, W, 3)`: `(N, H, W, 3*stack)`."""
    return frame.repeat(1, 1, 1, stack)


def next_stack(observation: Tensor, frame: Tensor) -> Tensor:
    """`observation` `(N, H, W, 3*stack)` with `frame` as its newest."""
    return torch.cat((observation[..., 3:], frame), dim=-1)


def newest(observation: Tensor) -> Tensor:
    """The newest frame `(N, H, W, 3)`."""
    return observation[..., -3:]


def _started(layer: Layer, gain: float) -> Layer:
    nn.init.orthogonal_(layer.weight, gain)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
