"""The one place where evaluation looks into a model: its base alone, and what it costs.

All else goes through the `Engine` protocol. An engine that hides its model has neither.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from worldflow.cost import gflop_per_frame
from worldflow.engine import Engine, State
from worldflow.model import StreamState, to_bytes
from worldflow.torch_engine import TorchEngine
from worldflow.truth import Sampler


def base_sampler(engine: Engine) -> Sampler | None:
    """Draws from the base's own Gaussian, and denoises; None if the engine hides its model."""
    if not isinstance(engine, TorchEngine):
        return None
    model, device = engine.model, engine.device

    @torch.inference_mode()
    def sample(
        state: State, action: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        given, _ = model.advance(StreamState(**state), torch.from_numpy(action).to(device))
        # The flow's own entries of the noise: both draw from the same luck.
        eps = torch.from_numpy(noise[:, : given.mean[0].numel()]).to(device)
        y = given.mean + torch.exp(given.log_scale) * eps.view(given.mean.shape)
        return to_bytes(model.outcome(y, given).frame).cpu().numpy()

    return sample


class Cost(NamedTuple):
    """What a model takes."""

    gflop_per_frame: float  # one step with reward and termination; a multiply-add is 2
    parameters: int


def cost_of(engine: Engine) -> Cost | None:
    """Counted, not quoted; None if the engine hides its model."""
    if not isinstance(engine, TorchEngine):
        return None
    parameters = sum(parameter.numel() for parameter in engine.model.parameters())
    return Cost(gflop_per_frame(engine.model), parameters)
