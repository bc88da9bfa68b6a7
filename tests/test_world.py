import dataclasses
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_world import SIZE, random_actions, random_frames, tiny_world

from worldflow.errors import InputError
from worldflow.model import WorldModel
from worldflow.world import FORMAT_VERSION, METADATA_KEY, World, read_about, resolve_world


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    tiny_world().save(path)
    return path


def test_a_saved_world_is_the_same_world(path: Path) -> None:
    world = tiny_world()
    again = World.load(path)
    assert again.card == world.card
    assert again.hash == World.load(path).hash == world.hash
    np.testing.assert_array_equal(again.start_frames, world.start_frames)
    np.testing.assert_array_equal(again.start_actions, world.start_actions)
    for (name, a), b in zip(again.model.named_parameters(), world.model.parameters(), strict=True):
        torch.testing.assert_close(a, b.half().float(), rtol=0, atol=0, msg=name)


def test_the_same_world_is_the_same_bytes(path: Path) -> None:
    assert World.load(path).to_bytes() == path.read_bytes() == tiny_world().to_bytes()


def test_the_hash_tells_weights_apart_but_not_cards() -> None:
    world = tiny_world()
    renamed = dataclasses.replace(world, card=dataclasses.replace(world.card, name="other"))
    assert renamed.hash == world.hash
    assert tiny_world(seed=1).hash != world.hash


def test_a_world_without_younger_parts_is_as_it_was_before_there_were_any(path: Path) -> None:
    """Its hash, by which recordings and exports know it, is of a shape that does not name them."""
    deeper = tiny_world()
    assert read_about(path)["model"]["config"]["further"] == deeper.model.config.further == 1
    assert read_about(path)["model"]["config"]["evidence"] is True
    shape = dataclasses.replace(deeper.model.config, further=0, evidence=False)
    support = deeper.model.reward_support
    model = WorldModel(shape, size=SIZE, action_count=3, reward_support=support)
    plain = dataclasses.replace(deeper, model=model)
    plain.save(path)
    assert not {"further", "evidence"} & set(read_about(path)["model"]["config"])
    assert World.load(path).hash == plain.hash


def test_log_prob_encode_and_decode_fit_together() -> None:
    world = tiny_world()
    frames, actions = random_frames(2, 4), random_actions(2, 3)
    noise = world.encode(frames, actions, seed=3)
    assert noise.shape == (2, 3, world.model.noise_size)
    y = world.decode(noise, frames[:, :-1], actions)
    assert y.shape == (2, 3, 3, 16, 16)
    sigma = world.model.config.sigma
    residual = y - (np.moveaxis(frames[:, 1:], -1, 2).astype(np.float32) / 127.5 - 1)
    assert residual.std() == pytest.approx(sigma, rel=0.05)
    np.testing.assert_array_equal(noise, world.encode(frames, actions, seed=3))
    log_prob = world.log_prob(frames, actions)
    assert log_prob.shape == (2, 3)
    assert np.isfinite(log_prob).all()


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        World.load(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_unknown_names_name_the_nearest(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr("worldflow.world.SHIPPED", path.parent)
    assert resolve_world("tiny") == path
    with pytest.raises(InputError, match=r"unknown world 'tinny'.*did you mean 'tiny'"):
        resolve_world("tinny")


def test_a_run_folder_is_its_world(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no world\.safetensors"):
        resolve_world(tmp_path)
    path.rename(tmp_path / "world.safetensors")
    assert resolve_world(tmp_path) == tmp_path / "world.safetensors"


@pytest.mark.parametrize("keep", [0, 5, 100, 2000, -1])
def test_a_truncated_file_is_refused(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    assert str(path) in refusal(path)


def test_other_files_are_refused(path: Path) -> None:
    path.write_bytes(b"RIFF" * 1000)
    assert "no world" in refusal(path)
    save_file({"a": torch.zeros(3)}, path)
    assert "something else" in refusal(path)


def rewrite(path: Path, **about: object) -> None:
    """Change what the file says of itself."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    told = json.loads(header["__metadata__"][METADATA_KEY]) | about
    header["__metadata__"] = {METADATA_KEY: json.dumps(told)}
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data[8 + length :])


def test_another_version_is_refused(path: Path) -> None:
    rewrite(path, version=FORMAT_VERSION + 1)
    assert f"version {FORMAT_VERSION + 1}" in refusal(path)


def test_weights_of_another_model_are_refused(path: Path) -> None:
    tensors = load_file(path)
    about = read_about(path)
    tensors["base.trackers.0.stride.turn.weight"] = torch.zeros(4, 256)
    save_file(tensors, path, {METADATA_KEY: json.dumps(about)})
    told = refusal(path)
    assert "base.trackers.0.stride.turn.weight" in told
    assert "install the worldflow that made it" in told


def test_a_model_of_a_younger_worldflow_is_refused(path: Path) -> None:
    model = json.loads(json.dumps(tiny_world()._shape()))
    model["config"]["hearing"] = 3
    rewrite(path, model=model)
    told = refusal(path)
    assert "hearing=3" in told
    assert "install the worldflow that made it" in told


def test_weights_that_do_not_fit_are_refused(path: Path) -> None:
    model = json.loads(json.dumps(tiny_world()._shape()))
    model["config"]["hidden"] = [16, 8, 8, 8]
    rewrite(path, model=model)
    assert "damaged" in refusal(path)
