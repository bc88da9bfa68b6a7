"""`worldflow play` around a fake world: window or film, and what it refuses."""

import sys
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from fake_engine import make_playable
from omegaconf import OmegaConf

from worldflow.demos import play as play_module
from worldflow.demos.play import PlayConfig, play
from worldflow.errors import InputError, WorkError


@pytest.fixture(autouse=True)
def no_display_and_a_fake_world(monkeypatch, tmp_path):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.chdir(tmp_path)
    playable = make_playable(frame_shape=(16, 16, 3), p_terminated=0.05)
    loader = SimpleNamespace(load_playable=lambda what, **options: playable)
    monkeypatch.setitem(sys.modules, "worldflow.playable", loader)
    return playable


def read_film(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return np.stack(frames), stream.average_rate


def test_without_a_display_it_films_and_says_where(capsys):
    play(PlayConfig(world="fake", steps=40, seed=3, scale=2))
    frames, rate = read_film("worldflow-fake.mp4")
    assert frames.shape == (40, 32, 32, 3)
    assert rate == 30  # the world's own
    told = capsys.readouterr().out
    assert "no display" in told
    assert "worldflow-fake.mp4" in told
    assert "seed=3" in told


def test_a_film_is_30_seconds_long_by_default():
    play(PlayConfig(world="fake", fps=2, scale=2))
    frames, rate = read_film("worldflow-fake.mp4")
    assert (len(frames), rate) == (60, 2)


def test_the_default_name_never_overwrites():
    for _ in range(3):
        play(PlayConfig(world="fake", steps=2, scale=2))
    names = sorted(path.name for path in Path().iterdir())
    assert names == ["worldflow-fake-2.mp4", "worldflow-fake-3.mp4", "worldflow-fake.mp4"]


def test_the_same_seed_gives_the_same_film_and_another_another():
    # As GIFs: mp4 encoders do not promise the same bytes for the same frames.
    for name, seed in [("a.gif", 1), ("b.gif", 1), ("c.gif", 2)]:
        play(PlayConfig(world="fake", steps=60, seed=seed, scale=2, out=Path(name)))
    a, b, c = (Path(name).read_bytes() for name in ("a.gif", "b.gif", "c.gif"))
    assert a == b
    assert a != c


def test_out_asks_for_a_film_even_where_there_is_a_display(monkeypatch):
    monkeypatch.setattr("worldflow.demos.window.why_no_display", lambda: None)
    play(PlayConfig(world="fake", steps=3, scale=2, out=Path("films/new/film.gif")))
    assert Path("films/new/film.gif").read_bytes().startswith(b"GIF")


def test_with_a_display_it_opens_the_window(monkeypatch, capsys):
    monkeypatch.setattr("worldflow.demos.window.why_no_display", lambda: None)
    play(PlayConfig(world="fake", steps=5, fps=200, seed=1))
    assert list(Path().iterdir()) == []
    assert "keys: right, left" in capsys.readouterr().out


def test_an_existing_film_is_not_overwritten():
    Path("film.mp4").write_bytes(b"dear to me")
    with pytest.raises(InputError, match=r"film\.mp4: is already there"):
        play(PlayConfig(world="fake", steps=3, out=Path("film.mp4")))
    assert Path("film.mp4").read_bytes() == b"dear to me"


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"scale": 0},
        {"fps": -1},
        {"steps": -5},
        {"seed": -1},
        {"out": Path("film.avi")},
        {"out": Path()},
        {"policy": "scriptd"},
        {"policy": "scripted"},  # there is no script for this game
    ],
)
def test_bad_values_are_named_and_leave_nothing(bad):
    value = next(iter(bad))
    with pytest.raises(InputError, match=f"{value}|film"):
        play(PlayConfig(world="fake", **bad))
    assert list(Path().iterdir()) == []


def test_ctrl_c_keeps_the_film_so_far(no_display_and_a_fake_world, monkeypatch, capsys):
    def stopped(env, policy, seed, steps):
        yield from [np.zeros((16, 16, 3), np.uint8)] * 7
        raise KeyboardInterrupt

    monkeypatch.setattr(play_module, "rollout", stopped)
    with pytest.raises(KeyboardInterrupt):
        play(PlayConfig(world="fake", steps=20, scale=2))
    assert len(read_film("worldflow-fake.mp4")[0]) == 7
    assert "the first 7 steps are in worldflow-fake.mp4" in capsys.readouterr().out


def test_a_film_that_cannot_be_written_is_one_clear_line():
    Path("file").write_bytes(b"no folder")
    with pytest.raises(WorkError, match="film cannot be written"):
        play(PlayConfig(world="fake", steps=2, out=Path("file/film.mp4")))


def test_the_yaml_holds_the_defaults_of_the_dataclass():
    yaml = OmegaConf.create((files("worldflow.conf") / "play.yaml").read_text())
    assert OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(PlayConfig), yaml)) == (
        PlayConfig()
    )
