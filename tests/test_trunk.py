import pytest
import torch
from tiny_world import ACTIONS, CONFIG, SIZE, WINDOW, tiny_model
from torch import Tensor

from worldflow.trunk import Memory

LENGTH = 2 * WINDOW + 1  # longer than the window, so that the oldest frames drop out of it


def clip(seed: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return torch.rand(2, LENGTH, 3, SIZE, SIZE) * 2 - 1, torch.randint(0, ACTIONS, (2, LENGTH))


def features_by_step(frames: Tensor, actions: Tensor) -> Tensor:
    """`(B, T, everything)`."""
    trunk = tiny_model().trunk
    with torch.no_grad():
        features = trunk(*trunk.pad_history(frames, actions))
    flat = torch.cat([part.flatten(1) for part in features], dim=1)
    return flat.view(len(frames), LENGTH, -1)


@pytest.mark.parametrize("step", [1, WINDOW, LENGTH - 1])
def test_the_future_cannot_move_the_past(step: int) -> None:
    frames, actions = clip()
    before = features_by_step(frames, actions)
    frames[:, step] *= -1
    after = features_by_step(frames, actions)
    assert torch.equal(before[:, :step], after[:, :step])
    assert not torch.isclose(before[:, step], after[:, step]).all()


@pytest.mark.parametrize("step", [0, WINDOW, LENGTH - 1])
def test_an_action_matters_from_its_own_step_on(step: int) -> None:
    """Off by one, and the frame after a key press would not know of it."""
    frames, actions = clip()
    before = features_by_step(frames, actions)
    actions[:, step] = (actions[:, step] + 1) % ACTIONS
    after = features_by_step(frames, actions)
    assert torch.equal(before[:, :step], after[:, :step])
    assert not torch.isclose(before[:, step], after[:, step]).all()


def test_memory_reaches_over_the_window_and_no_further() -> None:
    """A frame counts as long as its own keys, which see `history` frames, are in the window."""
    frames, actions = clip()
    before = features_by_step(frames, actions)
    frames[:, 0] *= -1
    changed = (before != features_by_step(frames, actions)).any(dim=-1)[0]
    assert changed[CONFIG.history : CONFIG.history + WINDOW - 1].all()
    assert not changed[CONFIG.history + WINDOW - 1 :].any()


def test_streamed_equals_parallel() -> None:
    frames, actions = clip()
    expected = features_by_step(frames, actions)
    trunk = tiny_model().trunk
    past, done = trunk.pad_history(frames, actions)
    memory = Memory(*torch.zeros(2, 2, *trunk.memory_shape))
    with torch.no_grad():
        for t in range(LENGTH):
            window = slice(t, t + CONFIG.history)
            count = torch.full((2,), t)
            features, memory = trunk.streamed(past[:, window], done[:, window], memory, count)
            flat = torch.cat([part.flatten(1) for part in features], dim=1)
            torch.testing.assert_close(flat, expected[:, t], atol=1e-4, rtol=1e-4)
