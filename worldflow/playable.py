"""From what a user names to a world that runs: chooses the engine and the device."""

from worldflow.card import Playable
from worldflow.errors import InputError, did_you_mean

ENGINES = ("auto", "torch")
DEVICES = ("auto", "cpu", "cuda")


def load_playable(
    what: str, *, engine: str = "auto", device: str = "auto", threads: int = 0
) -> Playable:
    """The world `what` (a shipped name, a run folder, a `.safetensors`) on an engine.

    Args:
        engine: "auto" or "torch".
        device: "cpu", "cuda", or "auto" for a GPU if one works.
        threads: of the CPU; 0 leaves PyTorch's own choice.

    Raises:
        InputError: unknown or damaged world, unknown engine or device, a GPU that is not there.
    """
    if engine not in ENGINES:
        raise InputError(f"unknown engine '{engine}'; {did_you_mean(engine, ENGINES)}")
    from worldflow.torch_engine import TorchEngine
    from worldflow.world import World

    world = World.load(what, device=choose_device(device, threads))
    return Playable(world.card, TorchEngine(world), world.start_frames, world.start_actions)


def choose_device(device: str, threads: int = 0) -> str:
    """ "cpu" or "cuda"; sets PyTorch's CPU threads if asked."""
    import torch

    if device not in DEVICES:
        raise InputError(f"unknown device '{device}'; {did_you_mean(device, DEVICES)}")
    if threads:
        torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda: this PyTorch finds no GPU; use device=cpu or auto")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
