"""`worldflow record` and `worldflow replay` around a fake world."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sessions import bounce_playable

from worldflow.cli import main
from worldflow.config import Source, read_config
from worldflow.demos.record import RecordConfig, record
from worldflow.demos.replay import ReplayConfig, replay
from worldflow.episode import Episode
from worldflow.errors import InputError, WorkError


@pytest.fixture(autouse=True)
def fake_world(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    playable = bounce_playable(max_episode_steps=25)
    loader = SimpleNamespace(load_playable=lambda what, **options: playable)
    monkeypatch.setitem(sys.modules, "worldflow.playable", loader)
    return playable


def test_each_game_is_an_episode_with_a_film_and_all_of_them_replay(capsys):
    record(RecordConfig("fake", Path("out"), steps=60, seed=1, policy="random"))
    paths = sorted(Path("out").glob("*.episode"))
    assert [len(Episode.open(path)) for path in paths] == [25, 25, 10]
    assert all(path.with_suffix(".mp4").exists() for path in paths)
    for path in paths:
        replay(ReplayConfig(path))
    assert capsys.readouterr().out.count("the same bit for bit") == 3


def test_the_same_seed_is_the_same_play():
    for folder in ("a", "b"):
        record(RecordConfig("fake", Path(folder), steps=9, seed=4, policy="random", films=()))
    first, second = (Episode.open(Path(folder) / "fake-0001.episode") for folder in ("a", "b"))
    assert np.array_equal(first.frames(), second.frames())


def test_the_real_game_is_recorded_and_replayed():
    record(RecordConfig("fake", Path("out"), steps=20, seed=1, source="real", films=()))
    episode = Episode.open("out/fake-0001.episode")
    assert set(episode.origin()) == {"real"}
    assert len(episode.truth()["bounce"]) == 20
    replay(ReplayConfig(episode.path))


def test_by_the_command_line():
    assert main(["record", "fake", "out=here", "steps=5", "films=[]", "seed=2"]) == 0
    assert main(["replay", "here/fake-0001.episode"]) == 0


def test_another_world_is_refused(fake_world):
    record(RecordConfig("fake", Path("out"), steps=5, seed=1, films=()))
    fake_world.engine.world_hash = "another"
    with pytest.raises(InputError, match="dreamed by world fake"):
        replay(ReplayConfig(Path("out/fake-0001.episode")))


def test_what_differs_is_told_with_its_step(fake_world, monkeypatch):
    record(RecordConfig("fake", Path("out"), steps=12, seed=1, films=()))
    step, calls = fake_world.engine.step, []

    def other(*arguments):
        calls.append(1)
        told = step(*arguments)
        return told._replace(frame=255 - told.frame) if len(calls) == 8 else told

    monkeypatch.setattr(fake_world.engine, "step", other)
    with pytest.raises(WorkError, match=r"first 7 of 12 .* step 7 differs: .* pixels"):
        replay(ReplayConfig(Path("out/fake-0001.episode")))


def test_a_file_is_no_folder():
    Path("file").touch()
    with pytest.raises(InputError, match="is a file"):
        record(RecordConfig("fake", Path("file"), steps=5))


@pytest.mark.parametrize(
    "bad",
    [{"steps": 0}, {"source": "reel"}, {"temperature": -1.0}, {"seed": -1}, {"films": ("avi",)}],
)
def test_bad_values_are_named(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        record(RecordConfig("fake", Path("out"), **bad))
    assert not Path("out").exists()


def test_the_yaml_holds_the_defaults_of_the_dataclass():
    config = read_config(Source("record", RecordConfig, ""), ["out=x"], {"world": "w"})
    assert config == RecordConfig("w", Path("x"))
