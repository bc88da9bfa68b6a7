"""The Engine in PyTorch: float32, on the CPU or a GPU; eager, compiled, or as CUDA graphs."""

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldflow.cost import gflop_per_frame
from worldflow.engine import State, Step
from worldflow.model import StreamState
from worldflow.world import World

# How torch.compile treats the step, by the engine's name. It compiles for each batch size at the
# first step of it, which takes a minute; what "reduce-overhead" adds are CUDA graphs.
MODES = {"torch": None, "torch-compiled": "default", "torch-graphs": "reduce-overhead"}


class TorchEngine:
    """`Engine` over a `World`; see the protocol for shapes.

    Args:
        world: on the device where it is to run.
        name: one of `MODES`; starts and scores are eager always.
    """

    dtype = "float32"

    def __init__(self, world: World, name: str = "torch") -> None:
        self.name, self.model = name, world.model
        self._step = self.model.step
        if mode := MODES[name]:
            self._step = torch.compile(self.model.step, dynamic=False, mode=mode)
        self.world_hash = world.hash
        self.device = str(self.model.reward_support.device)
        self.frame_shape = (self.model.size, self.model.size, 3)
        self.action_count = self.model.action_count
        self.noise_size = self.model.noise_size

    @cached_property
    def gflop_per_frame(self) -> float:
        """What a step costs, counted."""
        return gflop_per_frame(self.model)

    @torch.inference_mode()
    def start(self, frames: NDArray[np.uint8], actions: NDArray[np.int64]) -> State:
        x, a = self._tensor(frames), self._tensor(actions)
        state = self.model.first_state(x[:, 0])
        for t in range(a.shape[1]):
            _, state = self.model.advance(state, a[:, t])
            state = self.model.observe(state, x[:, t + 1])
        return state._asdict()

    @torch.inference_mode()
    def step(
        self,
        state: State,
        action: NDArray[np.int64],
        noise: NDArray[np.float32],
        temperature: NDArray[np.float32],
    ) -> Step:
        if self.name == "torch-graphs":
            # A captured graph writes where it wrote before: nothing of that is needed any more.
            torch.compiler.cudagraph_mark_step_begin()
        frame, reward, p_terminated, terminated, after = self._step(
            StreamState(**state),
            self._tensor(action),
            self._tensor(noise),
            self._tensor(temperature),
        )
        return Step(
            frame=frame.cpu().numpy(),
            reward=reward.cpu().numpy(),
            p_terminated=p_terminated.cpu().numpy(),
            terminated=terminated.cpu().numpy(),
            state={name: self._kept(value) for name, value in after._asdict().items()},
        )

    @torch.inference_mode()
    def observe(self, state: State, frame: NDArray[np.uint8]) -> State:
        return self.model.observe(StreamState(**state), self._tensor(frame))._asdict()

    @torch.inference_mode()
    def score(
        self,
        state: State,
        action: NDArray[np.int64],
        frame: NDArray[np.uint8],
        noise: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        nll_excess = self.model.score(
            StreamState(**state), self._tensor(action), self._tensor(frame), self._tensor(noise)
        )
        return nll_excess.cpu().numpy()

    def _kept(self, value: Tensor) -> Tensor:
        return value.clone() if self.name == "torch-graphs" else value

    def _tensor(self, values: NDArray[np.generic] | Tensor) -> Tensor:
        """On the device; noise may be there already."""
        if not isinstance(values, Tensor):
            values = torch.from_numpy(np.ascontiguousarray(values))
        return values.to(self.device)
