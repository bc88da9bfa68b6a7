"""The verb `polish`: only what reads the drawn picture moves, and it reads better."""

import dataclasses
from pathlib import Path

import pytest
import torch
from ripening import ripe_fields
from tiny_world import SIZE, tiny_model

from worldflow.dataset import open_dataset
from worldflow.errors import InputError
from worldflow.model import to_signed
from worldflow.polish import LOOK, OF_CLIP, PolishConfig, look, of_clips, polish
from worldflow.world import World


@pytest.fixture
def config(tmp_path: Path) -> PolishConfig:
    """Of three short episodes and a tiny world."""
    return PolishConfig(**ripe_fields(tmp_path), kept=2 * LOOK * OF_CLIP)


def test_only_the_outcome_head_moves(config: PolishConfig) -> None:
    polish(config)
    before, after = (World.load(path).model.state_dict() for path in (config.world, config.out))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {f"outcome.{layer}.weight" for layer in ("conv1", "conv2", "picture")} <= moved
    assert {f"outcome.{layer}.weight" for layer in ("shrink", "events", "verdict")} <= moved
    assert all(name.startswith("outcome.") for name in moved)
    assert World.load(config.out).card.training["polished_updates"] == 30


def test_pictures_rewards_and_ends_are_read_better(config: PolishConfig) -> None:
    polish(dataclasses.replace(config, steps=200, learning_rate=3e-3))
    kept = look(World.load(config.world).model, open_dataset(config.data), config, "cpu")
    noise = torch.randn(kept.frame.shape, generator=torch.Generator().manual_seed(5))
    off, verdicts = [], []
    for path in (config.world, config.out):
        model = World.load(path).model
        with torch.no_grad():
            outcome = model.outcome(kept.frame + model.config.sigma * noise, kept.conditions())
        off.append(float((kept.counts * (outcome.frame - kept.frame).square()).mean()))
        verdicts.append(
            float(
                torch.nn.functional.cross_entropy(outcome.reward_logits, kept.reward)
                + torch.nn.functional.binary_cross_entropy_with_logits(
                    outcome.termination_logit, kept.terminated
                )
            )
        )
    assert off[1] < 0.7 * off[0]
    assert verdicts[1] < 0.7 * verdicts[0]


def test_the_same_command_makes_the_same_world(config: PolishConfig, tmp_path: Path) -> None:
    again = dataclasses.replace(config, out=str(tmp_path / "again.safetensors"))
    polish(config)
    polish(again)
    assert World.load(config.out).hash == World.load(again.out).hash


def test_what_is_kept_is_recorded(config: PolishConfig) -> None:
    """Each frame is one of the data, with a reward and an end of its own."""
    dataset = open_dataset(config.data)
    kept = look(tiny_model(), dataset, config, "cpu")
    assert 0.8 * config.kept < len(kept.frame) <= config.kept
    frames = to_signed(torch.from_numpy(dataset.episodes[0].frames()))
    apart = (kept.frame[:, None] - frames[None]).abs().amax(dim=(2, 3, 4))
    assert float(apart.amin(dim=1).max()) == 0
    ends = apart.argmin(dim=1) == 40
    assert torch.equal(kept.terminated, ends.float())
    assert kept.counts.shape == (len(kept.frame), 1, SIZE, SIZE)
    assert set(kept.counts.unique().tolist()) <= {1.0, 8.0}


def test_of_each_clip_the_most_open_steps_are_kept_and_some_of_any() -> None:
    left = torch.arange(2 * 20.0).view(2, 20)
    left[1, 3:] = -torch.inf  # an episode that ends
    rows = of_clips(left, torch.Generator().manual_seed(0))
    first, second = rows[rows < 20], rows[rows >= 20]
    assert len(first) == OF_CLIP
    assert {16, 17, 18, 19} <= set(first.tolist())
    assert set(first.tolist()) - {16, 17, 18, 19}
    assert sorted(second.tolist()) == [20, 20, 21, 21, 22, 22]


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"kept": 127}, "kept=127"), ({"batch": 0}, "batch=0"), ({"steps": 0}, "how long")],
)
def test_bad_input_is_refused(config: PolishConfig, changes: dict[str, int], told: str) -> None:
    with pytest.raises(InputError, match=told):
        polish(dataclasses.replace(config, **changes))
