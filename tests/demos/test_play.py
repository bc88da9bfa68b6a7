"""`worldflow play` around a fake world: window or film, and what it refuses."""

import sys
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from fake_engine import make_playable
from PIL import Image
from recorded import record

from worldflow.cli import main
from worldflow.config import Source, read_config
from worldflow.demos import play as play_module
from worldflow.demos import play_film
from worldflow.demos.play import PlayConfig, play
from worldflow.episode import Episode
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


def played(monkeypatch, **config):
    """The session after a few steps in a window."""
    sessions = []
    monkeypatch.setattr("worldflow.demos.window.why_no_display", lambda: None)
    make = play_module.make_session

    def kept(*arguments):
        sessions.append(make(*arguments))
        return sessions[-1]

    monkeypatch.setattr(play_module, "make_session", kept)
    play(PlayConfig(**({"world": "fake", "steps": 5, "fps": 200, "seed": 1} | config)))
    return sessions[0]


def test_a_recording_is_made_shown_and_begun_from(monkeypatch, capsys):
    played(monkeypatch, record=True)
    path = Path("recordings/fake-0001.episode")
    assert str(path) in capsys.readouterr().out
    recorded = Episode.open(path)
    assert len(recorded) == 5
    assert read_film("recordings/fake-0001.mp4")[0].shape[0] == 6
    assert (recorded.header.world, recorded.header.seed) == ("fake", 1)
    session = played(monkeypatch, episode=path, step=3, steps=1)
    assert np.array_equal(session._stage.frames[-2], recorded.frames(3, 4)[0])
    play(PlayConfig(world=str(path), fps=200, steps=3))  # in the window
    play(PlayConfig(world=str(path), out=Path("film.gif"), scale=1))
    assert Path("film.gif").exists()


def test_without_a_display_a_recording_is_filmed(monkeypatch, capsys):
    record(Path("old.episode"), 12, size=16)
    play(PlayConfig(world="old.episode", scale=2))
    assert len(read_film("worldflow-old.mp4")[0]) == 13
    assert "worldflow-old.mp4" in capsys.readouterr().out


def test_a_dream_begins_at_an_image_of_any_size(monkeypatch):
    Image.new("RGB", (50, 80), (10, 200, 30)).save("start.png")
    session = played(monkeypatch, image=Path("start.png"), steps=1)
    assert (session._stage.frames[-2] == (10, 200, 30)).all()


def test_the_engine_has_stepped_and_scored_before_the_window_opens(
    monkeypatch, no_display_and_a_fake_world
):
    done = no_display_and_a_fake_world.engine.batches
    seen = []
    monkeypatch.setattr(
        "worldflow.demos.window.Window",
        lambda game, config: SimpleNamespace(
            run=lambda: seen.append((done["step"], done["score"]))
        ),
    )
    played(monkeypatch)
    assert seen == [([1], [1])]


def test_another_player_begins(monkeypatch):
    session = played(monkeypatch, player="random", steps=30)
    assert session.cast.controller == "random"
    assert len(set(session._stage.actions)) > 1


def test_keys_of_ones_own(monkeypatch, capsys):
    Path("keys.yaml").write_text("actions: {x: left}")
    configs = []
    monkeypatch.setattr(
        "worldflow.demos.window.Window",
        lambda game, config: configs.append(config) or SimpleNamespace(run=lambda: None),
    )
    played(monkeypatch, keys=Path("keys.yaml"))
    assert configs[0].bindings.key_map == {"": 0, "x": 2}
    assert "keys: x;" in capsys.readouterr().out


def test_without_a_name_the_menu_is_asked(monkeypatch):
    monkeypatch.setattr("worldflow.demos.menu.choose_world", lambda: None)
    monkeypatch.setattr("worldflow.demos.window.why_no_display", lambda: None)
    play(PlayConfig())  # the player left
    monkeypatch.setattr("worldflow.demos.menu.choose_world", lambda: "bounce")
    assert played(monkeypatch, world=None)._config.world == "bounce"


def test_without_a_name_and_a_display_breakout_is_filmed():
    play(PlayConfig(steps=3, scale=2))
    assert Path("worldflow-fake.mp4").exists()


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"image": Path("none.png")}, "image=none.png"),
        ({"episode": Path("none.episode")}, "none.episode"),
        ({"player": "scriptd"}, "policy=scriptd"),
        ({"keys": Path("none.yaml")}, "keys=none.yaml"),
        ({"films": ("avi",)}, "films=avi"),
        ({"source": "real"}, "fake"),  # there is no such game
        ({"terminal": True}, "no terminal"),
    ],
)
def test_what_a_window_cannot_do_is_told_in_one_line(monkeypatch, bad, told):
    monkeypatch.setattr("worldflow.demos.window.why_no_display", lambda: None)
    with pytest.raises(InputError, match=told):
        play(PlayConfig(world="fake", **bad))


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
        {"source": "reel"},
        {"source": "real", "image": Path("a.png")},
        {"episode": Path("a.episode"), "image": Path("a.png")},
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

    monkeypatch.setattr(play_film, "rollout", stopped)
    with pytest.raises(KeyboardInterrupt):
        play(PlayConfig(world="fake", steps=20, scale=2))
    assert len(read_film("worldflow-fake.mp4")[0]) == 7
    assert "the first 7 steps are in worldflow-fake.mp4" in capsys.readouterr().out


def test_a_film_that_cannot_be_written_is_one_clear_line():
    Path("file").write_bytes(b"no folder")
    with pytest.raises(WorkError, match="film cannot be written"):
        play(PlayConfig(world="fake", steps=2, out=Path("file/film.mp4")))


def test_the_yaml_holds_the_defaults_of_the_dataclass():
    assert read_config(Source("play", PlayConfig, ""), [], {}) == PlayConfig()


def test_a_key_may_be_written_with_the_verb_before_it():
    Path("keys.yaml").write_text("actions: {x: left}")
    assert main(["play", "fake", "play.keys=keys.yaml", "play.steps=2", "scale=2"]) == 0
    assert len(read_film("worldflow-fake.mp4")[0]) == 2
