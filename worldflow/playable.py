"""From what a user names to a world that runs: chooses the engine and the device."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from worldflow.card import Playable
from worldflow.engine import Engine
from worldflow.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from worldflow.onnx_engine import OnnxEngine

ENGINES = ("auto", "torch", "torch-compiled", "torch-graphs", "onnx")
RUNS = {
    "torch": "PyTorch",
    "torch-compiled": "PyTorch, compiled",
    "torch-graphs": "PyTorch with CUDA graphs",
    "onnx": "ONNX Runtime",
}
DEVICES = ("auto", "cpu", "cuda", "tensorrt")
_told: set[str] = set()  # lines on stderr, each once a process


def load_playable(
    what: str, *, engine: str = "auto", device: str = "auto", threads: int = 0
) -> Playable:
    """The world `what` (a shipped name, a run folder, a `.safetensors`, an `.onnx`) on an engine.

    What "auto" came to is told once, in a line on stderr.

    Args:
        engine: "torch", "torch-compiled", or "torch-graphs" (CUDA graphs); "onnx", which exports a
            world and keeps that for the next time; or "auto": ONNX Runtime for an `.onnx` and for
            a world exported before, else PyTorch.
        device: "cpu"; "cuda"; "tensorrt" (of "onnx" only); or "auto", a GPU if one works.
        threads: of the CPU; 0 leaves the engine's own choice.

    Raises:
        InputError: unknown or damaged world, unknown engine or device, an engine that cannot
            run it, or a GPU that does not work, with the reason.
    """
    if engine not in ENGINES:
        raise InputError(f"unknown engine '{engine}'; {did_you_mean(engine, ENGINES)}")
    if device not in DEVICES:
        raise InputError(f"unknown device '{device}'; {did_you_mean(device, DEVICES)}")
    if Path(what).suffix == ".onnx":
        if engine.startswith("torch"):
            raise InputError(
                f"engine={engine} cannot run {what}: it runs the world it was made from"
            )
        playable, why = _exported(Path(what), device, threads)
    else:
        playable, why = _world(what, engine, device, threads)
    if "auto" in (engine, device):
        _tell(playable, why)
    return playable


def _exported(path: Path, device: str, threads: int) -> tuple[Playable, str]:
    """An `.onnx`, by itself; and why there."""
    if not path.is_file():
        raise InputError(f"{path} is not there; worldflow export makes one")
    engine, why = _open_onnx(path, device, threads)
    file = engine.file
    return Playable(file.about.card, engine, file.start_frames, file.start_actions), why


def _world(what: str, engine: str, device: str, threads: int) -> tuple[Playable, str]:
    """A world's own file, which needs PyTorch to be read; and why it runs there."""
    from worldflow.export_cache import exported_copy, has_exported_copy
    from worldflow.torch_engine import TorchEngine
    from worldflow.world import World

    world = World.load(what)
    runs: Engine
    if engine == "onnx" or (engine == "auto" and has_exported_copy(world)):
        runs, why = _open_onnx(exported_copy(world), device, threads)
    elif device == "tensorrt":
        raise InputError("device=tensorrt is for engine=onnx alone; use device=cuda")
    else:
        where = choose_device(device, threads)
        why = why_torch_has_no_gpu() if where != device else ""
        name = "torch" if engine == "auto" else engine
        if name == "torch-graphs" and where == "cpu":
            raise InputError(
                f"engine={name} needs a GPU ({why or 'device=cpu'}); use engine=torch-compiled"
            )
        runs = TorchEngine(world if where == "cpu" else World.load(what, device=where), name)
        if name != "torch":
            _compile(runs)
    return Playable(world.card, runs, world.start_frames, world.start_actions), why


def _open_onnx(path: Path, device: str, threads: int) -> tuple["OnnxEngine", str]:
    """The engine, and why it is not on a GPU if "auto" was asked for and it is not."""
    from worldflow.onnx_engine import OnnxEngine
    from worldflow.onnx_session import NoGpu

    if device != "auto":
        return OnnxEngine(path, device=device, threads=threads), ""
    try:
        engine = OnnxEngine(path, device="cuda", threads=threads)
        _probe(engine)
    except NoGpu as error:
        return OnnxEngine(path, threads=threads), error.obstacle.reason
    return engine, ""


def _probe(engine: Engine) -> None:
    """One real step: a GPU may be listed, and even be opened, and yet fail at that."""
    state = engine.start(np.zeros((1, 1, *engine.frame_shape), np.uint8), np.zeros((1, 0), int))
    noise = np.zeros((1, engine.noise_size), np.float32)
    engine.step(state, np.zeros(1, np.int64), noise, np.ones(1, np.float32))


def _compile(engine: Engine) -> None:
    """Let PyTorch compile a step now, for one row, and not when somebody plays."""
    try:
        _probe(engine)
    except Exception as error:  # a compiler that is missing, or fails: of many classes
        from worldflow.onnx_session import first_line

        raise InputError(
            f"engine={engine.name}: PyTorch cannot compile here ({first_line(error)}); "
            "use engine=torch"
        ) from error


def _tell(playable: Playable, why: str) -> None:
    engine = playable.engine
    line = f"{playable.card.name} runs in {RUNS[engine.name]} on {engine.device}, {engine.dtype}"
    line += f" (no GPU: {why})" if why else ""
    if line not in _told:
        _told.add(line)
        print(line, file=sys.stderr)


def choose_device(device: str, threads: int = 0) -> str:
    """ "cpu" or "cuda" for PyTorch; sets its CPU threads if asked.

    Also has numbers below 1e-38 count as 0, here and in all threads begun from now on: a CPU takes
    a hundred times as long for each, and gradients of likelihoods are full of them
    (docs/experiments.md, 113).

    Raises:
        InputError: an unknown device, or a GPU that does not work, with the reason.
    """
    import torch

    torch.set_flush_denormal(True)

    if device not in DEVICES[:3]:
        raise InputError(f"unknown device '{device}'; {did_you_mean(device, DEVICES[:3])}")
    if threads:
        torch.set_num_threads(threads)
    if device == "cpu":
        return "cpu"
    why = why_torch_has_no_gpu()
    if device == "cuda" and why:
        raise InputError(f"device=cuda: {why}; use device=cpu or auto")
    return "cpu" if why else "cuda"


def why_torch_has_no_gpu() -> str:
    """Why PyTorch cannot compute on a GPU; empty if it can."""
    import torch

    from worldflow.onnx_session import driver_obstacle, first_line

    if torch.version.cuda is None:
        return "this PyTorch is built for the CPU alone"
    if not torch.cuda.is_available():
        return str(driver_obstacle() or "this PyTorch does not fit the NVIDIA driver")
    try:
        torch.ones(8, device="cuda").sum().item()
    except RuntimeError as error:
        return f"the GPU fails: {first_line(error)}"
    return ""
