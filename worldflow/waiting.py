"""How lately the game's object was in sight: what comes back in its own time is told when.

Pong serves 16 or 17 steps after a point, and no frame shows how many of them are over. A trunk that
was trained on clips of a few steps does not count them (docs/experiments.md, 105). So the state
counts: by what the tracker sees in the newest frame, so by the history alone. The steps of the flow
that choose a future are told.
"""

import torch
from torch import Tensor, nn

from worldflow.trunk import full_precision, zeroed

MEMORY = 32.0  # steps; of an object that was in sight longer ago, or never, nothing is known


def recencies(seen: Tensor, before: Tensor, steps: int) -> Tensor:
    """How lately the object was in sight, at each of some steps in a row `(B*steps,)`.

    MEMORY if the newest frame shows it, one less for each step since, and 0 if nothing is known.

    Args:
        seen: whether the newest frame shows it, at `steps` steps of each of B clips `(B*steps,)`,
            0 to 1.
        before: the recency at the step before the first of these `(B,)`.
    """
    found = []
    for now in seen.float().reshape(-1, steps).unbind(dim=1):
        before = (1 - now) * (before - 1).clamp(min=0.0) + MEMORY * now
        found.append(before)
    return torch.stack(found, dim=1).flatten()


class Waiting(nn.Module):
    """That, told to those who see the trunk's coarse features; begins as nothing."""

    marks: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out = zeroed(nn.Linear(int(MEMORY) + 1, channels))
        self.register_buffer("marks", torch.arange(MEMORY + 1), persistent=False)

    def forward(self, features: Tensor, recency: Tensor) -> Tensor:
        """`features` `(N, C, h, w)`, `recency` `(N,)`: between two marks, some of each."""
        near = (1 - (recency[:, None] - self.marks).abs()).clamp(min=0.0)
        told = full_precision(self.out(near))[:, :, None, None]
        return features + told.to(features.dtype)
