"""Play in a terminal: what is written and read, and a whole game over a pseudo-terminal."""

import os
import re
import sys
import threading
import time

import numpy as np
import pytest
from sessions import make_session

from worldflow.demos.bindings import Bindings
from worldflow.demos.terminal import Terminal, fitted, half_blocks, keys_in
from worldflow.demos.world_game import WorldGame
from worldflow.errors import InputError

COLOURS = re.compile(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m")


def test_two_pixels_are_a_character():
    frame = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    told = COLOURS.findall(half_blocks(frame))
    assert half_blocks(frame).count("▀") == 3
    assert [list(map(int, cell)) for cell in told] == [
        [*above, *below] for above, below in zip(*frame.tolist(), strict=True)
    ]


def test_a_colour_that_stays_is_written_once():
    assert len(COLOURS.findall(half_blocks(np.zeros((4, 9, 3), np.uint8)))) == 2


def test_a_frame_is_made_to_fit():
    frame = np.zeros((64, 64, 3), np.uint8)
    assert fitted(frame, 80, 40).shape == (64, 64, 3)
    assert fitted(frame, 80, 20).shape == (40, 40, 3)
    assert fitted(frame, 31, 20).shape == (30, 30, 3)


def test_keys_are_told_apart():
    assert list(keys_in("a\x1b[D \x1b[5~\x7fq")) == [
        "a",
        "left",
        "space",
        "page up",
        "backspace",
        "q",
    ]
    assert list(keys_in("\x1b")) == ["escape"]


def test_no_terminal_is_bad_input(tmp_path):
    game = WorldGame(make_session(tmp_path))
    with pytest.raises(InputError, match="no terminal"):
        Terminal(game, Bindings(game.key_map), frame_rate=0, steps=0)


@pytest.mark.skipif(os.name == "nt", reason="there are no pseudo-terminals")
def test_a_game_is_played_over_a_pseudo_terminal(tmp_path, monkeypatch):
    ours, theirs = os.openpty()
    session = make_session(tmp_path)
    game = WorldGame(session)
    written = []

    def person():
        written.append(os.read(ours, 100_000))
        os.write(ours, b"\x1b[C")  # right: action 1 moves the bar
        while not {1} & set(session._stage.actions):
            written.append(os.read(ours, 100_000))
        os.write(ours, b"q")
        while b"\x1b[?1049l" not in written[-1]:
            written.append(os.read(ours, 100_000))
            time.sleep(0.001)

    with os.fdopen(os.dup(theirs), "r") as stdin, os.fdopen(theirs, "w", newline="") as stdout:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", stdout)
        terminal = Terminal(game, Bindings(game.key_map), frame_rate=50, steps=0)
        thread = threading.Thread(target=person, daemon=True)
        thread.start()
        terminal.run()
        thread.join(10)
    os.close(ours)
    assert "▀".encode() in b"".join(written)
    assert b"DREAM" in b"".join(written)
