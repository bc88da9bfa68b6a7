"""The verb `settle`: only what chooses moves, and towards what was recorded."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recorded import HEADER, record
from tiny_world import SIZE, WINDOW, some_conditions, tiny_model, tiny_world

import worldflow.settle
from worldflow import haar
from worldflow.dataset import Clips, ClipSampler, open_dataset
from worldflow.errors import InputError, WorkError
from worldflow.model import to_signed
from worldflow.settle import Best, Kept, SettleConfig, keep, odds, out_of_sight, rank, settle
from worldflow.small_objects import SmallObject
from worldflow.world import World

MOVES = ("flow.coarse.", "flow.details.0.")


@pytest.fixture
def config(tmp_path: Path) -> SettleConfig:
    """Of three short episodes and a tiny world."""
    for name in "abc":
        record(tmp_path / "data" / f"{name}.episode", 40)
    tiny_world().save(tmp_path / "tiny.safetensors")
    return SettleConfig(
        world=str(tmp_path / "tiny.safetensors"),
        data=str(tmp_path / "data"),
        out=str(tmp_path / "settled.safetensors"),
        steps=30,
        minutes=0.0,
        kept=60,
        others=0.2,
        unseen=0.0,
        strict=False,
        holdout=0.3,
        seed=0,
        batch=16,
        learning_rate=1e-3,
        weight_decay=0.01,
        average=0.9,
        device="cpu",
        threads=1,
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
    (kept,) = keep(worlds[0].model, dataset, config, "cpu")
    with torch.no_grad():
        before, after = (
            [
                float(part.log_prob.mean())
                for part in world.model.flow.choosing_sites(
                    kept.frame, kept.features.float(), kept.mean
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
        parts = model.flow.choosing_sites(small, given.features.coarse, mean)
    for part, expected in zip(parts, whole, strict=True):
        torch.testing.assert_close(part.log_prob, expected.log_prob, atol=1e-4, rtol=1e-5)


def test_all_steps_are_kept_if_there_is_room(config: SettleConfig) -> None:
    """Each with its own next frame, and with features that remember the steps before it."""
    dataset, model = open_dataset(config.data), tiny_model()
    (kept,) = keep(model, dataset, dataclasses.replace(config, kept=10_000), "cpu")
    assert len(kept.frame) == dataset.steps
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


def test_the_doubtful_come_first_and_a_share_of_any() -> None:
    doubts = torch.where(torch.arange(1000) % 10 == 0, 50.0, 0.0)
    lot = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    chosen = rank(doubts, lot, others=0.02).topk(100).indices
    assert set((lot < 0.02).nonzero()[:, 0].tolist()) <= set(chosen.tolist())
    assert 75 <= int((doubts[chosen] > 0).sum()) < 90


def test_the_best_of_many_offers_are_the_best_of_all() -> None:
    model, ranks = tiny_model(), torch.rand(40, generator=torch.Generator().manual_seed(0))
    frames = torch.arange(40.0).view(-1, 1, 1, 1)
    best = Best(10, model, "cpu")
    for part in torch.arange(40).split(7):
        found = Kept(torch.zeros(1).expand(len(part), 1, 1, 1), frames[part], frames[part])
        best.offer(ranks[part].masked_fill(part == 3, -torch.inf), found)
    ranks[3] = -1
    kept = best.kept().frame[:, 0, 0, 0].long()
    assert sorted(kept.tolist()) == sorted(ranks.topk(10).indices.tolist())


def test_out_of_sight_is_what_the_frames_before_do_not_show() -> None:
    """Of 9 frames the first and the sixth show it; each step knows 4 frames."""
    frames = torch.zeros((1, 9, 4, 4, 3), dtype=torch.uint8)
    frames[0, [0, 5], 1:3, 1:3] = 255
    nothing = np.zeros((1, 5))
    clips = Clips(frames, np.zeros((1, 8), np.int64), nothing, nothing, nothing > 0, nothing)  # type: ignore[arg-type]
    small = SmallObject(lambda f: f[..., 0].astype(np.float32) / 255, mass=4.0)
    assert out_of_sight(small, clips, 4).tolist() == [False, True, False, False, False]


def test_actions_out_of_sight_are_drawn_as_often_however_few_steps_they_have() -> None:
    sizes = [400, 10, 0, 90]
    by_pool = [part.sum() for part in np.split(odds(sizes, 0.6), np.cumsum(sizes)[:-1])]
    assert by_pool == pytest.approx([0.4, 0.3, 0, 0.3])
    assert odds([7], 0.0) == pytest.approx(np.full(7, 1 / 7))
    assert odds([5, 0], 0.5) == pytest.approx(np.full(5, 1 / 5))  # nothing is out of sight


def test_a_world_that_is_settled_again_tells_both_times(config: SettleConfig) -> None:
    settle(config)
    again = Path(config.out).with_name("again.safetensors")
    settle(dataclasses.replace(config, world=config.out, out=str(again), steps=5))
    told = World.load(again).card.training
    assert told["settled_updates"] == 35
    assert told["settled"].count("worldflow") == 2


def test_gradients_that_are_not_finite_move_nothing(
    config: SettleConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, loss = iter([True, False] * 1000), worldflow.settle._loss

    def now_and_then(*arguments: Any) -> torch.Tensor:
        return loss(*arguments) * (torch.nan if next(lost) else 1)

    monkeypatch.setattr("worldflow.settle._loss", now_and_then)
    settle(config)
    after = World.load(config.out).model.state_dict()
    assert all(bool(value.isfinite().all()) for value in after.values())
    monkeypatch.setattr("worldflow.settle._loss", lambda *given: loss(*given) * torch.nan)
    with pytest.raises(WorkError, match=r"below 0\.001"):
        settle(dataclasses.replace(config, steps=60, out=config.out.replace("settled", "never")))
    assert not list(Path(config.out).parent.glob("never*"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"steps": 0}, "how long"),
        ({"minutes": 1.0}, "how long"),
        ({"out": "folder"}, "NAME.safetensors"),
        ({"world": "no-such-world"}, "no-such-world"),
        ({"unseen": 1.5}, "unseen=1.5: expected a share"),
        ({"unseen": 0.5}, "no object is defined of bounce at 16 pixels"),
    ],
)
def test_bad_input_is_refused(config: SettleConfig, changes: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        settle(dataclasses.replace(config, **changes))  # type: ignore[arg-type]


def test_an_out_that_exists_is_kept(config: SettleConfig) -> None:
    Path(config.out).write_text("mine")
    with pytest.raises(InputError, match="expected a new file"):
        settle(config)
    assert Path(config.out).read_text() == "mine"


def test_another_games_data_is_refused(config: SettleConfig, tmp_path: Path) -> None:
    header = dataclasses.replace(HEADER, source="ALE/Pong-v5")
    record(tmp_path / "pong" / "a.episode", 20, header=header)
    with pytest.raises(InputError, match="ALE/Pong-v5 at 16 pixels"):
        settle(dataclasses.replace(config, data=str(tmp_path / "pong")))
