"""Training a part of a ripe world's weights, while all else stays: `settle`, `steady`, `polish`.

The whole model costs ten times as much an update, and a learning rate that still teaches it
anything first undoes what the fall of the last one has settled (docs/experiments.md, 81).
"""

import dataclasses
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldflow.checkpoint import Progress
from worldflow.cost import quick_type, size_and_cost
from worldflow.dataset import Dataset, open_dataset
from worldflow.errors import InputError, WorkError
from worldflow.journal import ProgressBar
from worldflow.model import WorldModel
from worldflow.optimizer import move as move_all
from worldflow.playable import choose_device
from worldflow.validation import validate
from worldflow.world import World

WARMUP = 50  # updates of rising learning rate
PATIENCE = 50  # updates in a row whose gradients may be of no use
CLIP = 0.1  # norm that gradients are cut to; the optimisers go by direction more than by length


@dataclass(frozen=True)
class RipeConfig:
    """See `conf/settle.yaml`, `steady.yaml` and `polish.yaml` for each key and its default."""

    world: str
    data: str
    out: str
    steps: int
    minutes: float
    strict: bool
    holdout: float
    seed: int
    batch: int
    learning_rate: float
    average: float
    device: str
    threads: int


Learn = Callable[[World, Dataset, str], tuple[World, int]]
"""World, episodes to learn from and device -> the world that it becomes, and updates made."""


def train_part(config: RipeConfig, done: str, learn: Learn) -> None:
    """Load the world, `learn`, and write it with its new history to `out`.

    Args:
        done: what the world's card calls it, "settled".

    Raises:
        InputError: neither `steps` nor `minutes`, no such world, no usable data or another game's,
            or an `out` that exists or is no `.safetensors` file.
        WorkError: the disk is full, or gradients are not finite, again and again.
    """
    if (config.steps > 0) == (config.minutes > 0):
        raise InputError("how long? give either steps=5000 or minutes=10")
    out = Path(config.out)
    if out.suffix != ".safetensors" or out.exists():
        raise InputError(f"out={out}: expected a new file, NAME.safetensors")
    device = choose_device(config.device, config.threads)
    torch.manual_seed(config.seed)
    out.parent.mkdir(parents=True, exist_ok=True)  # before all the work
    world = World.load(config.world, device)
    dataset = open_dataset(config.data, config.strict)
    _check_game(world, dataset)
    training, held_out = dataset.split(config.holdout)
    held_out = held_out if held_out.episodes else training
    print(f"before: {_told(validate(world, held_out))}", flush=True)
    changed, updates = learn(world, training, device)
    before = world.card.training
    command = shlex.join(["worldflow", *sys.argv[1:]])
    how = {
        done: " && ".join(filter(None, (before.get(done), command))),
        f"{done}_updates": before.get(f"{done}_updates", 0) + updates,
        **size_and_cost(changed.model),
    }
    card = dataclasses.replace(world.card, training=before | how, metrics={})
    changed = dataclasses.replace(changed, card=card)
    print(f"after {updates} updates: {_told(validate(changed, held_out))}", flush=True)
    changed.save(out)
    print(f"world: {out}", flush=True)


def _check_game(world: World, dataset: Dataset) -> None:
    header, card = dataset.header, world.card
    same = header.source == card.game and tuple(header.action_names) == tuple(card.action_names)
    if not same or dataset.frame_shape[0] != world.model.size:
        raise InputError(
            f"{dataset.episodes[0].path} is of {header.source} at {dataset.frame_shape[0]} pixels, "
            f"the world of {card.game} at {world.model.size}: give the data that it was trained on"
        )


def _told(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in figures.items())


def reshaped(world: World, tensors: dict[str, Tensor] | None = None, **shape: Any) -> World:
    """`world` with a model of another `shape` (fields of `ModelConfig`).

    What both shapes have is kept; `tensors` are put in place of what they name; all else is as a
    new model has it.
    """
    old = world.model
    model = WorldModel(
        dataclasses.replace(old.config, **shape),
        size=old.size,
        action_count=old.action_count,
        reward_support=old.reward_support,
    )
    own, given = model.state_dict(), old.state_dict() | (tensors or {})
    model.load_state_dict(own | given)
    device = old.reward_support.device
    model = model.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return dataclasses.replace(world, model=model.requires_grad_(False))


def descend(
    parameters: Sequence[Tensor],
    loss: Callable[[], Tensor],
    move: Callable[[float], None],
    config: RipeConfig,
) -> int:
    """Moves `parameters` down `loss`, in place, and then to their running mean; updates made.

    Where gradients are not finite for 50 updates in a row, they go back to that mean, and on from
    there by half the learning rate.

    Args:
        loss: of the next batch.
        move: the parameters, by their gradients, at a learning rate.

    Raises:
        WorkError: gradients were not finite in 50 updates in a row, from the start or from there.
    """
    average = [parameter.detach().clone() for parameter in parameters]
    began, progress, in_vain = time.perf_counter(), Progress(), 0
    rate, moved = config.learning_rate, False

    def spent() -> float:
        if config.steps:
            return progress.step / config.steps
        return progress.seconds / (60 * config.minutes)

    with closing(ProgressBar(config.steps, config.minutes, progress)) as bar:
        while (share := spent()) < 1:
            for parameter in parameters:
                parameter.grad = None
            torch.autograd.backward(loss())
            norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            # A step of the flow that is far off may overflow: what is not finite moves nothing.
            in_vain = 0 if norm.isfinite() else in_vain + 1
            if in_vain == PATIENCE and not moved:
                raise WorkError(
                    f"{PATIENCE} updates in a row had gradients that are not finite, so nothing is "
                    f"learned: try a learning_rate below {rate}"
                )
            if in_vain == PATIENCE:
                with torch.no_grad():
                    torch._foreach_copy_(list(parameters), average)
                rate, moved, in_vain = rate / 2, False, 0
            elif not in_vain:
                move(rate * min(1.0, (progress.step + 1) / WARMUP) * (1 - share))
                moved = True
            progress.step += 1
            progress.frames += config.batch
            progress.seconds = time.perf_counter() - began
            decay = min(config.average, (1 + progress.step) / (10 + progress.step))
            if not in_vain:
                with torch.no_grad():
                    torch._foreach_lerp_(average, list(parameters), 1 - decay)
            bar.advance(progress)
    with torch.no_grad():
        torch._foreach_copy_(list(parameters), average)
    return progress.step


def descend_by_adam(
    parameters: Sequence[Tensor], loss: Callable[[], Tensor], config: RipeConfig
) -> int:
    """`descend`, but not by Muon, which moves every weight by as much, however right it is."""
    optimizer = torch.optim.Adam(parameters, lr=0.0, betas=(0.9, 0.99))
    return descend(parameters, loss, partial(move_all, [optimizer]), config)


def autocast(device: str) -> AbstractContextManager[Any]:
    """bfloat16 for trunk and conditioners where the hardware has it."""
    quick = quick_type(device)
    return torch.autocast(device, torch.bfloat16, enabled=quick is torch.bfloat16)
