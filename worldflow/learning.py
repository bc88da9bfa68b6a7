"""What moves a model's weights: an update's gradients, and the optimisers' step.

On a GPU each is one CUDA graph: an update of a small model is thousands of kernels, and all of its
time would go into launching them (docs/experiments.md, 64 and 73).
"""

from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from worldflow.captured import Captured
from worldflow.dataset import Clips
from worldflow.model import WorldModel
from worldflow.objective import Batch, ObjectiveConfig, loss_parts, prepared, training_loss
from worldflow.optimizer import make_optimizers, move
from worldflow.own_pictures import shown


class Gradients(NamedTuple):
    """What an update came to; the gradients themselves lie with the weights.

    On a GPU the next update of the same shape overwrites it.
    """

    figures: dict[str, Tensor]  # scalars, what the loss is made of
    doubts: Tensor  # (B*T,), of each step
    norm: Tensor  # scalar, of all gradients together


class Learning:
    """A model, its objective and its optimisers.

    Args:
        quick: bfloat16 for trunk and conditioners, or float32; likelihoods stay float32.
        compile: what follows the trunk by torch.compile.
    """

    def __init__(
        self,
        model: WorldModel,
        objective: ObjectiveConfig,
        weight_decay: float,
        quick: torch.dtype,
        compile: bool = False,
    ) -> None:
        device = str(model.reward_support.device)
        self.model, self.objective, self.quick = model, objective, quick
        self.optimizers = make_optimizers(model, weight_decay, quick)
        self._cuda, self._stepped = device.startswith("cuda"), False
        self._parts = torch.compile(loss_parts, dynamic=False) if compile else loss_parts
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)  # where a graph finds it
        self._backward = Captured(self._backward_pass, device)
        self._show = Captured(partial(shown, model), device)
        # Each call moves the weights, so there is none to warm up.
        self._move = Captured(self._move_weights, device, warm_up=0)

    def gradients(self, clips: Clips, generator: torch.Generator, bound: float = 0.0) -> Gradients:
        """Of the loss of `clips`; `generator` and `bound` as `prepared` has them."""
        with self._autocast():
            batch = prepared(self.model, clips, generator, self.objective, bound, self._show)
        return self._backward(batch)

    def step(self, learning_rate: float) -> None:
        """Move the weights by the gradients as they are now."""
        device = self.model.reward_support.device
        rate = torch.tensor(learning_rate, device=device) if self._cuda else learning_rate
        # The first of a process as it is, for it allocates what the optimisers remember.
        (self._move if self._stepped else self._move_weights)(rate)
        self._stepped = True

    def _backward_pass(self, batch: Batch) -> Gradients:
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        torch._foreach_zero_(gradients)
        with self._autocast():
            loss, figures, doubts = training_loss(self.model, batch, self.objective, self._parts)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.get_total_norm(gradients)
        return Gradients({name: value.detach() for name, value in figures.items()}, doubts, norm)

    def _move_weights(self, learning_rate: Tensor | float) -> None:
        move(self.optimizers, learning_rate)

    def _autocast(self) -> AbstractContextManager[Any]:
        kind = self.model.reward_support.device.type
        # Weights that were cast once for all would be old ones when a graph is replayed.
        return torch.autocast(
            kind,
            torch.bfloat16,
            enabled=self.quick is torch.bfloat16,
            cache_enabled=not self._cuda,
        )
