from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recorded import record
from tiny_world import CONFIG, tiny_model
from torch import Tensor

from worldflow import objective, places
from worldflow.dataset import Clips, ClipSampler, open_dataset
from worldflow.model import WorldModel, to_signed
from worldflow.objective import (
    ObjectiveConfig,
    loss_parts,
    prepared,
    reward_support,
    training_loss,
    two_hot,
)
from worldflow.own_pictures import reconstruct

SIGMA = CONFIG.sigma
PLAIN = ObjectiveConfig(context_noise=0.0, reconstructed=0.0, redrawn=0.0, focus=1.0)


@pytest.fixture
def clips(tmp_path: Path) -> Clips:
    record(tmp_path / "a.episode", 30)
    dataset = open_dataset(tmp_path)
    return ClipSampler(dataset, 3, 6, seed=0, past=CONFIG.history - 1).clips(0)


def loss_of(
    model: WorldModel, clips: Clips, config: ObjectiveConfig, parts: Any = None, seed: int = 0
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    batch = prepared(model, clips, torch.Generator().manual_seed(seed), config)
    return training_loss(model, batch, config, parts)


def figures(clips: Clips, config: ObjectiveConfig = PLAIN, seed: int = 0) -> dict[str, float]:
    loss, parts, _ = loss_of(tiny_model(), clips, config, seed=seed)
    return {name: float(value.detach()) for name, value in {"loss": loss, **parts}.items()}


def test_the_loss_is_the_sum_that_it_says(clips: Clips) -> None:
    parts = figures(clips)
    dims = 3 * 16 * 16
    nll = (
        "nll_excess_nats",
        "base_nll_excess_nats",
    )
    expected = sum(parts[name] for name in nll) / dims
    means = parts["mean_mse"] + parts["centre_mse"]
    expected += (parts["denoised_mse"] + PLAIN.mean_weight * means) / (2 * SIGMA**2)
    expected += PLAIN.event_weight * (parts["reward_loss"] + parts["termination_loss"])
    assert parts["loss"] == pytest.approx(expected, rel=1e-5)


def test_squared_errors_count_less_where_more_is_open() -> None:
    """Whole up to 4 sigma of doubt; beyond, as much as an error of 4 sigma would."""
    doubt = SIGMA * torch.tensor([0.5, 4.0, 8.0, 40.0])
    counts = objective._sure(doubt.square(), SIGMA)
    torch.testing.assert_close(counts, torch.tensor([1.0, 1.0, 0.25, 0.01]))


def test_a_bound_takes_errors_of_what_is_open_and_no_others(clips: Clips) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.base.out.bias[12:] += 20  # all is open
    parts = {}
    for bound in (0.0, 0.5, 1.0):
        batch = prepared(model, clips, torch.Generator().manual_seed(0), PLAIN, bound)
        with torch.no_grad():
            parts[bound] = training_loss(model, batch, PLAIN)[1]
    whole, half, all_of_it = (parts[bound]["mean_mse"] for bound in (0.0, 0.5, 1.0))
    open_share = (4 * SIGMA / 1.0) ** 2  # the base's scale is at most 1
    assert float(half / whole) == pytest.approx(open_share**0.5, rel=0.1)
    assert float(all_of_it / whole) == pytest.approx(open_share, rel=0.1)
    for name in ("nll_excess_nats", "denoised_mse", "reward_loss"):
        torch.testing.assert_close(parts[1.0][name], parts[0.0][name])


def test_what_moves_counts_more(clips: Clips) -> None:
    """The weighted likelihood is the sum of the sites', each as often as its place says."""
    plain, weighted = figures(clips), figures(clips, replace(PLAIN, focus=8.0))
    assert weighted["nll_excess_nats"] == plain["nll_excess_nats"] == plain["weighted_nll"]
    assert weighted["weighted_nll"] > plain["weighted_nll"]


def flicker(clips: Clips, index: int) -> Clips:
    """Frames that stand still but for one pixel of the frame at `index`."""
    still = clips.frames[:, :1].expand_as(clips.frames).clone()
    still[:, index, 8, 8] ^= 255
    return replace(clips, frames=still)


def places_of(clips: Clips, model: WorldModel) -> Tensor:
    """What the pixels of each clip's first step count `(3, 16, 16)`."""
    seen = []

    def spy(
        model: WorldModel,
        features: Any,
        past: Tensor,
        actions: Tensor,
        recency: Tensor,
        targets: Any,
        focus: float,
    ) -> Any:
        given = model.base(features, past, actions, recency)
        seen.append(places.weights(targets.moved, given, model.base.floor, focus))
        return loss_parts(model, features, past, actions, recency, targets, focus)

    loss_of(model, clips, replace(PLAIN, focus=8.0), spy)
    return seen[0].view(3, 6, 16, 16)[:, 0]


def sure_model() -> WorldModel:
    """One whose base is in no doubt."""
    model = tiny_model()
    with torch.no_grad():
        model.base.out.weight[12:] = 0
        model.base.out.bias[12:] = -20
    return model


def test_places_are_around_what_moved_in_the_last_known_frames(clips: Clips) -> None:
    places = places_of(flicker(clips, CONFIG.history - 1), sure_model())
    assert bool((places[:, 4:13, 4:13] == 8).all())
    assert int((places == 8).sum()) == 3 * 81
    assert int((places == 1).sum()) == 3 * (256 - 81)


def test_places_are_around_what_the_base_is_in_doubt_of(clips: Clips) -> None:
    model = sure_model()
    with torch.no_grad():
        model.base.out.bias[12:] = 0
    assert bool((places_of(flicker(clips, 0), model) == 8).all())


def test_a_change_that_is_still_to_come_counts_for_nothing(clips: Clips) -> None:
    """Else the weights would tell of the future, and the likelihood would be none."""
    model = sure_model()
    before = places_of(clips, model)
    clips.frames[:, CONFIG.history] = 255 - clips.frames[:, CONFIG.history]
    assert torch.equal(before, places_of(clips, model))


def test_ghosts_are_the_bases_mean_mixed_in(clips: Clips) -> None:
    model = tiny_model()
    frames = to_signed(clips.frames)
    actions = torch.from_numpy(clips.actions)

    def contexts(ghosts: float) -> Tensor:
        return reconstruct(model, frames, actions, 1, torch.Generator().manual_seed(0), ghosts)[
            :, CONFIG.history :
        ]

    none, some, more = contexts(0.0), contexts(0.5), contexts(1.0)
    assert torch.equal(none, contexts(0.0))
    moved, whole = some - none, more - none
    inside = (none.abs() < 0.99) & (some.abs() < 0.99) & (more.abs() < 0.99)  # not clipped
    share = moved[inside] / whole[inside]
    large = whole[inside].abs() > 0.1
    assert int(large.sum()) > 500
    # Of each clip a share of its own, half as large if half as much is asked for.
    torch.testing.assert_close(share[large], torch.full_like(share[large], 0.5), atol=0.1, rtol=0)


def test_samples_stand_in_only_where_nothing_happens(clips: Clips) -> None:
    model, known = sure_model(), CONFIG.history
    frames = to_signed(flicker(clips, known - 1).frames)
    actions = torch.from_numpy(clips.actions)
    own, free = (
        reconstruct(model, frames, actions, 1, torch.Generator().manual_seed(0), sampled=sampled)
        for sampled in (False, True)
    )
    assert torch.equal(free[:, :known], own[:, :known])
    apart = (free != own)[:, known].any(dim=1)  # in the first step, around what moved before it
    assert not bool(apart[:, 4:13, 4:13].any())
    apart[:, 4:13, 4:13] = True
    assert float(apart.float().mean()) > 0.9


def test_steps_past_an_end_count_for_nothing(clips: Clips) -> None:
    clips.valid[:, 4:] = False
    before = figures(clips)
    clips.frames[:, -2:] = 255 - clips.frames[:, -2:]
    clips.rewards[:, 4:] = 7
    clips.terminated[:, 4:] = ~clips.terminated[:, 4:]
    assert figures(clips) == before


def test_the_parts_compile_whole(clips: Clips) -> None:
    """No graph break, forward and backward: what a GPU needs to be fast."""
    compiled = torch.compile(loss_parts, backend="aot_eager", fullgraph=True)
    model = tiny_model()
    losses = []
    for parts in (loss_parts, compiled):
        loss, *_ = loss_of(model, clips, PLAIN, parts)
        loss.backward()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_loss_is_a_function_of_its_seed(clips: Clips) -> None:
    rough = ObjectiveConfig(reconstructed=1.0)
    assert figures(clips, rough, seed=1) == figures(clips, rough, seed=1)
    assert figures(clips, rough, seed=1) != figures(clips, rough, seed=2)


def test_reconstructions_keep_the_past_and_compound() -> None:
    model = tiny_model()
    frames, actions = torch.rand(2, 10, 3, 16, 16) * 2 - 1, torch.zeros(2, 9, dtype=torch.int64)
    once, twice = (
        reconstruct(model, frames, actions, depth, torch.Generator().manual_seed(0))
        for depth in (1, 2)
    )
    assert once.shape == frames[:, :-1].shape
    assert torch.equal(once[:, : CONFIG.history], frames[:, : CONFIG.history])
    assert not torch.equal(once[:, CONFIG.history :], frames[:, CONFIG.history : -1])
    # The first reconstruction is made of recorded frames in either, the next of its own.
    assert not torch.equal(once[:, -1], twice[:, -1])


def test_two_hot_is_exact_on_the_support_and_linear_between() -> None:
    support = torch.tensor([-1.0, 0.0, 4.0])
    weights = two_hot(torch.tensor([-1.0, 0.0, 1.0, 4.0, 9.0]), support)
    expected = [[1, 0, 0], [0, 1, 0], [0, 0.75, 0.25], [0, 0, 1], [0, 0, 1]]
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float32))


def test_few_rewards_are_kept_and_many_gridded() -> None:
    assert reward_support([1.0, 7.0], 1, 7).tolist() == [0, 1, 7]
    grid = reward_support(None, -5, 900)
    assert float(grid[0]) == pytest.approx(-5)
    assert float(grid[-1]) == pytest.approx(900, rel=1e-4)
    assert 0.0 in grid
    assert bool((np.diff(grid.numpy()) > 0).all())
