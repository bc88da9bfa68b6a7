import pytest

from worldflow.demos.keys import Keypad

KEY_MAP = {"": 0, "space": 1, "up": 2, "right": 3, "left": 4, "up+right": 6, "up+left": 7}


@pytest.fixture
def keypad():
    return Keypad(KEY_MAP)


def test_nothing_pressed_is_the_idle_action(keypad):
    assert keypad.next_action() == 0
    assert Keypad({"": 5, "left": 1}).next_action() == 5


def test_a_held_key_counts_for_every_step_until_released(keypad):
    keypad.press("left")
    assert [keypad.next_action() for _ in range(3)] == [4, 4, 4]
    keypad.release("left")
    assert keypad.next_action() == 0


def test_a_tap_between_two_steps_counts_for_exactly_one(keypad):
    keypad.press("space")
    keypad.release("space")
    assert [keypad.next_action(), keypad.next_action()] == [1, 0]


def test_the_largest_chord_wins(keypad):
    keypad.press("up")
    keypad.press("right")
    assert keypad.next_action() == 6
    keypad.release("up")
    assert keypad.next_action() == 3


def test_of_two_opposite_keys_the_last_pressed_wins(keypad):
    keypad.press("left")
    keypad.press("right")
    assert keypad.next_action() == 3
    keypad.press("up")
    assert keypad.next_action() == 6
    keypad.release("right")
    assert keypad.next_action() == 7


def test_wasd_stand_for_the_arrows(keypad):
    assert keypad.press("a")
    assert keypad.next_action() == 4
    keypad.release("a")
    assert keypad.next_action() == 0


def test_a_game_that_uses_a_letter_keeps_it():
    keypad = Keypad({"left": 1, "a": 2})
    keypad.press("a")
    assert keypad.next_action() == 2


def test_unknown_keys_are_ignored(keypad):
    assert not keypad.press("x")
    keypad.release("x")
    assert keypad.next_action() == 0


def test_forgotten_taps_do_not_count_but_held_keys_do(keypad):
    keypad.press("space")
    keypad.release("space")
    keypad.press("left")
    keypad.forget_taps()
    assert keypad.next_action() == 4
