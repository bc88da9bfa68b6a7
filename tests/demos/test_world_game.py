"""The session's commands by name, as a key or a pad gives them, and what the window then shows."""

import numpy as np
import pytest
from sessions import make_session, play

from worldflow.demos.menu import Menu, Offer
from worldflow.demos.world_game import COMMANDS, WorldGame


@pytest.fixture
def game(tmp_path):
    return WorldGame(make_session(tmp_path))


def test_every_command_does_something_and_says_so(game):
    play(game.session, 12)
    for number, command in enumerate(COMMANDS, 1):
        game.command(command)
        shown, text = game.view().notice
        assert shown == number
        assert text
        play(game.session, 2)


def test_source_and_split(game):
    assert game.view().source == "dream"
    game.command("source")
    assert game.view().source == "real"
    assert "begins" in game.view().notice[1]
    play(game.session, 3)
    stood = game.view().frame
    game.command("split")
    assert game.view().source == "split"
    assert np.array_equal(game.view().companion, stood)
    game.command("split")
    assert (game.view().source, game.view().companion) == ("dream", None)
    play(game.session, 3)
    game.command("source")
    assert np.array_equal(game.view().frame, game.session.reality().frame)
    assert "where it stood" in game.view().notice[1]


def test_players(game):
    game.command("next_player")
    assert game.view().player == "human"
    game.command("take_over")
    assert game.view().player == "random"
    game.command("next_player")
    assert game.view().player == "scripted"
    game.command("take_over")
    assert game.view().player == "human"


def test_temperature_has_ends(game):
    seen = []
    for command in ["colder"] * 8 + ["hotter"] * 12:
        game.command(command)
        seen.append(game.view().temperature)
    assert seen[7] == 0.0
    assert seen[-1] == 2.0
    assert len(set(seen)) == 10


def test_a_slider_sets_any_temperature(game):
    assert "temperature" in game.commands
    game.command("temperature:0.6")
    assert (game.view().temperature, game.view().notice[1]) == (0.6, "temperature 0.6")
    game.command("hotter")
    assert game.view().temperature == 0.7


@pytest.mark.parametrize(("command", "steps"), [("step_back", 1), ("back", 5), ("same_luck", 20)])
def test_how_far_back(game, command, steps):
    play(game.session, 30)
    game.command(command)
    assert game.view().step == 30 - steps
    assert game.view().luck == ("0:10" if command == "same_luck" else f"1:{30 - steps}")


def test_the_recording_is_shown(game):
    game.command("record")
    assert game.view().recording == "0 s"
    play(game.session, 15)
    assert game.view().recording == "3 s"
    game.command("record")
    assert game.view().recording is None
    assert "fake-0001.episode" in game.view().notice[1]


def test_what_cannot_be_done_is_told(tmp_path):
    session = make_session(tmp_path)
    (tmp_path / "folder").write_bytes(b"a file")
    session.recorder.folder = tmp_path / "folder" / "recordings"
    game = WorldGame(session)
    game.command("record")
    play(session, 2)
    assert "cannot be made" in game.view().notice[1]
    assert game.view().recording is None
    assert game.view().step == 2


def test_the_view_tells_the_figures(game):
    play(game.session, 5)
    view = game.view()
    assert (view.step, view.reward, view.action, view.seed) == (5, 1.0, 1, 3)
    assert view.total == 1 + 2 + 0 + 1 + 1
    assert len(view.surprise) == 5
    assert view.engine == "fake cpu float32"


@pytest.mark.parametrize(
    ("keys", "chosen"), [("\r", "a"), (">\r", "b"), (">>\r", "b"), ("q", None)]
)
def test_the_menu(monkeypatch, keys, chosen):
    import pygame

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    codes = {"\r": pygame.K_RETURN, ">": pygame.K_RIGHT, "q": pygame.K_q}
    events = iter([pygame.event.Event(pygame.KEYDOWN, key=codes[key]) for key in keys])
    monkeypatch.setattr(pygame.event, "wait", lambda: next(events))
    frame = np.zeros((8, 8, 3), np.uint8)
    assert Menu([Offer("a", "game", frame), Offer("b", "game", frame)]).run() == chosen
