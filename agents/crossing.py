"""The scripted player of Freeway: it walks, and does not look.

Who holds "up" gets across some twenty times in a game, being thrown back by a car now and then;
chance alone once or twice. Recorded play needs it for what chance hardly shows: the upper
lanes, and a score of two digits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

CROSSINGS = {"ALE/Freeway-v5": "up"}  # the name of the action that goes across


class CrossingPolicy:
    """Holds the action that goes across.

    Args:
        game: id of the source game, one of `CROSSINGS`.
        action_names: as on its card.
    """

    name = "scripted"

    def __init__(self, game: str, action_names: tuple[str, ...]) -> None:
        self.action = [name.lower() for name in action_names].index(CROSSINGS[game])

    def reset(self, seed: int) -> None:
        """There is nothing to forget."""

    def act(self, frame: NDArray[np.uint8], truth: dict[str, NDArray[Any]]) -> int:
        return self.action
