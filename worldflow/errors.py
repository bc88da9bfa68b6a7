"""The two ways in which a command ends badly, each told in one line."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: names the value, what was expected, and the way out. Exit code 2."""


class WorkError(RuntimeError):
    """The work ran and failed (a full disk, say); what was done is kept. Exit code 1."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """A hint naming the nearest of `choices`, or all of them if none is near.

    >>> did_you_mean("brekout", ["breakout", "bounce"])
    "did you mean 'breakout'?"
    """
    choices = sorted(choices)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"choose one of: {', '.join(choices)}" if choices else "there is nothing to choose from"
