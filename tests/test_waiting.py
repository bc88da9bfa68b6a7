"""How lately the game's object was in sight, and who is told."""

import torch

from worldflow.waiting import MEMORY, Waiting, recencies


def test_it_counts_down_from_when_it_was_seen_last() -> None:
    seen = torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    told = recencies(seen, torch.tensor([0.0, 3.0]), steps=3)
    assert told.tolist() == [0, MEMORY, MEMORY - 1, 2, MEMORY, MEMORY]


def test_step_by_step_it_is_the_same() -> None:
    seen = torch.rand(2, 40).round()
    at_once = recencies(seen.flatten(), torch.zeros(2), steps=40).view(2, 40)
    before, streamed = torch.zeros(2), []
    for t in range(40):
        before = recencies(seen[:, t], before, steps=1)
        streamed.append(before)
    assert torch.equal(torch.stack(streamed, dim=1), at_once)


def test_what_is_too_long_ago_is_forgotten() -> None:
    seen = torch.zeros(1 + int(MEMORY) + 5)
    seen[0] = 1
    told = recencies(seen, torch.zeros(1), steps=len(seen))
    assert told[int(MEMORY) - 1] == 1
    assert not told[int(MEMORY) :].any()


def test_each_recency_is_told_apart_from_any_other() -> None:
    """Between two of them, in proportion; so what is half seen is no leap."""
    waiting = Waiting(int(MEMORY) + 1)
    with torch.no_grad():
        waiting.out.weight.copy_(torch.eye(int(MEMORY) + 1))
        told = waiting(torch.zeros(3, int(MEMORY) + 1, 2, 2), torch.tensor([0.0, 31.0, 15.25]))
    assert torch.equal(told, told[:, :, :1, :1].expand_as(told))
    expected = torch.zeros(3, int(MEMORY) + 1)
    expected[0, 0] = expected[1, 31] = 1
    expected[2, 15], expected[2, 16] = 0.75, 0.25
    assert torch.allclose(told[:, :, 0, 0], expected)
