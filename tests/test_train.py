import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from recorded import HEADER, game_frame, game_step, record
from safetensors import safe_open
from tiny_world import CONFIG

from worldflow.checkpoint import METADATA_KEY
from worldflow.dataset import Clips, open_dataset
from worldflow.episode import EpisodeWriter
from worldflow.errors import InputError, WorkError
from worldflow.model import to_bytes
from worldflow.objective import ObjectiveConfig
from worldflow.train import TrainConfig, train
from worldflow.trainer import Trainer
from worldflow.world import World


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in "abc":
        record(tmp_path / "data" / f"{name}.episode", 40)
    return tmp_path / "data"


def settings(data: Path, out: Path, **changes: object) -> TrainConfig:
    config = TrainConfig(
        data=str(data),
        out=str(out),
        strict=False,
        model=CONFIG,
        steps=6,
        minutes=0.0,
        name="",
        init="",
        seed=0,
        batch=2,
        horizon=4,
        fresh=0.1,
        doubtful=0.5,
        eventful=0.0,
        renewal=2,
        long_every=3,
        learning_rate=1e-3,
        weight_decay=0.01,
        average=0.9,
        holdout=0.3,
        objective=ObjectiveConfig(),
        device="cpu",
        threads=1,
        resident=None,
        bfloat16=True,
        compile=False,
        log_every=2,
        checkpoint_minutes=0.0,
        film_minutes=0.0,
        tensorboard=False,
    )
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def tensors(run: Path) -> dict[str, torch.Tensor]:
    with safe_open(run / "checkpoint.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def progress(run: Path) -> int:
    # In one reading: `safe_open` opens the file twice, and between the two another may stand there.
    head = (run / "checkpoint.safetensors").read_bytes()
    size = int.from_bytes(head[:8], "little")
    about = json.loads(head[8 : 8 + size])["__metadata__"][METADATA_KEY]
    return int(json.loads(about)["progress"]["step"])


def start(data: Path, out: Path, **changes: object) -> subprocess.Popen[bytes]:
    """The command `worldflow train`, in a process of its own."""
    overrides = {"steps": 40, "log_every": 10, "device": "cpu", "threads": 1} | changes
    overrides |= {f"model.{name}": value for name, value in dataclasses.asdict(CONFIG).items()}
    overrides |= {"batch": 2, "horizon": 4, "long_every": 3, "renewal": 7, "film_minutes": 0}
    command = [sys.executable, "-m", "worldflow", "train", f"data={data}", f"out={out}"]
    command += [
        f"{key}={value}".replace("(", "[").replace(")", "]") for key, value in overrides.items()
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(run: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    """Until a checkpoint of at least `step` is there."""
    while not (run / "checkpoint.safetensors").exists() or progress(run) < step:
        assert process.poll() is None
        time.sleep(0.01)


def test_a_killed_run_ends_where_an_uninterrupted_one_ends(data: Path, tmp_path: Path) -> None:
    """SIGKILL after some checkpoint, rerun, and every tensor is the same to the last bit."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    other = start(data, whole, checkpoint_minutes=100)
    process = start(data, killed, checkpoint_minutes=0)
    wait_for(killed, 5, process)
    process.kill()
    process.wait()
    assert 5 <= progress(killed) < 40
    assert start(data, killed, checkpoint_minutes=0).wait() == 0
    assert other.wait() == 0
    expected, found = tensors(whole), tensors(killed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert World.load(whole).hash == World.load(killed).hash
    steps = [json.loads(line)["step"] for line in (killed / "log.jsonl").open()]
    assert steps == [10, 20, 30, 40]


def test_ctrl_c_keeps_all_updates(data: Path, tmp_path: Path) -> None:
    process = start(data, tmp_path / "run", steps=100_000, checkpoint_minutes=0.001)
    wait_for(tmp_path / "run", 1, process)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    world = World.load(tmp_path / "run")
    assert world.card.training["updates"] == progress(tmp_path / "run") >= 1


def test_training_learns(data: Path, tmp_path: Path) -> None:
    plain = settings(
        data, tmp_path / "run", steps=40, log_every=10, learning_rate=6e-2, doubtful=0.0
    )
    train(plain)
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").open()]
    losses = [line["base_nll_excess_nats"] for line in lines]
    assert losses[-1] < 0.7 * losses[0]
    assert lines[-1]["skipped_updates"] == 0


def test_a_run_leaves_a_playable_world_and_films(data: Path, tmp_path: Path) -> None:
    train(settings(data, tmp_path / "run", film_minutes=1.0, name="paddle", steps=2))
    world = World.load(tmp_path / "run")
    assert world.card.name == "paddle"
    assert world.card.game == "bounce"
    assert world.start_frames.shape == (2, 8, 16, 16, 3)  # of the two training episodes
    assert world.card.training["updates"] == 2
    assert world.card.training["frames"] == 80
    assert np.array_equal(world.model.reward_support[:2].numpy(), np.float32([0, 0.4]))
    assert (tmp_path / "run/film-last.gif").stat().st_size > 1000
    assert (tmp_path / "run/film-last.png").stat().st_size > 1000


def test_bad_steps_are_left_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update whose gradient is not finite changes no weight, and is counted."""
    from worldflow import learning, trainer

    honest = learning.training_loss

    def broken(*arguments: object) -> object:
        loss, *others = honest(*arguments)  # type: ignore[arg-type]
        return loss * float("nan"), *others

    monkeypatch.setattr(learning, "training_loss", broken)
    train(settings(data, tmp_path / "run", steps=2))
    assert all(bool(torch.isfinite(value).all()) for value in tensors(tmp_path / "run").values())
    line = json.loads((tmp_path / "run/log.jsonl").read_text())
    assert line["skipped_updates"] == 2
    monkeypatch.setattr(trainer, "PATIENCE", 3)
    with pytest.raises(WorkError, match=r"3 updates in a row .* compile=false"):
        train(settings(data, tmp_path / "run", steps=9))


def test_errors_are_bounded_late(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(settings(data, tmp_path / "run", steps=100), open_dataset(data), "cpu")
    bounds = []
    for step in (0, 40, 55, 70, 99):
        trainer.progress.step = step
        bounds.append(trainer._bound())
    assert bounds == pytest.approx([0, 0, 0.5, 1, 1])


def test_doubtful_steps_come_back(data: Path, tmp_path: Path) -> None:
    """Half of the updates are made of single steps, and those that the model is unsure of."""
    config = settings(data, tmp_path / "run", long_every=0)
    trainer = Trainer(config, open_dataset(data), "cpu")
    seen, drawn = [], []
    draw = trainer.sampler.weighted_steps

    def spy(step: int, batch: int, weights: np.ndarray) -> Clips:
        seen.append(step)
        drawn.append(weights)
        return draw(step, batch, weights)

    trainer.sampler.weighted_steps = spy  # type: ignore[method-assign]
    trainer.update()
    assert (trainer.doubts.latest >= 0).any()
    trainer.doubts.latest[:] = 1
    for _ in range(3):
        trainer.doubts.latest[[7, 90]] = 50, 20
        trainer.update()
    assert 1 not in seen  # nothing was known yet
    assert 3 in seen
    assert {7, 90} <= set(np.flatnonzero(drawn[0])) < set(range(120))


def test_a_share_of_the_single_steps_is_eventful(tmp_path: Path) -> None:
    """Those within two steps of a reward or an end, as often as is asked, doubted or not."""
    path = tmp_path / "rare" / "a.episode"
    path.parent.mkdir()
    with EpisodeWriter(path, HEADER, game_frame(0)[None], np.zeros(0, np.int64)) as writer:
        for t in range(40):
            writer.append(game_step(t, reward=float(t == 20), terminated=t == 39, truncated=False))
    config = settings(path.parent, tmp_path / "run", eventful=0.25)
    trainer = Trainer(config, open_dataset(path.parent), "cpu")
    near = [18, 19, 20, 21, 22, 37, 38, 39]
    doubts = np.zeros(40, np.float32)
    doubts[[3, 21, 30]] = 20, 10, 10
    weights = trainer._weighed(doubts)
    expected = np.zeros(40)
    expected[near] = 0.25 / len(near)
    expected[[3, 21, 30]] += 0.75 * np.array([0.5, 0.25, 0.25])
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    trainer.beside[:] = 0  # nothing is earned, and no end recorded
    np.testing.assert_allclose(trainer._weighed(doubts), doubts / 40, rtol=1e-5)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_that_is_none_is_refused(data: Path, tmp_path: Path, share: float) -> None:
    config = settings(data, tmp_path / "run", eventful=share)
    with pytest.raises(InputError, match=rf"eventful={share}: expected a share, 0 to 1"):
        Trainer(config, open_dataset(data), "cpu")


def test_a_run_begins_with_the_weights_it_is_given(data: Path, tmp_path: Path) -> None:
    train(settings(data, tmp_path / "first", steps=2))
    first = World.load(tmp_path / "first").model.state_dict()
    config = settings(data, tmp_path / "second", init=str(tmp_path / "first"))
    begun = Trainer(config, open_dataset(data), "cpu").model.state_dict()
    assert all(torch.equal(begun[name], value) for name, value in first.items())
    other = dataclasses.replace(CONFIG, hidden=(16, 8, 8, 8))
    with pytest.raises(InputError, match="another shape"):
        train(dataclasses.replace(config, model=other))
    with pytest.raises(InputError, match="nowhere"):
        train(dataclasses.replace(config, init=str(tmp_path / "nowhere")))


def test_a_damaged_episode_is_left_out_or_refused(data: Path, tmp_path: Path) -> None:
    episode = data / "b.episode"
    content = bytearray(episode.read_bytes())
    content[len(content) // 2] ^= 1
    episode.write_bytes(content)
    with pytest.raises(InputError, match=r"b\.episode"):
        train(settings(data, tmp_path / "strict", steps=1, strict=True))
    with pytest.warns(UserWarning, match=r"b\.episode"):
        train(settings(data, tmp_path / "run", steps=1))
    assert World.load(tmp_path / "run").card.training["episodes"] == 1


def test_a_full_disk_keeps_the_last_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(settings(data, tmp_path / "run", steps=1))
    before = tensors(tmp_path / "run")

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(WorkError, match="No space left"):
            train(settings(data, tmp_path / "run", steps=3))
    assert progress(tmp_path / "run") == 1
    train(settings(data, tmp_path / "run", steps=3))  # and goes on from there
    assert tensors(tmp_path / "run").keys() == before.keys()
    assert progress(tmp_path / "run") == 3


def test_how_long_must_be_said(data: Path, tmp_path: Path) -> None:
    for changes in ({"steps": 0}, {"steps": 5, "minutes": 1.0}):
        with pytest.raises(InputError, match="steps=20000 or minutes=20"):
            train(settings(data, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_foreign_folders_and_other_settings_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training run"):
        train(settings(data, data))
    train(settings(data, tmp_path / "run", steps=1))
    with pytest.raises(InputError, match="batch=2, not 3"):
        train(settings(data, tmp_path / "run", steps=2, batch=3))
    train(settings(data, tmp_path / "run", steps=2))  # longer is the same run
    assert progress(tmp_path / "run") == 2


def test_a_damaged_checkpoint_is_refused(data: Path, tmp_path: Path) -> None:
    train(settings(data, tmp_path / "run", steps=1))
    checkpoint = tmp_path / "run/checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(InputError, match="damaged"):
        train(settings(data, tmp_path / "run", steps=2))


def test_frames_of_an_odd_size_are_refused(tmp_path: Path) -> None:
    record(tmp_path / "data/a.episode", 9, size=20)
    with pytest.raises(InputError, match="20x20"):
        train(settings(tmp_path / "data", tmp_path / "run"))


def test_backdrops_begin_as_recorded_frames(data: Path, tmp_path: Path) -> None:
    dataset = open_dataset(data)
    trainer = Trainer(settings(data, tmp_path / "run"), dataset, "cpu")
    recorded = np.concatenate([episode.frames() for episode in dataset.episodes])
    for backdrop in to_bytes(trainer.model.base.backdrops.detach()).numpy():
        assert bool((recorded == backdrop).all(axis=(1, 2, 3)).any())
