"""What moves the weights: Muon for the convolutions, AdamW for all else."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

# A quintic Newton-Schulz iteration: ROUNDS of it bring every singular value near one.
_A, _B, _C = 3.4445, -4.7750, 2.0315
ROUNDS = 5
READ_OUTS = (
    "out",
    "recall",
    "picture",
    "weigh",
    "shift",
    "spread",
    "line",
    "gap",
    "favour",
)  # names of layers
UPDATE_RMS = 0.2  # about AdamW's, so that both take the same learning rate


def make_optimizers(
    model: nn.Module, weight_decay: float, quick: torch.dtype
) -> list[torch.optim.Optimizer]:
    """Muon and AdamW, which share the parameters of `model` between them.

    Muon takes the convolutions but those that are read out, whose outputs have units of
    their own. AdamW takes these, linear layers, tables, and without weight decay
    all vectors and the backdrops. `quick` is the type that Muon iterates in. Both wait for a
    learning rate: theirs is 0.
    """
    by_muon: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, layer in model.named_modules():
        inner = isinstance(layer, nn.Conv2d) and name.split(".")[-1] not in READ_OUTS
        for parameter in layer.parameters(recurse=False):
            if parameter.ndim < 2 or parameter is getattr(layer, "backdrops", None):
                vectors.append(parameter)
            else:
                (by_muon if inner else matrices).append(parameter)
    adamw = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    capturable = next(model.parameters()).is_cuda  # so that a CUDA graph can hold its step
    return [
        Muon(by_muon, 0.0, weight_decay, quick),
        torch.optim.AdamW(adamw, lr=0.0, betas=(0.9, 0.99), capturable=capturable),
    ]


def move(optimizers: Iterable[torch.optim.Optimizer], learning_rate: Tensor | float) -> None:
    """One step of each at `learning_rate`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for convolutions (K. Jordan, 2024; arXiv 2502.16982).

    A kernel counts as a matrix of (outputs, inputs x places). Weight decay is decoupled, as in
    AdamW.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        weight_decay: float,
        quick: torch.dtype = torch.float32,
        momentum: float = 0.95,
    ) -> None:
        self.quick = quick
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault(parameter.flatten(1).shape, []).append(parameter)
            for parameters in alike.values():
                self._move(parameters, **group)

    def _move(
        self,
        parameters: list[Tensor],
        *,
        lr: float | Tensor,
        weight_decay: float,
        momentum: float,
        **_: Any,
    ) -> None:
        """All matrices of one shape at once: one by one, a GPU would wait for each launch."""
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        moments = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(moments, gradients, 1 - momentum)
        aims = torch._foreach_lerp(gradients, moments, momentum)
        moves = orthogonalised(torch.stack([aim.flatten(1) for aim in aims]), self.quick)
        size = UPDATE_RMS * float(max(moves.shape[1:])) ** 0.5
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        steps = [move.view_as(p) for move, p in zip(moves, parameters, strict=True)]
        torch._foreach_mul_(steps, -lr * size)
        torch._foreach_add_(parameters, steps)


def orthogonalised(matrices: Tensor, quick: torch.dtype) -> Tensor:
    """About the nearest (semi-)orthogonal matrix to each of `(K, m, n)`, computed in `quick`.

    The iteration leaves singular values between 0.7 and 1.2; so near, bfloat16 is enough
    (K. Jordan).
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = (matrices.mT if tall else matrices).to(quick)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C)
        x = torch.baddbmm(x, polynomial, x, beta=_A)
    return (x.mT if tall else x).to(matrices.dtype)
