"""What the machine is and could do, and what this process takes of its memory."""

import os
from pathlib import Path

MIB = 2**20
STATM = Path("/proc/self/statm")  # Linux; its second number is the pages in memory


def resident_mib() -> float | None:
    """Memory of this process that is in use now; None where the system does not tell."""
    if not STATM.exists():
        return None
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def gpu_mib(device: str) -> float | None:
    """Memory of a GPU that is in use now, by all processes; None of the CPU, or not known."""
    if not device.startswith("cuda"):
        return None
    try:
        import torch
    except ModuleNotFoundError:
        return None
    if not torch.cuda.is_available():  # ONNX Runtime may have a GPU that this PyTorch has not
        return None
    free, total = torch.cuda.mem_get_info(device)
    return (total - free) / MIB


def hardware_and_peak(device: str, dtype: str, threads: int) -> tuple[str | None, float | None]:
    """Its name, and the GFLOP/s of a large matrix product in PyTorch; None without PyTorch.

    Args:
        threads: of the CPU; 0 for PyTorch's own choice.
    """
    try:
        import torch

        from worldflow.cost import device_name, peak_gflops
    except ModuleNotFoundError:
        return None, None
    cuda = device.startswith("cuda")
    if cuda and not torch.cuda.is_available():
        return None, None
    if threads:
        torch.set_num_threads(threads)
    # CPUs have no fast half precision: there float32 is the peak of either.
    kind = torch.float16 if cuda and dtype == "float16" else torch.float32
    return device_name(device), peak_gflops(device, kind)
