"""ONNX Runtime sessions on the CPU or a GPU, and why a GPU is not to be had.

ONNX Runtime lists a CUDA provider on machines without a GPU, too, and then falls back to the
CPU in silence: what runs is known only from a session that has been made.
"""

import base64
import contextlib
import ctypes
import io
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from worldflow.errors import InputError

CPU, CUDA, TENSORRT = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))
GPU_PROVIDERS = {"cuda": CUDA, "tensorrt": TENSORRT}
# y = x + x, as ONNX
TRIAL = base64.b64decode(
    "CAkSADo1Cg4KAXgKAXgSAXkiA0FkZBIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEBQ="
)
SILENT = 4  # ONNX Runtime's log level: what goes wrong is told by the errors raised here


class Obstacle(NamedTuple):
    """Why a GPU is not to be had."""

    reason: str
    remedy: str = ""  # the command that mends it, if one does

    def __str__(self) -> str:
        return f"{self.reason}: {self.remedy}" if self.remedy else self.reason


class NoGpu(InputError):  # noqa: N818 (nothing is wrong but the choice of device)
    """The GPU that was asked for does not work."""

    def __init__(self, device: str, obstacle: Obstacle) -> None:
        self.obstacle = obstacle
        super().__init__(f"device={device}: {obstacle}")


def open_session(model: Path | bytes, device: str = "cpu", threads: int = 0) -> Any:
    """An `onnxruntime.InferenceSession` that runs on `device`, and on nothing else.

    Args:
        model: a file, or a serialised model.
        device: "cpu", "cuda" or "tensorrt".
        threads: of the CPU; 0 for one a core.

    Raises:
        InputError: not an ONNX model, or damaged.
        NoGpu: the GPU does not work, with the reason.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = SILENT
    if device != "cpu":
        obstacle = gpu_obstacle(onnxruntime)
        if obstacle:
            raise NoGpu(device, obstacle)
        _preload_libraries(onnxruntime)
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = onnxruntime.InferenceSession(source, options, _providers(device))
    except Exception as error:  # its errors share no class of their own
        name = "the model" if isinstance(model, bytes) else str(model)
        raise InputError(
            f"{name} is no ONNX model, or damaged ({first_line(error)}): copy it again, or make "
            "one with worldflow export"
        ) from error
    if device != "cpu" and GPU_PROVIDERS[device] not in session.get_providers():
        raise NoGpu(device, _library_obstacle(onnxruntime, device))
    return session


def try_device(device: str) -> Obstacle | None:
    """What keeps ONNX Runtime from running a model on `device`; None if one has run there."""
    try:
        open_session(TRIAL, device).run(None, {"x": np.ones(1, np.float32)})
    except NoGpu as error:
        return error.obstacle
    except Exception as error:  # the provider has loaded, and fails: of many classes
        return Obstacle(f"it fails ({first_line(error)})")
    return None


def _providers(device: str) -> list[tuple[str, dict[str, str]]]:
    """Providers in order of preference, each with its options."""
    # A graph that is captured once has no launch costs. TF32 would not be float32.
    cuda = (CUDA, {"enable_cuda_graph": "1", "use_tf32": "0"})
    cache = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache_folder())}
    tensorrt = (TENSORRT, {"trt_cuda_graph_enable": "1", **cache})
    cpu: tuple[str, dict[str, str]] = (CPU, {})
    return {"cpu": [cpu], "cuda": [cuda, cpu], "tensorrt": [tensorrt, cuda, cpu]}[device]


def import_onnxruntime() -> Any:
    """The package, quiet; its messages go to stderr in colours otherwise.

    Raises:
        InputError: it is not installed or does not load.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            f"ONNX Runtime does not load ({first_line(error)}): "
            "pip install --force-reinstall onnxruntime"
        ) from error
    onnxruntime.set_default_logger_severity(SILENT)
    return onnxruntime


def gpu_obstacle(onnxruntime: Any) -> Obstacle | None:
    """What keeps any session from a GPU, as far as that can be told without one."""
    if CUDA not in onnxruntime.get_available_providers():
        return Obstacle(
            "this onnxruntime is the package for CPUs",
            "pip uninstall -y onnxruntime && pip install onnxruntime-gpu",
        )
    return driver_obstacle()


def driver_obstacle() -> Obstacle | None:
    """Why NVIDIA's driver is of no use; None if it finds a GPU."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return Obstacle(f"no NVIDIA driver on this machine ({name} is missing)")
    count = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or count.value == 0:
        return Obstacle(f"the NVIDIA driver finds no GPU (status {status}, {count.value} devices)")
    return None


def _library_obstacle(onnxruntime: Any, device: str) -> Obstacle:
    """Why a listed provider was left out of a session: mostly a library that is missing."""
    prefix, suffix = ("", ".dll") if sys.platform == "win32" else ("lib", ".so")
    folder = Path(onnxruntime.__file__).parent / "capi"
    for part in ("shared", device):
        try:
            ctypes.CDLL(str(folder / f"{prefix}onnxruntime_providers_{part}{suffix}"))
        except OSError as error:
            return Obstacle(
                f"a library that ONNX Runtime needs for {device} is missing ({first_line(error)})",
                "pip install 'onnxruntime-gpu[cuda,cudnn]'",
            )
    return Obstacle(f"ONNX Runtime left {device} out and does not say why")


def _preload_libraries(onnxruntime: Any) -> None:
    """Find CUDA's libraries in Python packages (torch's too), where the system has none."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it did not find
        onnxruntime.preload_dlls()


def cache_folder() -> Path:
    """Where exports and built engines are kept between runs."""
    local = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else None
    root = os.environ.get("XDG_CACHE_HOME") or local or Path.home() / ".cache"
    return Path(root) / "worldflow"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without the full stop at its end."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
