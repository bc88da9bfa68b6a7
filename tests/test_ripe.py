"""Training a part of a ripe world: what is checked, what is told, what moves."""

import dataclasses
from pathlib import Path

import pytest
import torch
from recorded import HEADER, record
from ripening import ripe_fields
from tiny_world import SIZE, tiny_world
from torch import Tensor

from worldflow.dataset import Dataset
from worldflow.errors import InputError, WorkError
from worldflow.ripe import RipeConfig, descend, reshaped, train_part
from worldflow.world import World


@pytest.fixture
def config(tmp_path: Path) -> RipeConfig:
    """Of three short episodes and a tiny world."""
    return RipeConfig(**ripe_fields(tmp_path, steps=5, length=20) | {"batch": 4})


def brighter(world: World, training: Dataset, device: str) -> tuple[World, int]:
    """A world whose mean is a little brighter, after "7 updates"."""
    assert 0 < len(training.episodes) < 3  # the others are held out
    bias = world.model.base.out.bias
    return reshaped(world, {"base.out.bias": bias + 0.01}), 7


def test_what_is_learned_is_written_and_told(
    config: RipeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    train_part(config, "ripened", brighter)
    told = capsys.readouterr().out
    assert "before: held_out_nll_excess_nats" in told
    assert "after 7 updates: held_out" in told
    before, after = (World.load(path) for path in (config.world, config.out))
    assert after.hash != before.hash
    assert after.card.training["ripened_updates"] == 7
    assert after.card.metrics == {}


def test_a_world_that_is_trained_again_tells_both_times(config: RipeConfig) -> None:
    train_part(config, "ripened", brighter)
    again = config.out.replace("out.", "again.")
    train_part(dataclasses.replace(config, world=config.out, out=again), "ripened", brighter)
    told = World.load(again).card.training
    assert told["ripened_updates"] == 14
    assert told["ripened"].count("worldflow") == 2


def test_another_shape_keeps_what_both_have() -> None:
    world = tiny_world()
    bias = torch.randn(24)
    wider = reshaped(world, {"base.out.bias": bias}, further=2)
    old, new = world.model.state_dict(), wider.model.state_dict()
    assert wider.model.config.further == 2
    assert torch.equal(new.pop("base.out.bias"), bias)
    assert set(old) < {*new, "base.out.bias"}
    assert all(torch.equal(new[name], old[name]) for name in new if name in old)
    assert not any(parameter.requires_grad for parameter in wider.model.parameters())


def test_descent_ends_at_the_running_mean(config: RipeConfig) -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    been, rates = [], []

    def move(rate: float) -> None:
        rates.append(rate)
        with torch.no_grad():
            weight.sub_(rate)
        been.append(float(weight.detach()))

    config = dataclasses.replace(config, steps=60, learning_rate=0.01)
    assert descend([weight], lambda: weight.sum(), move, config) == 60
    assert rates == pytest.approx([0.01 * min(1, (i + 1) / 50) * (1 - i / 60) for i in range(60)])
    mean = 1.0
    for step, value in enumerate(been, 1):
        decay = min(0.9, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * value
    assert float(weight.detach()) == pytest.approx(mean, abs=1e-5)


def test_gradients_that_are_not_finite_move_nothing(config: RipeConfig) -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    lost, moves = iter([True, False] * 1000), []

    def now_and_then() -> Tensor:
        return weight.sum() * (torch.nan if next(lost) else 1)

    assert (
        descend([weight], now_and_then, moves.append, dataclasses.replace(config, steps=10)) == 10
    )
    assert len(moves) == 5
    with pytest.raises(WorkError, match=r"50 updates in a row.*below 0\.001"):
        descend(
            [weight],
            lambda: weight.sum() * torch.nan,
            moves.append,
            dataclasses.replace(config, steps=60),
        )


def test_where_nothing_is_finite_it_goes_back_and_on_more_slowly(config: RipeConfig) -> None:
    weight, rates = torch.nn.Parameter(torch.tensor([0.0])), []

    def move(rate: float) -> None:
        rates.append(rate)
        with torch.no_grad():
            weight.add_(1)

    def finite_below_60() -> Tensor:
        return weight.sum() * (1.0 if weight < 60 else torch.nan)

    config = dataclasses.replace(config, steps=112, average=0.99)
    assert descend([weight], finite_below_60, move, config) == 112
    assert len(rates) == 62  # 50 were in vain
    assert rates[-1] == pytest.approx(config.learning_rate / 2 * (1 - 111 / 112))
    assert 30 < weight < 60


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"steps": 0}, "how long"),
        ({"minutes": 1.0}, "how long"),
        ({"out": "folder"}, "NAME.safetensors"),
        ({"world": "no-such-world"}, "no-such-world"),
    ],
)
def test_bad_input_is_refused(config: RipeConfig, changes: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        train_part(dataclasses.replace(config, **changes), "ripened", brighter)  # type: ignore[arg-type]


def test_an_out_that_exists_is_kept(config: RipeConfig) -> None:
    Path(config.out).write_text("mine")
    with pytest.raises(InputError, match="expected a new file"):
        train_part(config, "ripened", brighter)
    assert Path(config.out).read_text() == "mine"


def test_another_games_data_is_refused(config: RipeConfig, tmp_path: Path) -> None:
    header = dataclasses.replace(HEADER, source="ALE/Pong-v5")
    record(tmp_path / "pong" / "a.episode", 20, header=header)
    with pytest.raises(InputError, match=f"ALE/Pong-v5 at {SIZE} pixels"):
        train_part(dataclasses.replace(config, data=str(tmp_path / "pong")), "ripened", brighter)
