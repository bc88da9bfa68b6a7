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
    "pictures",
    "details",
    "weigh",
    "shift",
    "spread",
    "prior",
    "bond",
)  # names of layers
UPDATE_RMS = 0.2  # about AdamW's, so that both take the same learning rate


def make_optimizers(
    model: nn.Module, learning_rate: float, weight_decay: float, quick: torch.dtype
) -> list[torch.optim.Optimizer]:
    """Muon and AdamW, which share the parameters of `model` between them.

    Muon takes the convolutions but those that are read out, whose outputs have units of
    their own. AdamW takes these, linear layers, tables, and without weight decay
    all vectors and the backdrops. `quick` is the type that Muon iterates in.
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
    return [
        Muon(by_muon, learning_rate, weight_decay, quick),
        torch.optim.AdamW(adamw, lr=learning_rate, betas=(0.9, 0.99)),
    ]


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
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, **group)

    def _move(
        self,
        parameter: Tensor,
        gradient: Tensor,
        *,
        lr: float,
        weight_decay: float,
        momentum: float,
        **_: Any,
    ) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - momentum)
        aim = torch.lerp(gradient, state["momentum"], momentum).flatten(1)
        move = orthogonalised(aim, self.quick)
        parameter.mul_(1 - lr * weight_decay)
        parameter.add_(
            move.view_as(parameter), alpha=-lr * UPDATE_RMS * float(max(move.shape)) ** 0.5
        )


def orthogonalised(matrix: Tensor, quick: torch.dtype) -> Tensor:
    """About the nearest (semi-)orthogonal matrix to `matrix` `(m, n)`, computed in `quick`.

    The iteration leaves singular values between 0.7 and 1.2; so near, bfloat16 is enough
    (K. Jordan).
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = (matrix.T if tall else matrix).to(quick)
    x = x / (x.norm() + 1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.T
        polynomial = torch.addmm(gram, gram, gram, beta=_B, alpha=_C)
        x = torch.addmm(x, polynomial, x, beta=_A)
    return (x.T if tall else x).to(matrix.dtype)
