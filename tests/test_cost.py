"""What a machine is taken to be good at."""

import pytest
import torch

from worldflow.cost import quick_type

AVX, AMX = "avx512_bf16", "amx_bf16"


@pytest.mark.parametrize(
    ("able", "quick"),
    [
        ({}, torch.float32),  # PyTorch before 2.11, which does not tell
        ({AVX: False, AMX: False, "cpu_name": "AMD EPYC"}, torch.float32),
        ({AVX: True, AMX: False, "cpu_name": "AMD EPYC"}, torch.bfloat16),
        ({AVX: True, AMX: False, "cpu_name": "Intel Xeon"}, torch.float32),
        ({AVX: True, AMX: True, "cpu_name": "Intel Xeon"}, torch.bfloat16),
    ],
)
def test_a_cpu_computes_in_bfloat16_where_it_gains_by_it(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, object], quick: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert quick_type("cpu") is quick
