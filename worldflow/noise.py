"""Counter-based noise: any step of any rollout can be drawn again from its key."""

import numpy as np
from numpy.typing import NDArray


def standard_normal(seed: int, row: int, counter: int, size: int) -> NDArray[np.float32]:
    """The noise vector of one step, `(size,)`, float32, entries independent N(0, 1).

    A function of its arguments alone: `Philox(key=(seed, row), counter=counter)`
    (Salmon et al. 2011). The step is the high word of the 256-bit counter, so that two
    steps never share draws.

    Args:
        seed: 0 <= seed < 2**64, the luck of a whole rollout.
        row: 0 <= row < 2**64, which of the rollouts under this seed.
        counter: 0 <= counter < 2**64, the step.
        size: number of entries.
    """
    bits = np.random.Philox(key=np.array([seed, row], np.uint64), counter=[0, 0, 0, counter])
    return np.random.Generator(bits).standard_normal(size, dtype=np.float32)
