"""The verb `track`: the game's object is kept on its course."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from recorded import record_frames
from ripening import ripe_fields
from tiny_world import SIZE

from worldflow.course import line
from worldflow.dataset import open_dataset
from worldflow.envs.objects import Look
from worldflow.errors import InputError
from worldflow.model import WorldModel, to_signed
from worldflow.track import (
    Flights,
    TrackConfig,
    chosen,
    follow,
    learn,
    show,
    track,
    views_of,
    with_errors,
)
from worldflow.tracking import AROUND, Tracker
from worldflow.world import World

EVERYWHERE = np.ones((SIZE, SIZE), np.bool_)
WHITE = Look("ball", (1, 0, 0), 30 * EVERYWHERE, 200, seen=EVERYWHERE, among=~EVERYWHERE, mass=4.0)
BLUE = WHITE._replace(name="shade", channels=(0, 0, 1), contrast=100)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackConfig:
    monkeypatch.setattr("worldflow.track.looks_of", lambda source, shape: (WHITE, BLUE))
    fields = ripe_fields(tmp_path) | {"batch": 64}
    return TrackConfig(**fields, object="all", kept=256, width=8, error=0.2)


def frame(t: int) -> NDArray[np.uint8]:
    """A ball of two by two pixels that goes to and fro, two pixels a step, before a green slope."""
    picture = np.full((SIZE, SIZE, 3), 30, np.uint8)
    picture[..., 1] = 15 * np.arange(SIZE)
    column = abs((2 * t) % (2 * (SIZE - 2)) - (SIZE - 2))
    picture[6:8, column : column + 2, ::2] = (230, 130)
    return picture


def flight(steps: int) -> list[NDArray[np.uint8]]:
    """The frames of so many steps."""
    return [frame(t) for t in range(steps + 1)]


def followed(
    config: TrackConfig, folder: Path, frames: list[NDArray[np.uint8]], hidden: int = 8
) -> tuple[Tracker, Flights]:
    """The ball of a recording of `frames`, by a new tracker."""
    record_frames(folder / "ball" / "a.episode", frames)
    dataset = open_dataset(folder / "ball")
    tracker = Tracker(4, SIZE, 3, hidden)
    show(tracker, WHITE, dataset, seed=0)
    return tracker, follow([tracker], dataset, config, "cpu")


def test_only_the_tracker_moves(config: TrackConfig) -> None:
    track(config)
    before, after = (World.load(path).model.state_dict() for path in (config.world, config.out))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {name[: len("base.trackers.N.")] for name in moved} == {
        "base.trackers.0.",
        "base.trackers.1.",
    }
    assert World.load(config.out).card.training["tracked_updates"] == 2 * 30


def test_one_object_can_be_learned_alone(config: TrackConfig) -> None:
    track(dataclasses.replace(config, object="shade"))
    before, after = (World.load(path).model.base.trackers for path in (config.world, config.out))
    same = [
        all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))
        for old, new in zip(before, after, strict=True)
    ]
    assert same == [True, False]
    assert World.load(config.out).card.training["tracked_updates"] == 30


def test_a_world_without_a_tracker_gets_one(config: TrackConfig, tmp_path: Path) -> None:
    world = World.load(config.world)
    plain = WorldModel(
        dataclasses.replace(world.model.config, tracking=0, waiting=False),
        size=SIZE,
        action_count=world.model.action_count,
        reward_support=world.model.reward_support,
    )
    path = tmp_path / "plain.safetensors"
    dataclasses.replace(world, model=plain.eval()).save(path)
    track(dataclasses.replace(config, world=str(path)))
    after = World.load(config.out).model
    assert after.config.tracking == config.width
    assert after.config.objects == len(after.base.trackers) == 2
    assert {
        n
        for n, v in plain.state_dict().items()
        if not torch.equal(v.half(), after.state_dict()[n].half())
    } == set()


def test_an_object_may_be_known_by_other_colours_in_each_row(
    config: TrackConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind it, where it flies, green grows and counts for nothing; elsewhere it does."""
    channels = np.tile((1, 1, 0), (SIZE, 1))
    channels[6:8] = (1, 0, 0)
    none = np.where(channels[:, 1:2] > 0, 30 + 15 * np.arange(SIZE), 30) * np.ones((SIZE, 1))
    colours = np.arange(3 * SIZE).reshape(SIZE, 3)
    striped = WHITE._replace(
        channels=channels, none=none, contrast=np.full(SIZE, 200), colours=colours
    )
    monkeypatch.setattr("worldflow.track.looks_of", lambda source, shape: (striped,))
    world = World.load(config.world)
    plain = WorldModel(
        dataclasses.replace(world.model.config, tracking=0, objects=1, waiting=False),
        size=SIZE,
        action_count=world.model.action_count,
        reward_support=world.model.reward_support,
    )
    dataclasses.replace(world, model=plain.eval()).save(tmp_path / "plain.safetensors")
    track(dataclasses.replace(config, world=str(tmp_path / "plain.safetensors")))
    model = World.load(config.out).model
    (one,) = model.base.trackers
    assert isinstance(one, Tracker)
    assert model.config.striped
    assert torch.allclose(one.colours * 127.5, torch.from_numpy(colours).T.float(), atol=1e-3)
    for t in (0, 3, 9):
        shown = to_signed(torch.from_numpy(frame(t)))
        assert np.allclose(one.strength(shown[None, None])[0, 0], striped.strength(frame(t)))
        assert striped.strength(frame(t)).sum() == pytest.approx(4)


def test_the_same_command_makes_the_same_world(config: TrackConfig, tmp_path: Path) -> None:
    again = dataclasses.replace(config, out=str(tmp_path / "again.safetensors"))
    track(config)
    track(again)
    assert World.load(config.out).hash == World.load(again.out).hash


def test_the_world_is_told_what_its_object_looks_like(config: TrackConfig, tmp_path: Path) -> None:
    tracker, _ = followed(config, tmp_path, flight(59))
    colour = torch.tensor([200.0, 0.0, 100.0])[:, None] / 127.5  # in all rows
    assert torch.allclose(tracker.colours, colour.expand(3, SIZE), atol=1e-3)
    strength = tracker.strength(to_signed(torch.from_numpy(frame(3)))[None, None])
    assert strength.sum() == pytest.approx(4, abs=1e-3)


def test_a_ball_is_followed_in_recordings(config: TrackConfig, tmp_path: Path) -> None:
    _, flights = followed(config, tmp_path, flight(60))
    assert len(flights.actions) == 60
    assert flights.there.all()
    gone = flights.next - flights.track.places[:, -1]
    assert torch.allclose(gone.abs(), torch.tensor([0.0, 2.0]), atol=0.05)
    turns, goes_on, comes, out_of_sight = (int(kind.sum()) for kind in flights.kinds)
    # It turns at the walls, once in seven steps, and is on a bent line for two more.
    assert turns + goes_on == 60
    assert 60 / 7 - 2 < turns < 3 * 60 / 7 + 2
    assert comes == out_of_sight == 0


def test_a_ball_is_remembered_while_it_is_hidden(config: TrackConfig, tmp_path: Path) -> None:
    """Under a bar, for one step; where it will come out is what is to be learned."""
    frames = flight(60)
    for picture in frames:
        picture[6:8, 8:10, ::2] = 30
    _, flights = followed(config, tmp_path, frames)
    assert len(flights.actions) == 60
    comes, goes = flights.kinds[2:]
    assert torch.equal(comes, flights.track.seen[:, -1] == 0)
    # It passes there twice in fourteen steps.
    assert comes.sum() == pytest.approx(60 / 7, abs=1)
    assert goes.sum() == pytest.approx(60 / 7, abs=1)
    far = (flights.next - flights.track.here)[comes].abs()
    assert torch.allclose(far, torch.tensor([0.0, 4.0]), atol=0.05)


def test_one_that_is_put_elsewhere_is_followed_where_nothing_looks_like_it(
    config: TrackConfig, tmp_path: Path
) -> None:
    """As Pong puts the opponent back after a point; but among its like it is another."""
    frames = flight(40)
    for t, picture in enumerate(frames):
        picture[:] = np.roll(picture, -5 if t < 20 else 6, axis=0)
    tracker, flights = followed(config, tmp_path, frames)
    put = (flights.next - flights.track.here)[:, 0] > 10.5
    assert put.sum() == 1
    assert flights.there.all()
    tracker.among[:, 14:] = 1
    again = follow([tracker], open_dataset(tmp_path / "ball"), config, "cpu")
    assert (~again.there).sum() == 1


def test_where_the_objects_before_it_are_is_followed_too(
    config: TrackConfig, tmp_path: Path
) -> None:
    tracker, alone = followed(config, tmp_path, flight(60))
    both = follow([tracker, tracker], open_dataset(tmp_path / "ball"), config, "cpu")
    assert alone.company == []
    (other,) = both.company
    assert torch.equal(other.places, both.track.places)
    some = chosen(both, slice(5, 9))
    assert torch.equal(some.company[0].places, other.places[5:9])


def test_views_are_those_that_the_tracker_sees(config: TrackConfig, tmp_path: Path) -> None:
    tracker, flights = followed(config, tmp_path, flight(5))
    frames = np.stack([frame(t) for t in range(1, 5)])
    past = to_signed(torch.from_numpy(frames))[None]  # of a step with its whole past
    strength = tracker.strength(past)
    seen = tracker.track(strength)
    index = int((flights.track.places - seen.places).abs().sum(dim=(1, 2)).argmin())
    there = views_of(tracker, flights, flights.track)[index]
    assert there.shape == (6, 2 * AROUND + 1, 2 * AROUND + 1)
    in_play = tracker.views(past, strength, seen)[0]
    assert torch.allclose(there, in_play, atol=1 / 127)  # bytes
    assert in_play.std() > 0.1


def test_views_do_not_show_the_ball_itself(config: TrackConfig, tmp_path: Path) -> None:
    """Or it would be told by them where the ball is, and in training only."""
    _, flights = followed(config, tmp_path, flight(60))
    red, green, blue = flights.views.unflatten(1, (2, 3)).float().unbind(dim=2)
    for flat in (red, blue):
        assert (flat - 30).abs().max() < 3
    assert green.std() > 30


def test_where_a_ball_turns_is_learned(config: TrackConfig, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tracker, flights = followed(config, tmp_path, flight(256), hidden=32)
    long = dataclasses.replace(config, steps=800, average=0.98, learning_rate=5e-3)
    assert learn(tracker, flights, long) == 800
    told = with_errors(flights.track, 0.07, torch.Generator().manual_seed(1))
    with torch.no_grad():
        foretold = tracker.foretold(views_of(tracker, flights, told), told, flights.actions)
    off = (foretold.place - flights.next).norm(dim=1)
    straight = (line(told).leads - flights.next).norm(dim=1)
    assert straight.amax() > 3  # where it turns
    assert off.amax() < 1
    assert off.mean() < straight.mean() / 3
    assert (foretold.right > 0).float().mean() > 0.95
    assert (foretold.mass - 1).abs().mean() < 0.1


@pytest.mark.parametrize(
    ("field", "value"),
    [("kept", 0), ("batch", 0), ("width", 0), ("error", 0.0), ("error", 1.5)],
)
def test_a_wrong_value_is_told(config: TrackConfig, field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{field}={value}"):
        track(dataclasses.replace(config, **{field: value}))


def test_an_object_that_the_game_has_not_is_told(config: TrackConfig) -> None:
    with pytest.raises(InputError, match="object=bat: bounce has ball, shade; or give all"):
        track(dataclasses.replace(config, object="bat"))


def test_recordings_that_do_not_show_the_object_are_told(
    config: TrackConfig, tmp_path: Path
) -> None:
    still = np.full((SIZE, SIZE, 3), 30, np.uint8)
    record_frames(tmp_path / "still" / "a.episode", [still] * 41)
    with pytest.raises(InputError, match="in none of"):
        track(dataclasses.replace(config, data=str(tmp_path / "still")))


def test_a_game_without_an_object_is_told(
    config: TrackConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worldflow.track.looks_of", lambda source, shape: ())
    with pytest.raises(InputError, match="no object is defined of bounce at 16 pixels"):
        track(config)
