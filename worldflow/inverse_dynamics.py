"""Which action was taken? A small classifier tells it from a few frames, learned from real play.

Where it reads the recorded actions off dreamed frames as well as off real ones, the dream obeys.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from worldflow.model import to_signed

WINDOW = 4  # frames: three up to the one in which the action is taken, and the one after it
CHANNELS = 32
CHANGE_GAIN = 4.0
UPDATES, BATCH, LEARNING_RATE = 300, 64, 2e-3


class Windows(NamedTuple):
    """N short pieces of play, and the actions taken at their last frame but one."""

    frames: NDArray[np.uint8]  # (F, H, W, 3); a window is WINDOW of them in a row
    first: NDArray[np.int64]  # (N,), index of a window's first frame
    actions: NDArray[np.int64]  # (N,)


class InverseDynamics(nn.Module):
    """Window -> logits of the action: a convolutional net that sees where things move."""

    def __init__(self, actions: int) -> None:
        super().__init__()
        half = CHANNELS // 2
        self.conv1 = nn.Conv2d(3 * WINDOW, half, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(half, CHANNELS, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1)
        self.verdict = nn.Linear(2 * CHANNELS, actions)

    def forward(self, frames: Tensor) -> Tensor:
        """`frames` `(N, WINDOW, H, W, 3)` uint8 -> `(N, actions)`."""
        signed = to_signed(frames)
        # The newest frame, and the changes, made large: what stands still tells no action.
        changes = CHANGE_GAIN * (signed[:, 1:] - signed[:, :-1])
        h = torch.cat((changes, signed[:, -1:]), dim=1).flatten(1, 2)
        for conv in (self.conv1, self.conv2, self.conv3):
            h = F.relu(conv(h))
        # Pooled over places: a paddle moves alike wherever it is.
        pooled = torch.cat((h.mean(dim=(2, 3)), h.amax(dim=(2, 3))), dim=1)
        return self.verdict(pooled)  # type: ignore[no-any-return]


def learn_inverse_dynamics(windows: Windows, actions: int, seed: int) -> InverseDynamics:
    """A classifier trained on `windows`, each of the actions there as often as any other."""
    present, number = np.unique(windows.actions, return_inverse=True)
    places = [np.flatnonzero(number == index) for index in range(len(present))]
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = InverseDynamics(actions)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=UPDATES)
    for _ in range(UPDATES):
        classes = random.integers(len(present), size=BATCH)
        rows = np.array([random.choice(places[index]) for index in classes])
        logits = model(_frames(windows, rows))
        loss = F.cross_entropy(logits, torch.from_numpy(windows.actions[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.inference_mode()
def tell_actions(model: InverseDynamics, windows: Windows) -> NDArray[np.int64]:
    """The likeliest action of each window `(N,)`."""
    told = [
        model(_frames(windows, rows)).argmax(dim=1).numpy()
        for rows in np.array_split(
            np.arange(len(windows.first)), -(-len(windows.first) // BATCH) or 1
        )
    ]
    return np.concatenate(told)


def _frames(windows: Windows, rows: NDArray[np.int64]) -> Tensor:
    """The windows `rows` `(B,)` as `(B, WINDOW, H, W, 3)`."""
    return torch.from_numpy(windows.frames[windows.first[rows][:, None] + np.arange(WINDOW)])
