"""An exact training checkpoint: one safetensors file, no pickle."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from worldflow.errors import InputError
from worldflow.whole_file import write_whole

METADATA_KEY = "worldflow_checkpoint"


@dataclass
class Progress:
    """Where a training run stands; all that is not a tensor."""

    step: int = 0
    frames: int = 0  # trained on so far, counting each again
    seconds: float = 0.0  # spent training
    typical_norm: float = 0.0  # running mean of the gradient's norm, for clipping
    skipped: int = 0  # updates left out for their gradient


def save_checkpoint(
    path: Path,
    model: nn.Module,
    average: dict[str, Tensor],
    optimizers: Sequence[torch.optim.Optimizer],
    progress: Progress,
    settings: dict[str, Any],
    arrays: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Everything that the next update depends on, written whole or not at all."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    for number, optimizer in enumerate(optimizers):
        for index, moments in optimizer.state_dict()["state"].items():
            prefix = f"optimizer.{number}.{index}"
            tensors |= {f"{prefix}.{name}": value for name, value in moments.items()}
    tensors |= {f"array.{name}": torch.from_numpy(v) for name, v in (arrays or {}).items()}
    about = {"progress": vars(progress), "settings": settings}
    metadata = {METADATA_KEY: json.dumps(about, sort_keys=True)}
    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_whole(path, tensors_to_bytes(stored, metadata))


def load_checkpoint(
    path: Path,
    model: nn.Module,
    average: dict[str, Tensor],
    optimizers: Sequence[torch.optim.Optimizer],
    arrays: Mapping[str, NDArray[Any]] | None = None,
) -> Progress:
    """Put the checkpoint's tensors in place; raises InputError if it is damaged."""
    groups: dict[str, dict[str, Tensor]] = {
        group: {} for group in ("model", "average", "optimizer", "array")
    }
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            for key in file.keys():  # noqa: SIM118 (not a mapping)
                group, name = key.split(".", 1)
                groups[group][name] = file.get_tensor(key)
        model.load_state_dict(groups["model"])
        for name, value in groups["average"].items():
            average[name].copy_(value)
        moments: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
        for key, value in groups["optimizer"].items():
            number, index, name = key.split(".")
            moments[int(number)].setdefault(int(index), {})[name] = value
        for optimizer, state in zip(optimizers, moments, strict=True):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        for name, array in (arrays or {}).items():
            array[...] = groups["array"][name].numpy()
        return Progress(**json.loads(metadata[METADATA_KEY])["progress"])
    except (SafetensorError, LookupError, RuntimeError, ValueError) as error:
        raise InputError(f"the checkpoint {path} is damaged: train into another folder") from error


def read_settings(path: Path) -> dict[str, Any]:
    """The settings with which a checkpoint's run was started."""
    try:
        with safe_open(path, framework="pt") as file:
            settings: dict[str, Any] = json.loads(file.metadata()[METADATA_KEY])["settings"]
            return settings
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"the checkpoint {path} is damaged: train into another folder") from error
