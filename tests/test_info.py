"""`worldflow info` and `worldflow list` tell what is in a world file."""

import json

import numpy as np
import pytest
import torch

from worldflow.card import WorldCard
from worldflow.cli import main
from worldflow.model import ModelConfig, WorldModel
from worldflow.world import World


@pytest.fixture
def world(tmp_path):
    """The path of a small untrained world."""
    card = WorldCard(
        name="toy",
        game="bounce",
        settings={"size": 16},
        action_names=("NOOP", "LEFT"),
        key_map={"": 0, "left": 1},
        frame_rate=15,
        max_episode_steps=100,
        training={"command": "worldflow train data=toy"},
        metrics={"psnr_1": 40.0},
    )
    shape = ModelConfig(
        channels=(8, 8, 8), blocks=(1, 1, 1), hidden=(4, 4, 4, 4), components=(2, 2, 2, 2)
    )
    model = WorldModel(shape, size=16, action_count=2, reward_support=torch.tensor([0.0, 1.0]))
    frames = np.zeros((2, 3, 16, 16, 3), np.uint8)
    path = tmp_path / "worlds" / "toy.safetensors"
    path.parent.mkdir()
    World(card, model.eval(), frames, np.zeros((2, 2), np.int64)).save(path)
    return path


def test_info_tells_what_the_world_holds(world, tmp_path, capsys):
    out = tmp_path / "info.json"
    assert main(["info", str(world), f"out={out}"]) == 0
    facts = json.loads(out.read_text())
    loaded = World.load(world)
    assert facts["hash"] == loaded.hash
    assert facts["parameters"] == sum(p.numel() for p in loaded.model.parameters())
    assert facts["bytes"] == world.stat().st_size
    assert facts["keys"] == {"none": "NOOP", "left": "LEFT"}
    assert (facts["starts"], facts["frames_per_start"], facts["frame_size"]) == (2, 3, [16, 16])
    told = capsys.readouterr().out
    for text in ("toy", "bounce", facts["hash"], "worldflow train data=toy", "psnr_1  40.0"):
        assert text in told


def test_info_overwrites_nothing(world, tmp_path, capsys):
    out = tmp_path / "info.json"
    out.write_text("mine")
    assert main(["info", str(world), f"out={out}"]) == 2
    assert out.read_text() == "mine"
    assert str(out) in capsys.readouterr().err


def test_list_names_the_shipped_worlds(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("worldflow.world.SHIPPED", world.parent)
    out = tmp_path / "list.json"
    assert main(["list", f"out={out}"]) == 0
    assert capsys.readouterr().out.startswith("toy ")
    assert json.loads(out.read_text()) == [
        {"name": "toy", "game": "bounce", "bytes": world.stat().st_size}
    ]


def test_list_says_so_if_none_is_shipped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("worldflow.world.SHIPPED", tmp_path)
    assert main(["list"]) == 0
    assert "no worlds" in capsys.readouterr().out
