"""The verb `steady`: what stands still stays as it was recorded."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from recorded import game_frame, record_frames
from ripening import ripe_fields
from tiny_world import CONFIG, SIZE, tiny_world

from worldflow.dataset import Dataset, open_dataset
from worldflow.errors import InputError
from worldflow.model import WorldModel, to_signed
from worldflow.ripe import reshaped
from worldflow.steady import SteadyConfig, Streams, steady, usual_colours, with_backdrops
from worldflow.world import World

MAY_MOVE = {"base.backdrops", "base.recall.weight", "base.recall.bias", "base.likeness"}


@pytest.fixture
def config(tmp_path: Path) -> SteadyConfig:
    """Of three short episodes and a tiny world."""
    fields = ripe_fields(tmp_path) | {"batch": 4, "learning_rate": 1e-2}
    return SteadyConfig(**fields, backdrops=2)


def test_only_the_recall_of_new_backdrops_moves(config: SteadyConfig) -> None:
    steady(config)
    before, after = (World.load(path).model.state_dict() for path in (config.world, config.out))
    assert {n for n, v in after.items() if not torch.equal(v, before[n])} <= MAY_MOVE
    frames = 4 * CONFIG.history
    for name in ("base.recall.weight", "base.recall.bias"):
        assert torch.equal(after[name][:frames], before[name][:frames])
        assert not torch.equal(after[name][frames : len(before[name])], before[name][frames:])
    assert torch.equal(after["base.backdrops"][: CONFIG.backdrops], before["base.backdrops"])
    training = World.load(config.out).card.training
    assert training["steadied_updates"] == 30


def test_the_same_command_makes_the_same_world(config: SteadyConfig, tmp_path: Path) -> None:
    again = dataclasses.replace(config, out=str(tmp_path / "again.safetensors"))
    steady(config)
    steady(again)
    assert World.load(config.out).hash == World.load(again.out).hash


def test_usual_colours_are_the_most_frequent_of_each_pixel(tmp_path: Path) -> None:
    frames = [np.full((SIZE, SIZE, 3), 30, np.uint8) for _ in range(1000)]
    for t, frame in enumerate(frames):
        if t % 3 == 0:
            frame[2, 5] = (200, 100, 0)
        if t % 10 == 1:
            frame[2, 5] = (0, 0, 255)
    first, second, third = usual_colours(
        open_dataset(record_frames(tmp_path / "a.episode", frames)), 3, seed=0
    )
    assert (first == 30).all()
    assert second[2, 5].tolist() == [200, 100, 0]
    assert third[2, 5].tolist() == [0, 0, 255]
    second[2, 5] = third[2, 5] = 30
    assert (second == 30).all()  # a pixel with one colour has it thrice
    assert (third == 30).all()


def test_new_backdrops_are_hardly_recalled_at_first() -> None:
    world = tiny_world()
    past = torch.rand(2, CONFIG.history, 3, SIZE, SIZE) * 2 - 1
    logits = torch.randn(2, CONFIG.history + CONFIG.backdrops, SIZE, SIZE)
    more = with_backdrops(world, torch.ones(2, 3, SIZE, SIZE))
    base, new = world.model.base, more.model.base
    assert more.model.config.backdrops == CONFIG.backdrops + 2
    assert torch.equal(new.backdrops[CONFIG.backdrops :], torch.ones(2, 3, SIZE, SIZE))
    unlikely = torch.cat((logits, torch.full((2, 2, SIZE, SIZE), -4.0)), dim=1)
    recalled, before = new._recalled(unlikely, past), base._recalled(logits, past)
    assert 0 < float((recalled - before).detach().abs().max()) < 0.3


def drifting() -> World:
    """A world that copies, and is off by about half a level in every step."""
    torch.manual_seed(0)
    world = tiny_world()
    shape = dataclasses.replace(CONFIG, backdrops=0)
    model = WorldModel(shape, size=SIZE, action_count=3, reward_support=torch.tensor([0.0]))
    with torch.no_grad():
        model.base.out.bias[:12] += 0.005
        model.base.out.bias[12:] = -100.0  # sure of it
    return reshaped(dataclasses.replace(world, model=model.requires_grad_(False)))


def drift(model: WorldModel, dataset: Dataset, steps: int) -> float:
    """How far off the pictures of a stream are after `steps`, levels."""
    streams = Streams(model, dataset, 2, seed=5, device="cpu")
    with torch.no_grad():
        for _ in range(steps):
            streams.next_loss()
    shown, recorded = streams.state.frames[:, -1], streams.recorded[:, -1]
    return float((shown.float() - recorded.float()).abs().mean())


def test_what_stands_still_stays(config: SteadyConfig, tmp_path: Path) -> None:
    """A hundred steps of half a level each are many; with a backdrop they come to nothing."""
    path = tmp_path / "still.episode"
    dataset = open_dataset(record_frames(path, [game_frame(0, SIZE)] * 200))
    world = drifting()
    world.save(tmp_path / "drifting.safetensors")
    before = drift(world.model, dataset, 100)
    name = str(tmp_path / "drifting.safetensors")
    steady(dataclasses.replace(config, world=name, data=str(path), steps=200, learning_rate=0.2))
    after = drift(World.load(config.out).model, dataset, 100)
    assert before > 20
    assert after < 2


def test_streams_begin_the_next_episode_where_one_ends(config: SteadyConfig) -> None:
    dataset = open_dataset(config.data)  # all of 40 steps
    streams = Streams(tiny_world().model, dataset, 3, seed=0, device="cpu")
    with torch.no_grad():
        for _ in range(40):
            streams.next_loss()
        assert streams.state.steps.tolist() == [40] * 3
        streams.next_loss()
    assert streams.state.steps.tolist() == [1] * 3
    first, second = (torch.from_numpy(game_frame(t)) for t in (0, 1))
    for row in streams.recorded:
        assert torch.equal(row[-2], first)
        assert torch.equal(row[-1], second)


def test_the_loss_is_the_bases_own_likelihood(config: SteadyConfig) -> None:
    """Where nothing moves and nothing is in doubt, all pixels count alike."""
    dataset = open_dataset(
        record_frames(Path(config.out).with_name("s.episode"), [game_frame(0, SIZE)] * 5)
    )
    model = drifting().model
    streams = Streams(model, dataset, 2, seed=0, device="cpu")
    with torch.no_grad():
        loss = float(streams.next_loss())
        frames = to_signed(torch.from_numpy(game_frame(0, SIZE)))[None].repeat(2, 1, 1, 1)
        noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
        given, _ = model.advance(
            model.first_state(torch.from_numpy(game_frame(0, SIZE))[None].repeat(2, 1, 1, 1)),
            torch.zeros(2, dtype=torch.int64),
        )
        excess = model.base_nll_excess(frames + model.config.sigma * noise, given)
    assert loss == pytest.approx(float(excess.mean()) / frames[0].numel(), abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"backdrops": 0}, "backdrops=0"), ({"batch": 0}, "batch=0"), ({"steps": 0}, "how long")],
)
def test_bad_input_is_refused(config: SteadyConfig, changes: dict[str, int], told: str) -> None:
    with pytest.raises(InputError, match=told):
        steady(dataclasses.replace(config, **changes))
