"""An agent as one safetensors file: the network's weights, and a card that tells its game."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_to_bytes

from worldflow.agents.network import ActorCritic, NetworkConfig
from worldflow.errors import InputError, did_you_mean
from worldflow.whole_file import write_whole

FORMAT_VERSION = 2
METADATA_KEY = "worldflow_agent"
FILE = "agent.safetensors"  # in a run folder
SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class AgentCard:
    """The metadata of an agent; JSON in its file."""

    game: str  # the source game's id: "bounce", "ALE/Breakout-v5"
    settings: dict[str, Any]  # of the source game: skip, sticky, size, ...
    action_names: tuple[str, ...]
    frame_size: int  # pixels, height and width
    training: dict[str, Any] = field(default_factory=dict)  # command, world, frames, time
    metrics: dict[str, Any] = field(default_factory=dict)  # of `worldflow agent evaluate`


@dataclass(frozen=True)
class Agent:
    """A network with all that is needed to let it play."""

    card: AgentCard
    network: ActorCritic  # in eval mode

    @staticmethod
    def load(what: str | Path, device: str = "cpu") -> "Agent":
        """A shipped name, a run folder or a `.safetensors` file.

        Raises:
            InputError: unknown, damaged, of another version, or not an agent.
        """
        path = resolve_agent(what)
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
                tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, ValueError) as error:
            raise InputError(f"{path} is damaged, or no agent: {error}") from error
        if not about:
            raise InputError(f"{path} is no agent: expected one from worldflow agent train")
        if about["version"] != FORMAT_VERSION:
            raise InputError(
                f"{path} is an agent of version {about['version']}, but this worldflow reads "
                f"version {FORMAT_VERSION}: install the matching worldflow or train it anew"
            )
        fields = about["card"]
        card = AgentCard(**{**fields, "action_names": tuple(fields["action_names"])})
        network = ActorCritic(
            NetworkConfig(**about["network"]),
            size=card.frame_size,
            action_count=len(card.action_names),
        )
        network.load_state_dict(tensors)
        return Agent(card, network.to(device).eval().requires_grad_(False))

    def save(self, path: Path) -> None:
        """Write the file whole or not at all; weights as float16."""
        about = {
            "version": FORMAT_VERSION,
            "card": asdict(self.card),
            "network": asdict(self.network.config),
        }
        tensors = {
            name: value.detach().to("cpu", torch.float16).contiguous()
            for name, value in self.network.state_dict().items()
        }
        write_whole(
            path, tensors_to_bytes(tensors, {METADATA_KEY: json.dumps(about, sort_keys=True)})
        )


def agent_names() -> list[str]:
    """The names of the agents shipped with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def resolve_agent(what: str | Path) -> Path:
    """The file of a shipped name, a run folder or a path; InputError if there is none."""
    if str(what) in agent_names():
        return SHIPPED / f"{what}.safetensors"
    path = Path(what)
    if path.is_dir():
        if not (path / FILE).is_file():
            raise InputError(f"no agent in the folder {path}: it has no {FILE} (yet)")
        return path / FILE
    if not path.is_file():
        shipped = agent_names()
        hint = did_you_mean(str(what), shipped) if shipped else "train one: worldflow agent train"
        raise InputError(
            f"unknown agent '{what}': neither a file, nor a run folder, nor a shipped name; {hint}"
        )
    return path
