"""A captured function gives what the function gives, call after call."""

import pytest
import torch
from torch import Tensor

from worldflow.captured import Captured

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


@pytest.mark.parametrize("device", DEVICES)
def test_every_call_has_its_own_arguments(device: str) -> None:
    weight = torch.full((2,), 3.0, device=device)
    calls = []

    def product(pair: tuple[Tensor, Tensor]) -> Tensor:
        calls.append(pair[0].shape)
        return pair[0] * pair[1] * weight

    captured = Captured(product, device)
    for value in (1.0, 2.0, 5.0):
        pair = torch.full((2,), value, device=device), torch.full((2,), 7.0, device=device)
        assert captured(pair).tolist() == [21 * value] * 2
    weight.fill_(1.0)  # what lies where it was is read anew
    ones = torch.ones(2, device=device)
    assert captured((ones, ones)).tolist() == [1.0, 1.0]
    assert captured((torch.ones(5, 2, device=device), ones)).shape == (5, 2)
    assert len(calls) == (5 if device == "cpu" else 2 * 4)  # three to warm up, one recorded
