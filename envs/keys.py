"""Keys by pygame's names, as key maps have them, and by its numbers, as Gymnasium has them."""

from collections.abc import Mapping

# Other keys are numbered by their character. Kept here, since pygame names keys only while it
# has a display.
NUMBERS = {
    "space": 32,
    "return": 13,
    "tab": 9,
    "right": 0x4000004F,
    "left": 0x40000050,
    "down": 0x40000051,
    "up": 0x40000052,
}
NAMES = {number: name for name, number in NUMBERS.items()}


def key_name(key: int | str) -> str:
    """pygame's name of a key that Gymnasium tells by number or character."""
    number = ord(key) if isinstance(key, str) and len(key) == 1 else key
    if not isinstance(number, int):
        return str(key)
    return NAMES.get(number) or (chr(number) if number <= 0x10FFFF else f"key {number}")


def keys_to_action(key_map: Mapping[str, int]) -> dict[tuple[int, ...], int]:
    """`{"left+space": 3}` by numbers, for Gymnasium's player; keys without one are left out."""
    numbered = {tuple(map(key_number, keys.split("+"))): keys for keys in key_map if keys}
    return {held: key_map[keys] for held, keys in numbered.items() if 0 not in held}


def key_number(name: str) -> int:
    """pygame's number of a key; 0 if it is not known here."""
    return NUMBERS.get(name, ord(name) if len(name) == 1 else 0)
