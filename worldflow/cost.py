"""What a step costs, and what the machine could do."""

import platform
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from worldflow.model import WorldModel


def gflop_per_frame(model: WorldModel) -> float:
    """GFLOP of one streamed step with reward and termination; a multiply-add counts as 2."""
    device = model.reward_support.device
    frame = torch.zeros((1, model.size, model.size, 3), dtype=torch.uint8, device=device)
    state = model.first_state(frame)
    action = torch.zeros(1, dtype=torch.int64, device=device)
    noise = torch.zeros((1, model.noise_size), device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.step(state, action, noise, torch.ones(1, device=device))
    return float(counter.get_total_flops()) / 1e9


def size_and_cost(model: WorldModel) -> dict[str, float]:
    """Parameters, and GFLOP of a step: as a world's card tells them."""
    return {
        "parameters": sum(each.numel() for each in model.parameters()),
        "gflop_per_frame": round(gflop_per_frame(model), 4),
    }


def peak_gflops(device: str, dtype: torch.dtype) -> float:
    """GFLOP/s of a large matrix product, the best of a few: what this machine reaches."""
    size = 8192 if device.startswith("cuda") else 2048
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        a @ a
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best / 1e9


def quick_type(device: str) -> torch.dtype:
    """bfloat16 where the hardware gains by it, as GPUs and some CPUs do; else float32.

    A CPU without such instructions goes through the motions: eight times slower than float32.
    With AVX-512's alone, AMD's multiply twice as fast, and Intel's no faster, conversions apart
    (docs/experiments.md, 3, 41, 111).
    """
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float32
    # PyTorch before 2.11 does not tell.
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    intel = str(able.get("cpu_name", "")).startswith("Intel")
    quick = able.get("amx_bf16", False) or (able.get("avx512_bf16", False) and not intel)
    return torch.bfloat16 if quick else torch.float32


def device_name(device: str) -> str:
    """What a person would call it: "NVIDIA H200", "AMD EPYC, 2 threads"."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    cpu = platform.processor() or platform.machine()
    told = Path("/proc/cpuinfo")  # Linux: the marketing name, which platform does not know
    if told.exists():
        names = [line for line in told.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return f"{cpu}, {torch.get_num_threads()} threads"
