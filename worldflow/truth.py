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

    The simpler one is the Gaussian base: what the flow adds is what it lacks.
    """

    def __init__(
        self, oracle: Oracle, small: SmallObject | None = None, base: Sampler | None = None
    ) -> None:
        self._oracle, self._sample_base = oracle, base
        self.world = ModeTally(small)
        self.base = ModeTally(small) if base else None

    def see(
        self,
        state: State,
        action: NDArray[np.int64],
        noise: NDArray[np.float32],
        drawn: NDArray[np.uint8],
        hidden: list[Truth],
    ) -> None:
        """Judge `drawn` `(N, H, W, 3)`, sampled from `state` under `action` `(N,)`.

        Args:
            noise: `(N, Z)`, that `drawn` came from; the base draws from it, too.
            hidden: N hidden states; a row with {} is not judged.
        """
        futures = [self._oracle(truth, int(act)) for truth, act in zip(hidden, action, strict=True)]
        for frame, future in zip(drawn, futures, strict=True):
            if future:
                self.world.add(frame, *future)
        if self.base is None or self._sample_base is None:
            return
        branching = [(row, future) for row, future in enumerate(futures) if _branches(future)]
        if not branching:  # the base is judged where it must choose, and nowhere else
            return
        rows = np.array([row for row, _ in branching])
        frames = self._sample_base(take_rows(state, rows), action[rows], noise[rows])
        for frame, (_, future) in zip(frames, branching, strict=True):
            if future:
                self.base.add(frame, *future)


def _branches(future: Futures | None) -> bool:
    return future is not None and len(future.frames) > 1
