"""How fast a world's shape trains on this machine."""

import time

import numpy as np
import torch

from worldflow.cost import gflop_per_frame, peak_gflops, quick_type
from worldflow.dataset import Clips
from worldflow.learning import Learning
from worldflow.objective import ObjectiveConfig
from worldflow.world import World

BATCH, HORIZON = 8, 8
WARM_UP, UPDATES = 2, 5  # on a GPU the first two are recorded


def measure_training(world: World) -> dict[str, float]:
    """Frames per second of whole updates, and their share of the machine's peak.

    In the type that is quick here; the peak is that of a large matrix product in the same type,
    measured beside. The forward pass is counted once and the backward pass twice; own
    pictures are left out.
    """
    model = world.model.requires_grad_(True).train()
    device = str(model.reward_support.device)
    quick = quick_type(device)
    learning = Learning(model, ObjectiveConfig(reconstructed=0.0, redrawn=0.0), 0.0, quick)
    clips = _noise_clips(world)
    seconds = []
    for update in range(WARM_UP + UPDATES):
        began = time.perf_counter()
        learning.gradients(clips, torch.Generator(device).manual_seed(update))
        learning.step(0.0)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    rate = BATCH * HORIZON / float(np.median(seconds[WARM_UP:]))
    needed = 3 * gflop_per_frame(model) * rate
    return {
        "train_frames_per_s": rate,
        "train_gflops": needed,
        "train_share_of_peak": needed / peak_gflops(device, quick),
    }


def _noise_clips(world: World) -> Clips:
    """Clips of random pixels: what is in them costs no time."""
    rng = np.random.default_rng(0)
    size, length = world.model.size, world.model.config.history - 1 + HORIZON
    return Clips(
        frames=torch.from_numpy(rng.integers(0, 256, (BATCH, length + 1, size, size, 3), np.uint8)),
        actions=rng.integers(0, world.model.action_count, (BATCH, length)),
        rewards=np.zeros((BATCH, HORIZON), np.float32),
        terminated=np.zeros((BATCH, HORIZON), np.bool_),
        valid=np.ones((BATCH, HORIZON), np.bool_),
        index=np.zeros((BATCH, HORIZON), np.int64),
    )
