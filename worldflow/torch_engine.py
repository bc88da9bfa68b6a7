"""The Engine in PyTorch: float32, on the CPU or a GPU."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldflow.engine import State, Step
from worldflow.model import StreamState
from worldflow.world import World


class TorchEngine:
    """`Engine` over a `World`; see the protocol for shapes."""

    name = "torch"
    dtype = "float32"

    def __init__(self, world: World) -> None:
        self.model = world.model
        self.world_hash = world.hash
        self.device = str(self.model.reward_support.device)
        self.frame_shape = (self.model.size, self.model.size, 3)
        self.action_count = self.model.action_count
        self.noise_size = self.model.noise_size

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
        frame, reward, p_terminated, terminated, after = self.model.step(
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
            state=after._asdict(),
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

    def _tensor(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)
