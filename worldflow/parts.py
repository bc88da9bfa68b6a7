"""The parts of a step in PyTorch, each timed by itself: trunk, flow, outcome."""

import time

import numpy as np
import torch

from worldflow.card import Playable
from worldflow.model import StreamState
from worldflow.timing import WARM_UP, first_state
from worldflow.torch_engine import TorchEngine

PARTS = ("trunk", "flow", "outcome")


@torch.inference_mode()
def time_parts(playable: Playable, steps: int) -> dict[str, float]:
    """The median milliseconds of each of PARTS at batch 1, eager; of a TorchEngine."""
    engine = playable.engine
    assert isinstance(engine, TorchEngine)
    model, device = engine.model, engine.device
    state = first_state(playable, 1)
    action = torch.zeros(1, dtype=torch.int64, device=device)
    temperature = torch.ones(1, device=device)
    generator = torch.Generator(device).manual_seed(0)
    marks = np.empty((WARM_UP + steps, len(PARTS) + 1))
    for row in marks:
        noise = torch.randn((1, model.noise_size), generator=generator, device=device)
        row[0] = _now(device)
        given, _ = model.advance(StreamState(**state), action)
        row[1] = _now(device)
        y = model.flow.decode(noise[:, :-1], given, temperature)
        row[2] = _now(device)
        model.outcome(y, given)
        row[3] = _now(device)
    medians = 1000 * np.median(np.diff(marks[WARM_UP:]), axis=0)
    return dict(zip(PARTS, medians.tolist(), strict=True))


def _now(device: str) -> float:
    """The time when all that was asked of the device is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()
