"""ALE games: what a step is, held against the emulator itself."""

from itertools import cycle

import numpy as np
import pytest

from worldflow.envs.source import make_source
from worldflow.errors import InputError

ale_py = pytest.importorskip("ale_py")

from worldflow.envs.area import AreaResize  # noqa: E402
from worldflow.envs.atari import AtariGame  # noqa: E402


def game(env_id: str = "ALE/Breakout-v5", **settings: float | bool) -> AtariGame:
    made = make_source(env_id, **settings)  # type: ignore[arg-type]
    assert isinstance(made, AtariGame)
    return made


def test_a_step_is_four_screens_of_which_the_last_two_are_merged() -> None:
    breakout = game()
    breakout.reset(seed=1)
    breakout.step(1)
    state = breakout.ale.cloneState()
    frame, *_ = breakout.step(2)

    ram = breakout.truth()["ram"]
    breakout.ale.restoreState(state)
    screens = []
    for _ in range(4):
        breakout.ale.act(ale_py.Action.RIGHT)
        screens.append(breakout.ale.getScreenRGB())
    assert np.array_equal(breakout.ale.getRAM(), ram)
    assert not np.array_equal(screens[2], screens[3])
    expected = AreaResize(210, 160, 64)(np.maximum(screens[2], screens[3]))
    assert np.array_equal(frame, expected)
    assert frame.shape == (64, 64, 3)
    assert frame.dtype == np.uint8


def test_an_episode_is_a_function_of_its_seed() -> None:
    first, second = game(), game()
    second.reset(seed=9)
    second.step(1)
    for each in (first, second):
        each.reset(seed=4)
    for action in (1, 2, 2, 3, 0, 3):
        assert np.array_equal(first.step(action)[0], second.step(action)[0])


def test_starts_differ_by_random_no_ops() -> None:
    seaquest = game("ALE/Seaquest-v5")
    starts = {seaquest.reset(seed=seed)[0].tobytes() for seed in range(4)}
    assert len(starts) > 1


def test_sticky_actions_are_off_unless_asked_for() -> None:
    plain, sticky = game(), game(sticky=0.9)
    assert plain.card.settings["sticky"] == 0.0
    assert sticky.card.settings["sticky"] == 0.9
    paddles = []
    for each in (plain, sticky):
        each.reset(seed=0)
        paddles.append([])
        for action in [2, 3] * 10:
            each.step(action)
            paddles[-1].append(each.truth()["ram"][72])
    assert paddles[0] != paddles[1]


@pytest.mark.parametrize("ends", [False, True])
def test_a_lost_life_is_told_and_ends_the_episode_only_on_request(ends: bool) -> None:
    breakout = game(life_loss_ends=ends)
    breakout.reset(seed=0)
    lost, terminations = 0, 0
    for _, action in zip(range(150), cycle((1, 0)), strict=False):
        _, _, terminated, _, info = breakout.step(action)
        lost += info["life_lost"]
        terminations += terminated
        if lost == 2 or terminated:
            break
    assert (lost, terminations) == ((1, 1) if ends else (2, 0))


def test_a_whole_game_ends_when_its_lives_are_spent() -> None:
    breakout = game()
    breakout.reset(seed=0)
    lost, terminated, steps = 0, False, 0
    while not terminated:
        _, _, terminated, _, info = breakout.step((1, 0)[steps % 2])
        lost += info["life_lost"]
        steps += 1
    assert lost == 5


def test_keys_follow_the_joystick() -> None:
    assert game().card.key_map == {"": 0, "space": 1, "right": 2, "left": 3}
    card = game("ALE/Seaquest-v5").card
    assert card.action_names[card.key_map["up+right+space"]] == "UPRIGHTFIRE"
    pong = game("ALE/Pong-v5").card
    assert pong.action_names[pong.key_map["up"]] == "RIGHT"


def test_an_unknown_game_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'ALE/Breakout-v5'"):
        make_source("ALE/Brekout-v5")
    with pytest.raises(InputError, match="did you mean 'ALE/Breakout-v5'"):
        make_source("breakout")


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match=r"sticky=1.5"):
        make_source("ALE/Breakout-v5", sticky=1.5)
    with pytest.raises(InputError, match="size=2"):
        make_source("ALE/Breakout-v5", size=2)
    with pytest.raises(InputError, match="ALE games only"):
        make_source("bounce", sticky=0.25)
