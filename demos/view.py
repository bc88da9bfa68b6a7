"""What the window draws and whom it asks: a picture with its figures, and a game."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class View:
    """All that is to be seen of a game at one moment; never written again."""

    frame: Frame  # (H, W, 3)
    companion: Frame | None = None  # the real frame, while it is shown beside the dream
    source: str = ""  # "real", "dream" or "split"
    player: str = "human"
    step: int = 0
    reward: float = 0.0
    total: float = 0.0  # the return: sum of rewards
    action: int = 0
    p_terminated: float | None = None
    surprise: tuple[float, ...] = ()  # bits per frame above the floor, oldest first
    step_seconds: float = 0.0  # that the newest step took
    temperature: float | None = None
    seed: int | None = None
    luck: str = ""  # which noise, beside the seed
    engine: str = ""
    recording: str | None = None  # what is recorded; None: nothing is
    over: str = ""  # why the game has ended, "" while it runs
    notice: tuple[int, str] = (0, "")  # number and text of the newest message to the player


class Game(Protocol):
    """What can be played in a window.

    All of it is called by one thread at a time, but not always by the same one.
    """

    title: str
    key_map: Mapping[str, int]  # pygame key names joined by "+" -> action, "" = nothing held
    action_names: tuple[str, ...]
    frame_rate: int  # steps per second at the game's own pace
    commands: frozenset[str]  # those that `command` takes

    def restart(self, seed: int | None = None) -> None:
        """A new game; another one each time if no seed is given."""

    def step(self, action: int) -> None:
        """Take one step. `action` is the human's; who plays may decide otherwise."""

    def appraise(self) -> None:
        """What may come after the new frame is shown: scoring it, recording it."""

    def command(self, name: str) -> None:
        """Do one of `commands`."""

    def rest(self) -> None:
        """Nothing will happen for a while."""

    def view(self) -> View:
        """What is to be seen now."""
        ...

    def close(self) -> None:
        """The player has left."""
