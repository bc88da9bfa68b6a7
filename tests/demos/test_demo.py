"""Film walls around a fake world."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_engine import make_playable
from PIL import Image
from sessions import bounce_playable

from worldflow.demos.demo import DemoConfig, action_wall, demo, dream_together, luck_wall, real_wall
from worldflow.demos.reality import make_reality
from worldflow.demos.stage import Luck
from worldflow.demos.walls import CAPTION, GAP, Cell, wall
from worldflow.envs.start import Context
from worldflow.errors import InputError


class Holds:
    def __init__(self, action):
        self.action = action

    def act(self, frame, truth):
        return self.action


def dreams(lucks, actions, p_terminated=0.0, steps=12):
    playable = make_playable((8, 8, 3), p_terminated=p_terminated)
    start = Context(playable.start_frames[0], playable.start_actions[0])
    policies = [Holds(action) for action in actions]
    return dream_together(
        playable.engine, start, policies, [Luck(1, luck, 0) for luck in lucks], steps
    )


def test_the_same_luck_and_actions_are_the_same_dream_and_others_are_not():
    (a, _), (b, _), (c, _), (d, _) = dreams([0, 0, 1, 0], [1, 1, 1, 2])
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert not np.array_equal(a, d)


def test_a_dream_that_ends_stands_still_and_is_no_surprise_any_more():
    (frames, bits), *_ = dreams([0, 1, 2], [1, 1, 1], p_terminated=0.3, steps=40)
    ended = int(np.isnan(bits).argmax())
    assert 0 < ended < 40
    assert np.isnan(bits[ended:]).all()
    assert (frames[ended - 1 :] == frames[ended - 1]).all()
    assert not (frames[ended - 2] == frames[ended - 1]).all()


def test_a_wall_shows_each_film_in_its_place_with_its_surprise():
    frames = [np.full((10, 4, 40, 3), shade, np.uint8) for shade in (60, 120, 180)]
    quiet, loud = np.zeros(10), np.linspace(0, 400, 10)
    cells = [Cell("a", frames[0], quiet), Cell("b", frames[1], loud), Cell("c", frames[2])]
    shown = wall(cells, columns=2, scale=2)
    height = (shown.shape[1] - GAP) // 2
    for index, shade in enumerate((60, 120, 180)):
        row, column = divmod(index, 2)
        top, left = GAP + row * height + CAPTION, GAP + column * (80 + GAP)
        assert (shown[:, top : top + 8, left : left + 80] == shade).all()
    graphs = shown[:, GAP + CAPTION + 8 : height, :]
    bright = (graphs[..., 0] > 150).any(axis=1)  # (T, width)
    assert not bright[0, GAP + 60 :].any()  # it grows with time
    assert bright[-1, GAP + 70 : GAP + 80].any()
    upper = (graphs[-1, :10, :, 0] > 150).any(axis=0)
    assert not upper[: GAP + 80].any()
    assert upper[GAP + 80 :].any()


def test_films_of_different_shapes_make_no_wall():
    with pytest.raises(ValueError, match="one shape"):
        wall([Cell("a", np.zeros((2, 4, 4, 3), np.uint8)), Cell("b", np.zeros((3, 4, 4, 3)))], 2, 1)


def test_walls_of_a_world():
    playable = bounce_playable()
    config = DemoConfig("fake", Path(), dreams=4, steps=6, scale=1, policy="random")
    assert luck_wall(playable, config).shape[0] == 6
    assert action_wall(playable, config).shape[2] == 3 * (64 + GAP) + GAP
    four = make_playable((16, 16, 3), action_count=4)
    assert action_wall(four, config).shape[2] == 2 * (16 + GAP) + GAP
    reality = make_reality("bounce", {"size": 64}, 3)
    real = real_wall(playable, config, reality)
    cell = 64 + GAP
    panels = [real[:, GAP + CAPTION :, GAP + i * cell :][:, :64, :64] for i in range(3)]
    apart = np.abs(panels[0].astype(int) - panels[1])
    assert np.array_equal(apart, panels[2])
    assert apart.any()


@pytest.fixture
def fake_world(monkeypatch):
    def set_world(playable):
        loader = SimpleNamespace(load_playable=lambda what, **options: playable)
        monkeypatch.setitem(sys.modules, "worldflow.playable", loader)

    return set_world


def test_all_films_by_one_command(fake_world, tmp_path):
    fake_world(bounce_playable())
    config = DemoConfig("fake", tmp_path, dreams=2, steps=3, scale=1)
    demo(config)
    names = ["fake-actions.webp", "fake-luck.webp", "fake-real.webp"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names:
        with Image.open(tmp_path / name) as film:
            assert film.n_frames == 3
    with pytest.raises(InputError, match="already there"):
        demo(config)


def test_without_the_real_game_there_is_no_film_beside_it(fake_world, tmp_path, capsys):
    fake_world(make_playable())
    demo(DemoConfig("fake", tmp_path, dreams=2, steps=3, scale=1, film="gif"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fake-actions.gif", "fake-luck.gif"]
    assert "no film beside the real game" in capsys.readouterr().out


@pytest.mark.parametrize("bad", [{"dreams": 0}, {"steps": 0}, {"scale": 99}, {"film": "avi"}])
def test_bad_values_are_named(bad, tmp_path):
    with pytest.raises(InputError, match=next(iter(bad))):
        demo(DemoConfig("fake", tmp_path, **bad))
