"""The verb `polish`: only what makes a picture of a choice and reads it moves, and does better."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from recorded import game_frame, record_frames
from ripening import ripe_fields
from tiny_world import SIZE, tiny_model

from worldflow.dataset import open_dataset
from worldflow.errors import InputError
from worldflow.model import Outcome, to_signed
from worldflow.polish import (
    COUNT_BESIDE,
    LOOK,
    OF_CLIP,
    Kept,
    PolishConfig,
    look,
    of_clips,
    polish,
    unseen_steps,
    windows,
)
from worldflow.small_objects import SmallObject, count_objects
from worldflow.world import World


@pytest.fixture
def config(tmp_path: Path) -> PolishConfig:
    """Of three short episodes and a tiny world."""
    return PolishConfig(**ripe_fields(tmp_path), kept=2 * LOOK * OF_CLIP, unseen=0.0, learns="all")


def test_only_what_follows_a_choice_moves(config: PolishConfig) -> None:
    polish(config)
    before, after = (World.load(path).model.state_dict() for path in (config.world, config.out))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {f"outcome.{layer}.weight" for layer in ("conv1", "conv2", "picture")} <= moved
    assert {f"outcome.{layer}.weight" for layer in ("shrink", "events", "verdict")} <= moved
    assert {f"flow.details.{i}.head.weigh.weight" for i in (1, 2)} <= moved
    following = ("outcome.", "flow.details.1.", "flow.details.2.")
    assert all(name.startswith(following) for name in moved)
    assert World.load(config.out).card.training["polished_updates"] == 30


def test_the_outcome_head_stays_if_told_so(config: PolishConfig) -> None:
    polish(dataclasses.replace(config, learns="finer"))
    before, after = (World.load(path).model.state_dict() for path in (config.world, config.out))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {f"flow.details.{i}.head.weigh.weight" for i in (1, 2)} <= moved
    assert all(name.startswith(("flow.details.1.", "flow.details.2.")) for name in moved)


def test_the_verdict_alone_moves_and_is_better(config: PolishConfig) -> None:
    config = dataclasses.replace(config, learns="verdict", steps=60, learning_rate=5e-3)
    polish(config)
    before, after = (World.load(path).model for path in (config.world, config.out))
    old, new = before.state_dict(), after.state_dict()
    moved = {name for name, value in new.items() if not torch.equal(value, old[name])}
    heads = {f"outcome.{layer}." for layer in ("shrink", "events", "verdict")}
    assert moved == {head + part for head in heads for part in ("weight", "bias")}
    kept, _ = look(before, open_dataset(config.data), config, "cpu")
    off = [
        _misread(model.outcome(kept.frame, kept.conditions()), kept) for model in (before, after)
    ]
    assert off[1] < 0.7 * off[0]


def _misread(outcome: Outcome, kept: Kept) -> float:
    """The cross-entropies of rewards and ends."""
    of_reward = torch.nn.functional.cross_entropy(outcome.reward_logits, kept.reward)
    return float(
        of_reward
        + torch.nn.functional.binary_cross_entropy_with_logits(
            outcome.termination_logit, kept.terminated
        )
    )


def test_a_verdict_is_learned_around_events_and_beside_them(
    config: PolishConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worldflow.polish.AROUND_EVENT", np.arange(2))
    config = dataclasses.replace(config, learns="verdict")
    model, dataset = World.load(config.world).model, open_dataset(config.data)
    kept, odds = look(model, dataset, config, "cpu")
    columns, around = dataset.columns, odds == 1.0
    events = int(((columns.reward != 0) | columns.terminated).sum())
    earned = kept.reward[:, model.reward_support != 0].sum(dim=1) > 0
    assert int((earned | (kept.terminated > 0)).sum()) == events  # all, for there are few
    assert not (earned | (kept.terminated > 0))[~around].any()
    assert events < int(around.sum()) <= 2 * events
    assert 0 < int((odds == COUNT_BESIDE).sum()) == len(odds) - int(around.sum())


def test_without_an_event_no_verdict_is_learned(config: PolishConfig, tmp_path: Path) -> None:
    record_frames(tmp_path / "still" / "a.episode", [game_frame(t) for t in range(40)])
    still = dataclasses.replace(config, data=str(tmp_path / "still"), learns="verdict", holdout=0.0)
    with pytest.raises(InputError, match="no reward and no end is recorded"):
        look(World.load(config.world).model, open_dataset(still.data), still, "cpu")


def test_pictures_rewards_and_ends_are_read_better(config: PolishConfig) -> None:
    polish(dataclasses.replace(config, steps=200, learning_rate=3e-3))
    kept, _ = look(World.load(config.world).model, open_dataset(config.data), config, "cpu")
    noise = torch.randn(kept.frame.shape, generator=torch.Generator().manual_seed(5))
    off, verdicts, unlikely = [], [], []
    for path in (config.world, config.out):
        model = World.load(path).model
        with torch.no_grad():
            y, given = kept.frame + model.config.sigma * noise, kept.conditions()
            outcome, sites = model.outcome(y, given), model.flow.following_sites(y, given)
        unlikely.append(-float(torch.stack([part.log_prob.mean() for part in sites]).sum()))
        off.append(float((kept.counts * (outcome.frame - kept.frame).square()).mean()))
        verdicts.append(_misread(outcome, kept))
    assert off[1] < 0.7 * off[0]
    assert verdicts[1] < 0.7 * verdicts[0]
    assert unlikely[1] < unlikely[0] - 1


def test_the_same_command_makes_the_same_world(config: PolishConfig, tmp_path: Path) -> None:
    again = dataclasses.replace(config, out=str(tmp_path / "again.safetensors"))
    polish(config)
    polish(again)
    assert World.load(config.out).hash == World.load(again.out).hash


def test_what_is_kept_is_recorded(config: PolishConfig) -> None:
    """Each frame is one of the data, with a reward and an end of its own."""
    dataset = open_dataset(config.data)
    kept, odds = look(tiny_model(), dataset, config, "cpu")
    assert 0.8 * config.kept < len(kept.frame) <= config.kept
    frames = to_signed(torch.from_numpy(dataset.episodes[0].frames()))
    apart = (kept.frame[:, None] - frames[None]).abs().amax(dim=(2, 3, 4))
    assert float(apart.amin(dim=1).max()) == 0
    ends = apart.argmin(dim=1) == 40
    assert torch.equal(kept.terminated, ends.float())
    assert kept.counts.shape == (len(kept.frame), 1, SIZE, SIZE)
    assert set(kept.counts.unique().tolist()) <= {1.0, 8.0}
    assert float(odds.sum()) == pytest.approx(1)
    assert float(odds.min()) >= 0.5 / len(odds)


def test_of_each_clip_the_most_open_steps_are_kept_and_some_of_any() -> None:
    left = torch.arange(2 * 20.0).view(2, 20)
    left[1, 3:] = -torch.inf  # an episode that ends
    rows = of_clips(left, torch.Generator().manual_seed(0))
    first, second = rows[rows < 20], rows[rows >= 20]
    assert len(first) == OF_CLIP
    assert {16, 17, 18, 19} <= set(first.tolist())
    assert set(first.tolist()) - {16, 17, 18, 19}
    assert sorted(second.tolist()) == [20, 20, 21, 21, 22, 22]


def test_steps_out_of_sight_are_kept_as_many_of_each_action(
    config: PolishConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their object is a ball that shows in the two top rows alone, in 2 frames of 14."""
    small = SmallObject(lambda f: (f[..., 1] > 200) * (np.arange(SIZE) < 2)[:, None] * 1.0, 4.0)  # type: ignore[arg-type,return-value]
    monkeypatch.setattr("worldflow.polish.watched", lambda *_: small)
    dataset, model = open_dataset(config.data), tiny_model()
    config = dataclasses.replace(config, unseen=0.4)
    quota = int(config.kept * 0.4 / 3)
    kept, odds = look(model, dataset, config, "cpu")
    by_action = unseen_steps(dataset, small, model.config.history, quota, config.seed)
    steps = np.sort(np.concatenate(by_action))
    its_odds, frames = odds[-len(steps) :].numpy(), kept.frame[-len(steps) :]
    assert float(odds.sum()) == pytest.approx(1)
    for action, of_action in enumerate(by_action):
        assert 0 < len(of_action) <= quota
        assert set(of_action % 40 % 3) == {action}  # as `game_step` has them; 40 steps an episode
        assert its_odds[np.isin(steps, of_action)].sum() == pytest.approx(0.4 / 3)
    recorded = dataset.episodes[0].frames()
    assert torch.equal(frames, to_signed(torch.from_numpy(recorded[steps % 40 + 1])))
    shown = count_objects(small, recorded) > 0
    for step in steps % 40:
        assert not shown[max(step - model.config.history + 1, 0) : step + 1].any()


def test_few_clips_hold_all_steps_each_after_what_it_remembers() -> None:
    steps, begun = np.array([3, 10, 11, 31, 45, 56]), np.array([0, 30, 60])
    clips = windows(steps, begun, before=8, length=12)
    assert clips.tolist() == [[0, 3], [30, 31], [37, 45], [48, 56]]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kept": 255}, "kept=255"),
        ({"batch": 0}, "batch=0"),
        ({"steps": 0}, "how long"),
        ({"unseen": 1.0}, "unseen=1.0: expected a share"),
        ({"learns": "rewards"}, "learns=rewards: expected all, finer, verdict"),
        ({"learns": "verdict", "unseen": 0.4}, "learns=verdict unseen=0.4: .* leave unseen out"),
        ({"unseen": 0.5}, "no object is defined of bounce at 16 pixels"),
    ],
)
def test_bad_input_is_refused(config: PolishConfig, changes: dict[str, int], told: str) -> None:
    with pytest.raises(InputError, match=told):
        polish(dataclasses.replace(config, **changes))
