"""The verb `track`: what moves is kept on its course."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from recorded import record_frames
from ripening import ripe_fields
from tiny_world import SIZE

from worldflow.dataset import open_dataset
from worldflow.errors import InputError
from worldflow.model import WorldModel
from worldflow.track import (
    Things,
    TrackConfig,
    come,
    find,
    learn_courses,
    look,
    track,
    with_errors,
)
from worldflow.tracking import Track, Tracker
from worldflow.world import World

SPEEDS = (-2.0, -1.0, 1.0, 2.0)  # pixels a step, of the balls that are recorded


@pytest.fixture
def config(tmp_path: Path) -> TrackConfig:
    fields = ripe_fields(tmp_path) | {"batch": 64, "learning_rate": 1e-2}
    return TrackConfig(**fields, kept=256, width=8, error=0.5)


def straight_tracks(count: int, seed: int = 0) -> tuple[Track, Things]:
    """Of things that go at one of four speeds each way."""
    random = np.random.default_rng(seed)
    speeds = torch.from_numpy(random.choice(SPEEDS, (count, 1, 2))).float()
    at = torch.from_numpy(random.uniform(4, 12, (count, 1, 2))).float()
    places = at + torch.arange(-4, 1.0)[:, None] * speeds
    zeros = torch.zeros(count, dtype=torch.int64)
    whole = torch.ones(count, 1, 1, 1)
    track = Track(places[..., None, None], torch.ones(count, 5, 1, 1), whole)
    return track, Things(zeros, zeros, speeds[:, 0])


def record_ball(path: Path, steps: int) -> None:
    """A ball of two by two pixels that goes to and fro, two pixels a step."""

    def frame(t: int) -> np.ndarray:  # type: ignore[type-arg]
        picture = np.full((SIZE, SIZE, 3), 30, np.uint8)
        column = abs((2 * t) % (2 * (SIZE - 2)) - (SIZE - 2))
        picture[6:8, column : column + 2] = 230
        return picture

    record_frames(path, [frame(t) for t in range(steps + 1)])


def test_only_the_tracker_moves(config: TrackConfig) -> None:
    track(config)
    before, after = (World.load(path).model.state_dict() for path in (config.world, config.out))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("base.tracker.") for name in moved)
    assert World.load(config.out).card.training["tracked_updates"] == 30


def test_a_world_without_a_tracker_gets_one(config: TrackConfig, tmp_path: Path) -> None:
    world = World.load(config.world)
    plain = WorldModel(
        dataclasses.replace(world.model.config, tracking=0),
        size=SIZE,
        action_count=world.model.action_count,
        reward_support=world.model.reward_support,
    )
    path = tmp_path / "plain.safetensors"
    dataclasses.replace(world, model=plain.eval()).save(path)
    track(dataclasses.replace(config, world=str(path)))
    after = World.load(config.out).model
    assert after.config.tracking == config.width
    assert after.base.tracker is not None
    assert {
        n
        for n, v in plain.state_dict().items()
        if not torch.equal(v.half(), after.state_dict()[n].half())
    } == set()


def test_the_same_command_makes_the_same_world(config: TrackConfig, tmp_path: Path) -> None:
    again = dataclasses.replace(config, out=str(tmp_path / "again.safetensors"))
    track(config)
    track(again)
    assert World.load(config.out).hash == World.load(again.out).hash


def test_places_that_are_off_are_put_right(config: TrackConfig) -> None:
    torch.manual_seed(0)
    tracker = Tracker(4, SIZE, 0.05, hidden=32)
    tracks, things = straight_tracks(2000)
    long = dataclasses.replace(config, steps=600, batch=256, average=0.98)
    assert learn_courses(tracker, tracks, things, long) == 600
    held_out, _ = straight_tracks(500, seed=1)
    told = with_errors(held_out, 0.2, torch.Generator().manual_seed(1))
    with torch.no_grad():
        after = told.places[:, -1] + tracker.correction(told)
    true = held_out.places[:, -1]
    assert (after - true).abs().mean() < 0.7 * (told.places[:, -1] - true).abs().mean()


def test_a_ball_is_found_in_recordings_and_how_far_it_has_come(
    config: TrackConfig, tmp_path: Path
) -> None:
    record_ball(tmp_path / "ball" / "a.episode", 60)
    tracker = Tracker(4, SIZE, 0.05, hidden=8)
    pictures = look(tracker, open_dataset(tmp_path / "ball"), config, "cpu")
    assert pictures.shape == (60, 5, SIZE, SIZE)
    things = find(tracker, pictures, seed=0)
    straight = things.by.abs() == torch.tensor([0.0, 2.0])
    assert len(things.step) > 50
    assert straight.all(dim=1).float().mean() > 0.8  # it turns at the walls


def test_how_far_a_thing_has_come_is_where_it_looks_the_same() -> None:
    before, after = torch.zeros(2, SIZE, SIZE), torch.zeros(2, SIZE, SIZE)
    before[0, 3, 4], before[0, 4, 4] = 1.0, 2.0
    after[0, 8, 2], after[0, 9, 2] = 1.0, 2.0
    after[1, 5, 5] = 1.0  # and there is nothing like it before
    step, place = torch.tensor([0, 1]), torch.tensor([[8.6, 2.0], [5.0, 5.0]])
    by, right = come(before, after, step, place)
    assert by[0].tolist() == [5.0, -2.0]
    assert right.tolist() == [True, False]


@pytest.mark.parametrize(
    ("field", "value"), [("kept", 10), ("batch", 0), ("width", 0), ("error", 0.0)]
)
def test_a_wrong_value_is_told(config: TrackConfig, field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{field}={value}"):
        track(dataclasses.replace(config, **{field: value}))


def test_recordings_in_which_nothing_moves_are_told(config: TrackConfig, tmp_path: Path) -> None:
    frame = np.full((SIZE, SIZE, 3), 30, np.uint8)
    record_frames(tmp_path / "still" / "a.episode", [frame] * 41)
    with pytest.raises(InputError, match="nothing moves"):
        track(dataclasses.replace(config, data=str(tmp_path / "still")))
