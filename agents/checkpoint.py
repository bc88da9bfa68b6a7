"""Where an agent's training stands: one safetensors file, no pickle."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from worldflow.errors import InputError
from worldflow.whole_file import PARTIAL, write_whole

METADATA_KEY = "worldflow_agent_checkpoint"


@dataclass
class Progress:
    """All that is not a tensor."""

    update: int = 0
    steps: int = 0  # of all episodes together
    seconds: float = 0.0  # spent training


def save_checkpoint(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    settings: dict[str, Any],
) -> None:
    """All that the next update depends on, written whole or not at all."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    about = json.dumps({"progress": vars(progress), "settings": settings}, sort_keys=True)
    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_whole(path, tensors_to_bytes(stored, {METADATA_KEY: about}))


def load_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Put the tensors in place.

    Raises:
        InputError: the file is damaged, or of another network.
    """
    weights: dict[str, Tensor] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    about = read_about(path)
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 (not a mapping)
                group, name = key.split(".", 1)
                if group == "network":
                    weights[name] = file.get_tensor(key)
                else:
                    index, name = name.split(".")
                    moments.setdefault(int(index), {})[name] = file.get_tensor(key)
        network.load_state_dict(weights)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        return Progress(**about["progress"])
    except (SafetensorError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise damaged(path) from error


def read_about(path: Path) -> dict[str, Any]:
    """The progress and the settings of a checkpoint; InputError if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            about: dict[str, Any] = json.loads(file.metadata()[METADATA_KEY])
            return about
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise damaged(path) from error


def untouched(folder: Path) -> bool:
    """Whether there is nothing there but what a run leaves that was killed in its first write."""
    if not folder.exists():
        return True
    return folder.is_dir() and all(path.name.endswith(PARTIAL) for path in folder.iterdir())


def damaged(path: Path) -> InputError:
    return InputError(f"{path} is damaged, or of something else: train into another folder")
