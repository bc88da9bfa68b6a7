"""A learned world as one file: the model's weights, its card, and frames to start from."""

import functools
import hashlib
import json
import struct
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from worldflow.card import WorldCard
from worldflow.errors import InputError, did_you_mean
from worldflow.model import ModelConfig, WorldModel, to_signed
from worldflow.whole_file import write_whole

FORMAT_VERSION = 2  # 1: candidate frames in place of a rendering
METADATA_KEY = "worldflow_world"
SHIPPED = Path(__file__).parent / "worlds"


@dataclass(frozen=True)
class World:
    """A model with all that is needed to play it.

    >>> world = World.load("bounce")
    >>> world.log_prob(frames, actions)  # (B, T) nats, of the noised next frames
    """

    card: WorldCard
    model: WorldModel  # in eval mode
    start_frames: NDArray[np.uint8]  # (S, T, H, W, 3)
    start_actions: NDArray[np.int64]  # (S, T-1)

    @staticmethod
    def load(what: str | Path, device: str = "cpu") -> "World":
        """A shipped name, a run folder or a `.safetensors` file.

        Raises:
            InputError: unknown, truncated, of another version or model, or not a world.
        """
        path = resolve_world(what)
        data = path.read_bytes()
        about = read_about(path)
        card = WorldCard(**_card_fields(about["card"]))
        shape = about["model"]
        try:
            tensors = tensors_from_bytes(data)
            starts, actions = tensors.pop("start_frames"), tensors.pop("start_actions")
            model = WorldModel(
                _model_config(path, shape["config"]),
                size=shape["size"],
                action_count=len(card.action_names),
                reward_support=tensors["reward_support"],
            )
            if odd := sorted(model.state_dict().keys() ^ tensors.keys()):
                raise InputError(
                    f"{path} has other weights than this worldflow's model ({odd[0]} is only in "
                    "one of them): install the worldflow that made it, or train it anew"
                )
            model.load_state_dict({name: value.float() for name, value in tensors.items()})
        except (SafetensorError, KeyError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{path} is damaged ({reason}); copy it again or train it anew"
            ) from error
        model = model.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        return World(card, model.requires_grad_(False), starts.numpy(), actions.numpy())

    def to_bytes(self) -> bytes:
        """The world as a safetensors file; weights as float16, which no picture shows."""
        about = {"version": FORMAT_VERSION, "card": asdict(self.card), "model": self._shape()}
        # One key: safetensors writes several in random order, and the same world must be
        # the same bytes.
        return tensors_to_bytes(self._tensors(), {METADATA_KEY: json.dumps(about, sort_keys=True)})

    def _shape(self) -> dict[str, Any]:
        config = asdict(self.model.config)
        # Younger than the first worlds, whose hash is to stay.
        before = {field.name: field.default for field in fields(self.model.config)}
        for younger in ("further", "evidence", "ways", "tracking", "objects", "striped", "waiting"):
            if config[younger] == before[younger]:
                del config[younger]
        return {"config": config, "size": self.model.size}

    def _tensors(self) -> dict[str, Tensor]:
        parameters = dict(self.model.named_parameters())
        tensors = {
            name: (value.half() if name in parameters else value).cpu().contiguous()
            for name, value in self.model.state_dict().items()
        }
        tensors["start_frames"] = torch.from_numpy(np.ascontiguousarray(self.start_frames))
        tensors["start_actions"] = torch.from_numpy(np.ascontiguousarray(self.start_actions))
        return tensors

    def save(self, path: str | Path) -> None:
        """Write the file whole or not at all."""
        write_whole(Path(path), self.to_bytes())

    @functools.cached_property
    def hash(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 of shape, weights as stored, and starts.

        The card is left out, so that figures can be written into it.
        """
        digest = hashlib.sha256(json.dumps(self._shape(), sort_keys=True).encode())
        for name, value in sorted(self._tensors().items()):
            digest.update(name.encode())
            digest.update(value.numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.inference_mode()
    def log_prob(
        self, frames: NDArray[np.uint8], actions: NDArray[np.int64], seed: int = 0
    ) -> NDArray[np.float32]:
        """`log p(y_t+1 | x_0..x_t, a_0..a_t)`, exact, `(B, T)` nats, `y = x + sigma*eps`.

        Args:
            frames: `(B, T+1, H, W, 3)` uint8, from an episode's start.
            actions: `(B, T)`, taken at the first T frames.
            seed: of the noise eps.
        """
        x, a = self._clips(frames, actions)
        given = self.model.conditions(*self.model.trunk.pad_history(x[:, :-1], a))
        y = self._noised(x[:, 1:], seed)
        return self.model.flow.log_prob(y, given).view(len(x), -1).cpu().numpy()

    @torch.inference_mode()
    def encode(
        self, frames: NDArray[np.uint8], actions: NDArray[np.int64], seed: int = 0
    ) -> NDArray[np.float32]:
        """The noise that gives each noised next frame back: `(B, T, noise_size)`.

        Arguments as for `log_prob`. Not unique: `seed` fixes the noise on the frames, the
        components drawn, and the entry of the termination draw.
        """
        x, a = self._clips(frames, actions)
        given = self.model.conditions(*self.model.trunk.pad_history(x[:, :-1], a))
        generator = torch.Generator(x.device).manual_seed(seed + 1)
        z = self.model.flow.encode(self._noised(x[:, 1:], seed), given, generator)
        last = torch.randn((len(z), 1), generator=generator, device=z.device)
        return torch.cat((z, last), dim=1).view(len(x), -1, self.model.noise_size).cpu().numpy()

    @torch.inference_mode()
    def decode(
        self,
        noise: NDArray[np.float32],
        frames: NDArray[np.uint8],
        actions: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """The `y` that each step's noise gives after the recorded history, at temperature 1.

        Args:
            noise: `(B, T, noise_size)`.
            frames: `(B, T, H, W, 3)` uint8, the history; actions: `(B, T)`.

        Returns:
            `(B, T, 3, H, W)`, exact samples, not denoised.
        """
        x, a = self._clips(frames, actions)
        given = self.model.conditions(*self.model.trunk.pad_history(x, a))
        z = torch.from_numpy(noise).to(x.device).flatten(0, 1)[:, :-1]
        y = self.model.flow.decode(z, given, torch.ones(len(z), device=x.device))
        return y.view(x.shape).cpu().numpy()

    def _clips(
        self, frames: NDArray[np.uint8], actions: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        device = self.model.reward_support.device
        return (
            to_signed(torch.from_numpy(frames).to(device)),
            torch.from_numpy(actions).to(device),
        )

    def _noised(self, x: Tensor, seed: int) -> Tensor:
        generator = torch.Generator(x.device).manual_seed(seed)
        eps = torch.randn(x.shape, generator=generator, device=x.device)
        return (x + self.model.config.sigma * eps).flatten(0, 1)


def world_names() -> list[str]:
    """The names of the worlds shipped with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def resolve_world(what: str | Path) -> Path:
    """The file of a shipped name, a run folder or a path; InputError if there is none."""
    if str(what) in world_names():
        return SHIPPED / f"{what}.safetensors"
    path = Path(what)
    if path.is_dir():
        if not (path / "world.safetensors").is_file():
            raise InputError(f"no world in the folder {path}: it has no world.safetensors (yet)")
        return path / "world.safetensors"
    if not path.is_file():
        raise InputError(
            f"unknown world '{what}': neither a file, nor a run folder, nor a shipped name; "
            + did_you_mean(str(what), world_names())
        )
    return path


def read_about(path: Path) -> dict[str, Any]:
    """What a world file says of itself, without its tensors: version, card and model.

    Raises:
        InputError: not a world, truncated, or of another version.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(size, 1 << 24):
            raise InputError(
                f"{path} is no world, or cut short: expected a worldflow .safetensors file"
            )
        try:
            header: dict[str, Any] = json.loads(file.read(length))
            metadata = header.pop("__metadata__", {})
            about: dict[str, Any] = json.loads(metadata.get(METADATA_KEY, "{}"))
            version = about.get("version")
            end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{path} is no world, or damaged: expected a worldflow .safetensors file"
            ) from error
    if version is None:
        raise InputError(f"{path} is no world: a safetensors file of something else")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path} is a world of version {version}, but this worldflow reads version "
            f"{FORMAT_VERSION}: install the matching worldflow or train the world anew"
        )
    if size != 8 + length + end:
        raise InputError(f"{path} is truncated: {size} bytes of {8 + length + end}; copy it again")
    return about


def _card_fields(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "action_names": tuple(fields["action_names"])}


def _model_config(path: Path, config: dict[str, Any]) -> ModelConfig:
    known = {field.name for field in fields(ModelConfig)}
    if unknown := sorted(config.keys() - known):
        raise InputError(
            f"{path} has a model with {unknown[0]}={config[unknown[0]]}, which this worldflow does "
            "not know: install the worldflow that made it, or train it anew"
        )
    tuples = {name: tuple(v) for name, v in config.items() if isinstance(v, list)}
    return ModelConfig(**{**config, **tuples})
