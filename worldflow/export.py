"""`worldflow export`: a world as one `.onnx` file that plays alone."""

import time
from dataclasses import dataclass
from pathlib import Path

from worldflow.errors import InputError, did_you_mean

DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class ExportConfig:
    """The keys of `worldflow export`."""

    world: str  # a shipped name, a run folder or a .safetensors file
    out: Path  # a new .onnx file
    dtype: str = "float32"  # float16: for GPUs


def export(config: ExportConfig) -> None:
    """Write the world as one `.onnx`.

    Raises:
        InputError: no such world, `out` taken or not `.onnx`, or a package is missing.
        WorkError: the file cannot be written.
    """
    if config.out.suffix != ".onnx":
        raise InputError(f"out={config.out}: expected a file that ends in .onnx")
    if config.out.exists():
        raise InputError(f"out={config.out} is already there; name a new file, or remove it")
    if config.dtype not in DTYPES:
        raise InputError(f"dtype={config.dtype}: {did_you_mean(config.dtype, DTYPES)}")
    from worldflow.onnx_graph import to_onnx
    from worldflow.whole_file import write_whole
    from worldflow.world import World

    began = time.perf_counter()
    data = to_onnx(World.load(config.world), config.dtype)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(config.out, data)
    seconds = time.perf_counter() - began
    print(f"{config.out}: {len(data) / 1e6:.1f} MB, {config.dtype}, made in {seconds:.0f} s")
