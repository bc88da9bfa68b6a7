"""What evaluation takes from inside a model: its base alone, and its cost."""

import numpy as np
import torch
from fake_engine import FakeEngine
from tiny_world import random_actions, random_frames, tiny_world

from worldflow.engine import take_rows
from worldflow.model import StreamState, to_bytes
from worldflow.torch_engine import TorchEngine
from worldflow.white_box import base_sampler, cost_of

ROWS = 3


def noise_of(engine, level):
    return np.full((ROWS, engine.noise_size), level, np.float32)


def test_the_base_draws_from_its_own_gaussian():
    engine = TorchEngine(tiny_world())
    sample = base_sampler(engine)
    state = engine.start(random_frames(ROWS, 3), random_actions(ROWS, 2))
    action = np.array([0, 1, 2])
    with torch.inference_mode():
        given, _ = engine.model.advance(
            StreamState(**state),
            torch.from_numpy(action),
        )
        y = given.mean + 2 * torch.exp(given.log_scale)
        expected = to_bytes(engine.model.outcome(y, given).frame).numpy()
    drawn = sample(state, action, noise_of(engine, 2.0))
    np.testing.assert_array_equal(drawn, expected)
    assert not np.array_equal(drawn, sample(state, action, noise_of(engine, -2.0)))
    rows = np.array([2])
    alone = sample(take_rows(state, rows), action[rows], noise_of(engine, 2.0)[rows])
    np.testing.assert_allclose(alone[0].astype(int), drawn[2], atol=1)


def test_the_cost_is_counted():
    engine = TorchEngine(tiny_world())
    cost = cost_of(engine)
    assert cost.parameters == sum(p.numel() for p in engine.model.parameters())
    assert cost.gflop_per_frame > 0


def test_an_engine_that_hides_its_model_has_neither():
    assert base_sampler(FakeEngine()) is None
    assert cost_of(FakeEngine()) is None
