"""A player's own keys, and what keys and pads mean."""

import pytest

from worldflow.demos.bindings import KEYS, MEANINGS, Bindings, read_bindings
from worldflow.errors import InputError

NAMES = ("NOOP", "FIRE", "RIGHT", "LEFT")
WORLDS_OWN = Bindings({"": 0, "space": 1, "right": 2, "left": 3})


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "keys.yaml"
        path.write_text(text)
        return read_bindings(path, WORLDS_OWN, NAMES)

    return read


def test_every_command_has_a_key_a_meaning_and_no_key_has_two():
    assert KEYS.keys() == MEANINGS.keys()
    keys = [key for names in KEYS.values() for key in names]
    assert len(keys) == len(set(keys))


def test_actions_replace_the_worlds_own_keys(read):
    bindings = read("actions:\n  j: LEFT\n  l: right\n  i: 1\n  j+i: FIRE\n")
    assert bindings.key_map == {"": 0, "j": 3, "l": 2, "i": 1, "j+i": 1}
    assert bindings.keys == {name: tuple(keys) for name, keys in KEYS.items()}


def test_a_command_takes_its_keys_from_others(read):
    bindings = read("commands:\n  pause: [x, r]\n")
    assert bindings.key_map == WORLDS_OWN.key_map
    assert bindings.command_of("x") == "pause"
    assert bindings.command_of("r") == "pause"
    assert bindings.command_of("p") is None
    assert bindings.command_of("q") == "quit"


def test_a_key_is_known_by_its_name_or_by_what_it_types():
    assert WORLDS_OWN.command_of("q", "Q") == "quit"
    assert WORLDS_OWN.command_of("world 12", "+") == "faster"
    assert WORLDS_OWN.command_of("z", "") is None


def test_pad_buttons(read):
    bindings = read("pad:\n  button 9: record\n  up: pause\n")
    assert bindings.pad["button 9"] == "record"
    assert bindings.pad["up"] == "pause"
    assert bindings.pad["left"] == "left"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("actions:\n  j: LEFFT\n", "no 'lefft'; did you mean 'left'"),
        ("actions:\n  j: 4\n", "no '4'"),
        ("commands:\n  puse: x\n", "did you mean 'pause'"),
        ("comands:\n  pause: x\n", "did you mean 'commands'"),
        ("pad:\n  buton 1: x\n", "no 'buton 1'"),
        ("commands: x\n", "lines of NAME"),
        ("just text", "sections"),
        ("a: [", "no YAML"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(read, text, told):
    with pytest.raises(InputError, match=r"keys=.*keys\.yaml") as error:
        read(text)
    assert told in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_bindings(tmp_path / "none.yaml", WORLDS_OWN, NAMES)
