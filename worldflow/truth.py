"""Games that know the true distribution of their next frame, and who is held against it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldflow.blocks import Truth
from worldflow.engine import State, take_rows
from worldflow.episode import Header
from worldflow.modes import ModeTally
from worldflow.small_objects import SmallObject

DRAWS = 4  # frames drawn where a step branches

Luck = Callable[[NDArray[np.int64], int], NDArray[np.float32]]
"""(rows `(R,)`, the number of a draw) -> noise `(R, Z)`."""

Sampler = Callable[[State, NDArray[np.int64], NDArray[np.float32]], NDArray[np.uint8]]
"""(state, action `(N,)`, noise `(N, Z)`) -> a frame drawn for each row `(N, H, W, 3)`."""


class Futures(NamedTuple):
    """The M distinct frames that can follow, and their probabilities."""

    frames: NDArray[np.uint8]  # (M, H, W, 3)
    probabilities: NDArray[np.float64]  # (M,), sum 1


Oracle = Callable[[Truth, int], Futures | None]
"""(hidden state or {}, action) -> the futures; None where the recording does not tell them."""


def oracle_of(header: Header) -> Oracle | None:
    """The true distribution of the recorded game, or None if nobody knows it."""
    if header.source != "bounce":
        return None
    from worldflow.envs.bounce import BounceGame
    from worldflow.envs.source import recorded_source

    game = recorded_source(header.source, header.settings)
    assert isinstance(game, BounceGame)

    def futures(truth: Truth, action: int) -> Futures | None:
        # What comes out from under a lid depends on frames that a stretch may not hold:
        # memory.py judges that.
        if not truth or game.from_truth(truth).uncovers:
            return None
        game.set_state(game.from_truth(truth))
        return Futures(*game.next_frames(action))

    return futures


class TruthJudge:
    """Holds a world against its game's truth, and beside it a simpler sampler of the same world.

    Where a step branches, each draws DRAWS frames, from the same noise: the more draws, the less
    of a frequency's error is chance. The simpler sampler is the Gaussian base: what the flow adds
    is what it lacks.
    """

    def __init__(
        self,
        oracle: Oracle,
        sample: Sampler,
        small: SmallObject | None = None,
        base: Sampler | None = None,
    ) -> None:
        """`sample` draws from the world; `small` is an object that every possible frame shows."""
        self._oracle, self._sample, self._sample_base = oracle, sample, base
        self.world = ModeTally(small)
        self.base = ModeTally(small) if base else None

    def see(
        self,
        state: State,
        action: NDArray[np.int64],
        luck: Luck,
        drawn: NDArray[np.uint8],
        hidden: list[Truth],
    ) -> None:
        """Judge what the world draws from `state` under `action` `(N,)`.

        Args:
            luck: what is drawn comes from.
            drawn: `(N, H, W, 3)`, a frame of each row.
            hidden: N hidden states; a row with {} is not judged.
        """
        futures = [self._oracle(truth, int(act)) for truth, act in zip(hidden, action, strict=True)]
        branching = []
        for row, future in enumerate(futures):
            if future and len(future.frames) == 1:
                self.world.add(drawn[row : row + 1], *future)
            elif future:
                branching.append((row, future))
        if not branching:
            return
        rows = np.array([row for row, _ in branching])
        noise = np.stack([luck(rows, draw) for draw in range(DRAWS)], axis=1)  # (R, DRAWS, Z)
        each = rows.repeat(DRAWS)
        for tally, sample in ((self.world, self._sample), (self.base, self._sample_base)):
            if tally is None or sample is None:
                continue
            frames = sample(take_rows(state, each), action[each], noise.reshape(len(each), -1))
            by_row = frames.reshape(len(rows), DRAWS, *frames.shape[1:])
            for draws, (_, future) in zip(by_row, branching, strict=True):
                tally.add(draws, *future)
