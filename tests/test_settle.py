"""The verb `settle`: only what chooses moves, and towards what was recorded."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ripening import ripe_fields
from tiny_world import ACTIONS, SIZE, WINDOW, some_conditions, tiny_model
from torch import Tensor

from worldflow import haar
from worldflow.base import Conditions
from worldflow.dataset import Clips, ClipSampler, open_dataset
from worldflow.errors import InputError
from worldflow.mixture_head import SCALE_FLOOR
from worldflow.model import WorldModel, to_signed
from worldflow.ripe import reshaped
from worldflow.settle import (
    LATEST,
    Best,
    Kept,
    Pool,
    SettleConfig,
    alike,
    keep,
    left_open,
    odds,
    out_of_sight,
    overdue,
    settle,
)
from worldflow.small_objects import SmallObject, count_objects
from worldflow.world import World

MOVES = ("flow.coarse.", "flow.details.0.", "flow.ways.", "flow.waiting.")


@pytest.fixture
def config(tmp_path: Path) -> SettleConfig:
    """Of three short episodes and a tiny world."""
    return SettleConfig(
        **ripe_fields(tmp_path),
        kept=60,
        others=0.2,
        unseen=0.0,
        further=0,
        evidence=False,
        ways=0,
        waiting=False,
        weight_decay=0.01,
    )


def test_only_the_choosing_steps_move(config: SettleConfig) -> None:
    settle(config)
    before, after = (World.load(path).model.state_dict() for path in (config.world, config.out))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith(MOVES) for name in moved)
    assert World.load(config.out).card.training["settled_updates"] == 30


def test_what_was_recorded_becomes_likelier(config: SettleConfig) -> None:
    settle(dataclasses.replace(config, steps=100, learning_rate=1e-2))
    dataset = open_dataset(config.data)
    worlds = [World.load(path) for path in (config.world, config.out)]
    kept = keep(worlds[0].model, dataset, config, "cpu")[1].steps
    with torch.no_grad():
        before, after = (
            [
                float(part.log_prob.mean())
                for part in world.model.flow.choosing_sites(
                    kept.frame,
                    world.model.flow.told(kept.features.float(), kept.recency),
                    kept.mean,
                )
            ]
            for world in worlds
        )
    assert after[0] > before[0] + 1
    assert after[1] > before[1] + 1


def test_the_same_command_settles_the_same_world(config: SettleConfig, tmp_path: Path) -> None:
    again = dataclasses.replace(config, out=str(tmp_path / "new" / "again.safetensors"))
    settle(config)
    settle(again)
    assert World.load(config.out).hash == World.load(again.out).hash


def test_the_choosing_sites_are_the_flows_own() -> None:
    """Of the picture at a quarter of the size, they are the first two of `sites`."""
    model = tiny_model()
    given = some_conditions(model, 3)
    y = torch.randn(3, 3, SIZE, SIZE)
    small, mean = (haar.pyramid(picture, 2).pictures[0] for picture in (y, given.mean))
    with torch.no_grad():
        whole = model.flow.sites(y, given)[:2]
        informed = model.flow.informed(given)
        parts = model.flow.choosing_sites(small, informed.features.coarse, mean)
    for part, expected in zip(parts, whole, strict=True):
        torch.testing.assert_close(part.log_prob, expected.log_prob, atol=1e-4, rtol=1e-5)


def test_all_steps_are_kept_if_there_is_room(config: SettleConfig) -> None:
    """Each with its own next frame, and with features that remember the steps before it."""
    dataset, model = open_dataset(config.data), tiny_model(seed=0)
    pools = keep(model, dataset, dataclasses.replace(config, kept=10_000), "cpu")
    kept = pools[0].steps
    assert [len(pool.weights) for pool in pools] == [dataset.steps, dataset.steps]
    # Step 72 of the data is in the second of the 40-step episodes, in its clip from 66 on.
    clips = ClipSampler(dataset, 1, 1, 0, past=3).steps(np.array([66]), WINDOW + 8)
    frames = to_signed(clips.frames)
    with torch.no_grad():
        given = model.conditions(frames[:, :-1], torch.from_numpy(clips.actions))
        alone = model.conditions(frames[:, 6:10], torch.from_numpy(clips.actions[:, 6:10]))
    features, frame = given.features.coarse[6], haar.pyramid(frames[:, 4 + 6], 2).pictures[0]
    row = int((kept.frame - frame).abs().amax(dim=(1, 2, 3)).argmin())
    torch.testing.assert_close(kept.frame[row : row + 1], frame, atol=1e-5, rtol=0)
    # In bfloat16 where the machine has it.
    torch.testing.assert_close(kept.features[row].float(), features, atol=0.1, rtol=0.05)
    assert float((alone.features.coarse[0] - features).abs().max()) > 0.3  # so it does matter


def test_what_is_left_most_open_is_kept_and_a_share_of_any(
    config: SettleConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def brightness(flow: Any, features: Any, mean: torch.Tensor, generator: Any) -> torch.Tensor:
        return mean.mean(dim=(1, 2, 3)) + 8  # positive

    monkeypatch.setattr("worldflow.settle.left_open", brightness)
    dataset, model = open_dataset(config.data), tiny_model()
    everything, _ = keep(model, dataset, dataclasses.replace(config, kept=10_000), "cpu")
    open_ones, any_ones = keep(model, dataset, config, "cpu")
    assert (len(open_ones.weights), len(any_ones.weights)) == (48, 12)
    best = everything.weights.topk(48).values
    torch.testing.assert_close(open_ones.weights.sort(descending=True).values, best)
    torch.testing.assert_close(
        open_ones.weights, open_ones.steps.mean.mean(dim=(1, 2, 3)) + 8, atol=0.01, rtol=0
    )
    assert any_ones.weights.unique().tolist() == [1]
    assert float(any_ones.steps.mean.mean()) < float(open_ones.steps.mean.mean())


def test_what_is_left_open_is_the_entropy_above_the_noise() -> None:
    """Of sites at which two components, as wide as the noise and far apart, are as likely."""
    model = tiny_model()
    flow = model.flow
    with torch.no_grad():
        for step in (flow.coarse, flow.details[0]):
            for layer in (step.head.weigh, step.head.spread, step.head.gap, step.rendering.out):
                layer.weight.zero_()
            step.head.weigh.bias.fill_(-100.0)[:2] = 0.0
            step.head.spread.bias.fill_(np.log(1 / SCALE_FLOOR - 1))
            step.head.gap.bias.fill_(-100.0)
        for part in (flow.details[0].evidence, flow.ways):
            for parameter in part.parameters():
                parameter.zero_()
        features, mean = torch.randn(50, model.config.channels[2], 2, 2), torch.zeros(50, 3, 4, 4)
        left = left_open(flow, features, mean, torch.Generator().manual_seed(0))
    torch.testing.assert_close(left, torch.full((50,), 8 * np.log(2.0)), atol=0.01, rtol=0)


def test_a_draw_of_the_choosing_steps_is_the_flows_own() -> None:
    model = tiny_model()
    given, noise = some_conditions(model, 3), torch.randn(3, model.flow.noise_size)
    with torch.no_grad():
        whole = model.flow.decode(noise, given, torch.ones(3))
        quarter, mean = (haar.pyramid(picture, 2).pictures[0] for picture in (whole, given.mean))
        features = model.flow.informed(given).features.coarse
        drawn = model.flow.choosing_draw(noise, features, mean)
    torch.testing.assert_close(drawn, quarter, atol=1e-4, rtol=1e-4)


def test_the_best_of_many_offers_are_the_best_of_all() -> None:
    model, ranks = tiny_model(), torch.rand(40, generator=torch.Generator().manual_seed(0))
    frames = torch.arange(40.0).view(-1, 1, 1, 1)
    best = Best(10, model, "cpu")
    for part in torch.arange(40).split(7):
        features, shown = torch.zeros(1).expand(len(part), 1, 1, 1), frames[part]
        found = Kept(features, shown, shown, recency=part.float())
        best.offer(ranks[part].masked_fill(part == 3, -torch.inf), found)
    ranks[3] = -1
    steps, of_steps = best.kept()
    kept = steps.frame[:, 0, 0, 0].long()
    assert sorted(kept.tolist()) == sorted(ranks.topk(10).indices.tolist())
    assert torch.equal(of_steps, ranks[kept])
    assert torch.equal(steps.recency.long(), kept)


def test_out_of_sight_is_what_the_frames_before_do_not_show() -> None:
    """Of 9 frames the first and the sixth show it; each step knows 4 frames.

    In another clip the sixth alone: of one that never was in sight, nobody knows that it was due.
    """
    frames = torch.zeros((2, 9, 4, 4, 3), dtype=torch.uint8)
    frames[0, [0, 5], 1:3, 1:3] = frames[1, 5, 1:3, 1:3] = 255
    nothing = np.zeros((2, 5))
    clips = Clips(frames, np.zeros((2, 8), np.int64), nothing, nothing, nothing > 0, nothing)  # type: ignore[arg-type]
    small = SmallObject(lambda f: f[..., 0].astype(np.float32) / 255, mass=4.0)
    told = out_of_sight(small, clips, 4)
    assert told.gone.reshape(2, 5).tolist() == [
        [False, True, False, False, False],
        [True, True, False, False, False],
    ]
    assert np.flatnonzero(told.comes).tolist() == [1]


def test_what_comes_in_sight_comes_later_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the oldest frame that its step knows had stayed, and nothing had been done."""
    model, steps, before = tiny_model(), 20, 3
    numbers = torch.arange(before + steps + 1, dtype=torch.uint8)[:, None, None, None]
    frames = numbers.expand(-1, SIZE, SIZE, 3)[None].repeat(2, 1, 1, 1, 1)
    actions = np.stack([np.full(before + steps, 2), np.arange(before + steps) % 2 + 1])
    comes = np.zeros((2, steps), np.bool_)
    comes[0, 4] = comes[1, 17] = comes[1, 19] = True  # with frames 8, 21 and 23
    nothing = np.zeros((2, steps))
    clips = Clips(frames, actions, nothing, nothing > 0, nothing > -1, nothing)  # type: ignore[arg-type]
    asked: list[tuple[Tensor, Tensor]] = []
    conditions = model.conditions

    def watched(frames: Tensor, actions: Tensor) -> Conditions:
        asked.append((frames, actions))
        return conditions(frames, actions)

    monkeypatch.setattr(model, "conditions", watched)
    with torch.no_grad():
        late, taken = overdue(model, clips, comes.ravel(), np.random.default_rng(0))
    ((shown, done),) = asked
    places = ((shown[:, :, 0, 0, 0] + 1) * 127.5).round().long().tolist()
    for row, (clip, brings) in enumerate(((0, 8), (1, 21), (1, 23))):
        known = list(range(brings - 4, brings))
        assert places[row][-4:] == known
        held = places[row].count(known[0]) - 1
        assert 1 <= held <= LATEST
        earlier = places[row][: -4 - held]
        wanted = np.arange(known[0] - len(earlier), known[0])
        assert earlier == wanted.clip(min=0).tolist()
        does = [int(actions[clip, place]) if place >= 0 else ACTIONS for place in wanted]
        assert done[row].tolist() == does + [0] * held + actions[clip, known].tolist()
        assert int(taken[row]) == actions[clip, brings - 1]
        assert torch.allclose(late.frame[row].mean(), torch.tensor(brings / 127.5 - 1) * 4)
    assert late.recency.shape == (3,)


def test_steps_that_bring_the_object_back_are_kept_twice(
    config: SettleConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As recorded, and late; if the world waits, and while it remembers what it waits for."""
    rows = (np.arange(SIZE) < 2)[:, None]
    small = SmallObject(lambda f: (f[..., 1] > 200) * rows * 1.0, 4.0)  # type: ignore[arg-type,return-value]
    monkeypatch.setattr("worldflow.settle.watched", lambda *_: small)
    monkeypatch.setattr("worldflow.settle.LATEST", 3)
    dataset, found = open_dataset(config.data), []
    shown = count_objects(small, dataset.episodes[0].frames()) > 0
    for waits in (False, True):
        model = tiny_model()
        model.config = dataclasses.replace(model.config, waiting=waits)
        some = dataclasses.replace(config, kept=3000, unseen=0.6)
        pools = keep(model, dataset, some, "cpu")[2:]
        found.append(torch.cat([pool.steps.frame for pool in pools]))
    recorded, both = (frames[:, 0].flatten(1).round(decimals=4).tolist() for frames in found)
    late = [frame for frame in both if both.count(frame) > recorded.count(frame)]
    assert len(both) > len(recorded) > 0
    brings = sum(bool(shown[t]) and not shown[t - 4 : t].any() for t in range(4, len(shown)))
    assert 0 < len(both) - len(recorded) <= brings * len(dataset.episodes)
    assert all(frame in recorded for frame in late)


def test_actions_out_of_sight_are_drawn_as_often_however_few_steps_they_have() -> None:
    model, sizes = tiny_model(), [10, 0, 90]
    unseen = [Best(size, model, "cpu") for size in sizes]
    for best, size in zip(unseen, sizes, strict=True):
        rows = torch.zeros(size, 1, 1, 1)
        best.offer(torch.rand(size), Kept(rows, rows, rows, rows[:, 0, 0, 0]))
    pools = alike(unseen, 0.6)
    open_ones = Pool(pools[2].steps, torch.arange(90.0), 0.4)
    each = odds([open_ones, *pools])
    by_pool = [float(part.sum()) for part in np.split(each, [90, 100, 100])]
    assert by_pool == pytest.approx([0.4, 0.3, 0, 0.3])
    assert each[[2, 4]] == pytest.approx(0.4 * np.array([2, 4]) / (89 * 45))
    assert each[90:100] == pytest.approx(np.full(10, 0.03))


def without(world: World, part: str, **shape: Any) -> World:
    """`world` as if it had never had `part`."""
    model = WorldModel(
        dataclasses.replace(world.model.config, **shape),
        size=SIZE,
        action_count=3,
        reward_support=world.model.reward_support,
    )
    kept = {name: value for name, value in world.model.state_dict().items() if part not in name}
    model.load_state_dict(kept)
    return dataclasses.replace(world, model=model.requires_grad_(False).eval())


def test_ways_that_are_added_part_and_learn_their_odds(config: SettleConfig) -> None:
    plain = without(World.load(config.world), "ways", ways=0)
    plain.save(Path(config.world))
    settle(dataclasses.replace(config, ways=4))
    model = World.load(config.out).model
    learned = model.state_dict()
    assert model.config.ways == 4
    assert model.noise_size == plain.model.noise_size + 1
    assert float(learned["flow.ways.odds.bias"].abs().max()) > 0
    assert float(learned["flow.ways.favour.weight"].abs().max()) > 0


@pytest.mark.parametrize(
    ("part", "weight"),
    [
        ("evidence", "flow.details.0.evidence.expected.weight"),
        ("waiting", "flow.waiting.out.weight"),
    ],
)
def test_a_part_that_is_added_begins_as_nothing_and_learns(
    config: SettleConfig, part: str, weight: str
) -> None:
    world = World.load(config.world)
    plain = without(world, part, **{part: False})
    plain.save(Path(config.world))
    with_it = reshaped(plain, **{part: True}).model
    noise, given = torch.randn(3, with_it.flow.noise_size), some_conditions(with_it, 3)
    with torch.no_grad():
        drawn, before = (m.flow.decode(noise, given, torch.ones(3)) for m in (with_it, plain.model))
    torch.testing.assert_close(drawn, before)
    asked: dict[str, Any] = {part: True}
    settle(dataclasses.replace(config, **asked))
    settle(dataclasses.replace(config, world=config.out, out=config.out.replace("out.", "twice.")))
    for path in (config.out, config.out.replace("out.", "twice.")):
        model = World.load(path).model  # once it has it, it stays
        assert getattr(model.config, part)
        assert float(model.state_dict()[weight].abs().max()) > 0


def test_a_world_that_sees_no_object_waits_for_none(config: SettleConfig) -> None:
    world = without(World.load(config.world), "waiting", waiting=False)
    without(world, "trackers", tracking=0).save(Path(config.world))
    with pytest.raises(InputError, match=r"waiting=true: .* no tracker.*worldflow track"):
        settle(dataclasses.replace(config, waiting=True))


def test_layers_that_are_added_begin_as_nothing_and_learn(config: SettleConfig) -> None:
    world = World.load(config.world)
    deeper = reshaped(world, further=2).model
    noise = torch.randn(3, deeper.flow.noise_size)
    given = some_conditions(deeper, 3)
    with torch.no_grad():
        drawn, before = (m.flow.decode(noise, given, torch.ones(3)) for m in (deeper, world.model))
    assert torch.equal(drawn, before)
    settle(dataclasses.replace(config, further=1))
    model = World.load(config.out).model
    assert model.config.further == 2
    told = World.load(config.out).card.training["parameters"]
    assert told == sum(each.numel() for each in model.parameters())
    assert float(model.state_dict()["flow.details.0.further.1.conv2.weight"].abs().max()) > 0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"unseen": 1.5}, "unseen=1.5: expected two shares"),
        ({"others": -0.1}, "others=-0.1"),
        ({"further": -1}, "further=-1"),
        ({"ways": 1}, "ways=1"),
        ({"ways": 5}, "ways=5"),  # the world has 3
        ({"kept": 0}, "no step is kept"),
        ({"unseen": 0.5}, "no object is defined of bounce at 16 pixels"),
    ],
)
def test_bad_input_is_refused(config: SettleConfig, changes: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        settle(dataclasses.replace(config, **changes))  # type: ignore[arg-type]
