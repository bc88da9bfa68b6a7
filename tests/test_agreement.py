"""Whether two engines draw the same, and what is excused: the shipped worlds in ONNX Runtime."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exported import NOT_CAPTURED
from tiny_world import tiny_world

from worldflow import mixture
from worldflow.agreement import NEAR_TIE, Agreement, compare, counted, free_run, watched_selectors
from worldflow.card import Playable
from worldflow.engine import Step
from worldflow.export_cache import exported_copy
from worldflow.onnx_engine import OnnxEngine
from worldflow.torch_engine import TorchEngine
from worldflow.world import World, world_names

SMALL = {"rows": 2, "steps": 6, "tolerance": 1}


@pytest.mark.parametrize("name", world_names())
def test_shipped_worlds_are_drawn_alike(name: str) -> None:
    """Within 1/255 at every pixel, from the same states, by real ONNX Runtime; for a GPU, too."""
    world = World.load(name)
    path = exported_copy(world)
    assert not {node.op_type for node in onnx.load(path).graph.node} & NOT_CAPTURED
    engine = OnnxEngine(path, threads=1)
    ours = Playable(world.card, engine, world.start_frames, world.start_actions)
    found = compare(ours, TorchEngine(world), rows=4, steps=24, tolerance=1)
    assert found.frames == 96
    assert found.unexplained == 0
    assert found.worst <= 1
    assert found.flipped <= 1  # of 96: a near tie that falls the other way is rare
    assert found.share_within > 0.9999
    assert found.outcomes_differing == 0


class Altered(TorchEngine):
    """Draws one colour of one pixel wrong from the third step on."""

    def __init__(self, world: World, flips: int) -> None:
        super().__init__(world)
        self.flips, self.count = flips, 0  # flips: bits of that colour

    def step(self, *given: Any) -> Step:
        step, self.count = super().step(*given), self.count + 1
        frame = step.frame.copy()
        if self.count > 2:
            frame[:, 3, 4, 1] ^= self.flips
        return step._replace(frame=frame)


def playable(flips: int) -> Playable:
    world = tiny_world()
    engine = Altered(world, flips)
    return Playable(
        replace(world.card, game="none"), engine, world.start_frames, world.start_actions
    )


@pytest.fixture
def no_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worldflow.agreement.NEAR_TIE", 0.0)


@pytest.mark.usefixtures("no_ties")
def test_one_wrong_colour_is_found() -> None:
    found = compare(playable(flips=128), TorchEngine(tiny_world()), **SMALL)
    assert (found.unexplained, found.flipped, found.near_ties) == (8, 0, 0)
    assert found.colours - found.colours_within == 8
    assert found.worst == 128
    assert free_run(playable(flips=128), TorchEngine(tiny_world()), **SMALL) == [2, 2]


@pytest.mark.usefixtures("no_ties")
def test_one_level_is_within_the_tolerance() -> None:
    found = compare(playable(flips=1), TorchEngine(tiny_world()), **SMALL)
    assert (found.unexplained, found.worst) == (0, 1)
    assert free_run(playable(flips=1), TorchEngine(tiny_world()), **SMALL) == [6, 6]


def test_near_ties_are_excused_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worldflow.agreement.NEAR_TIE", 1.0)  # so that all are
    found = compare(playable(flips=128), TorchEngine(tiny_world()), **SMALL)
    assert (found.near_ties, found.flipped, found.unexplained) == (12, 8, 0)
    assert found.worst <= 1


def test_the_object_is_judged_by_itself() -> None:
    frames = np.zeros((1, 4, 4, 3), np.uint8)
    wrong = frames.copy()
    wrong[0, 1, 1] = 9
    masks = np.zeros((1, 4, 4), np.bool_)
    masks[0, 1, :2] = True
    found = counted(Agreement(1), wrong, frames, np.zeros(1, np.bool_), masks)
    assert (found.object_colours, found.object_colours_within) == (6, 3)
    assert found.object_share_within == 0.5
    assert Agreement(1).object_share_within is None


def test_selectors_are_watched_where_they_choose() -> None:
    """One of two sites stands on the boundary between two components of equal weight."""
    log_weights = torch.log(torch.tensor([0.5, 0.5])).view(1, 2, 1, 1).expand(2, 2, 1, 2)
    selector = torch.tensor([[[0.3, 0.9]], [[0.0, 0.9]]])
    zeros = torch.zeros(2, 1, 1, 2)
    before = mixture.decode
    with watched_selectors() as seen:
        drawn = mixture.decode(
            log_weights, lambda index: (index[:, None].float(), zeros - 9), zeros, selector,
            torch.ones(2), 0.1,
        )  # fmt: skip
    assert mixture.decode is before
    (distance,), (picks,) = seen.distances, seen.picks
    assert distance[0] > NEAR_TIE > distance[1]
    assert (picks == 1).all()
    assert torch.equal(drawn[:, 0], picks.float())
