"""The model's own pictures of recorded play, which it is shown in training."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from worldflow import places
from worldflow.model import WorldModel, to_bytes, to_signed


@torch.no_grad()
def reconstruct(
    model: WorldModel,
    frames: Tensor,
    actions: Tensor,
    depth: int,
    generator: torch.Generator,
    ghosts: float = 0.0,
    sampled: bool = False,
    show: "Show | None" = None,
) -> Tensor:
    """`frames[:, :-1]`, from the first step on as the model itself would show them.

    Each pass denoises the noised true next frame under the conditions of the pass before,
    so that errors compound over `depth` steps without leaving the recorded branch
    (docs/model.md). Into each clip's pictures up to the share `ghosts` of the base's mean is
    mixed, in which a small thing that the trunk is not sure of is faint: so the model learns
    to bring it back, and not to let it fade. If `sampled`, free samples take the place of the
    reconstructions but where things happen: what they are off by there may be another future,
    anywhere else it is a blot, and to be cleaned away.

    Args:
        frames: recorded `(B, L+T, 3, H, W)`, in [-1, 1].
        show: `shown` of this model, or that captured.
    """
    known = model.config.history
    context, target = frames[:, :-1], frames[:, known:]
    lately = places.moved(frames, known)
    share = ghosts * torch.rand(
        (len(frames), 1, 1, 1, 1), generator=generator, device=frames.device
    )
    share = share.expand(-1, target.shape[1], -1, -1, -1).flatten(0, 1)
    show = show or partial(shown, model)
    for _ in range(depth):
        eps = normal(target.shape, generator)
        rows = len(lately) if sampled else 0
        noise = normal(torch.Size((rows, model.flow.noise_size)), generator)
        picture = show(context, actions, target, eps, noise, lately, share)
        context = torch.cat((frames[:, :known], picture[:, :-1]), dim=1)
    return context


Show = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


@torch.no_grad()
def shown(
    model: WorldModel,
    context: Tensor,
    actions: Tensor,
    target: Tensor,
    eps: Tensor,
    noise: Tensor,
    lately: Tensor,
    share: Tensor,
) -> Tensor:
    """One pass of `reconstruct`: `target` `(B, T, 3, H, W)` as the model shows it after `context`.

    Args:
        eps: the target's noise, N(0, 1).
        noise: of free samples `(B*T, noise_size)`; without rows, there are none.
        lately: where something moved, as `places.moved` has it.
        share: of the base's mean that is mixed in `(B*T, 1, 1, 1)`.
    """
    given = model.conditions(context, actions)
    picture = model.outcome((target + model.config.sigma * eps).flatten(0, 1), given).frame
    if len(noise):
        drawn = model.flow.decode(noise, given, noise.new_ones(len(noise)))
        busy = places.busy(lately, given, model.base.floor) > 0
        picture = torch.where(busy, picture, model.outcome(drawn, given).frame)
    picture = torch.lerp(picture, given.mean, share)
    return to_signed(to_bytes(picture)).view(target.shape)


def normal(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """N(0, 1), on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device)
