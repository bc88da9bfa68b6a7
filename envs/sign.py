"""The sign of Bounce's `memory` option: shown, covered for 20 frames, and shown again.

In a cycle of 32 steps a coloured sign is shown for 4 frames, a lid hides it for 20, and it is back
for 8; then another one is drawn. The 16 dots of Bounce's clock and the shade of the lid tell where
in the cycle a frame is, so that nothing is hidden but the colour: who forgets it must guess.
"""

import numpy as np
from numpy.typing import NDArray

SIGN_PROBABILITIES = (1 / 3, 1 / 3, 1 / 3)
SIGN_COLOURS = ((240, 110, 220), (90, 230, 230), (240, 240, 240))  # pink, cyan, white
LIDS = ((46, 50, 80), (96, 84, 60))  # shades in the first and the second half of the cycle
PLACE = (slice(0, 4), slice(24, 40))  # rows and columns of a frame of SIZE
SIZE = 64  # pixels
CYCLE, COVERS, OPENS = 32, 4, 24  # steps; hidden while COVERS <= phase < OPENS
CLOCK = CYCLE // 2  # steps of the clock that the dots show
HIDDEN_FRAMES = OPENS - COVERS
READ_TOLERANCE = 25  # levels, on average over the sign and its channels


def covered(half: int, clock: int) -> bool:
    """Whether the lid is on, in half 0 or 1 of the cycle, with `clock` in 0 .. CLOCK - 1."""
    return COVERS <= half * CLOCK + clock < OPENS


OPEN_PHASES = [phase for phase in range(CYCLE) if not covered(*divmod(phase, CLOCK))]
"""Where an episode may begin: a sign that no frame has shown could not be remembered."""


def draw_sign(frame: NDArray[np.uint8], sign: int, half: int, clock: int) -> None:
    """Put the sign, or its lid, into `frame` `(64, 64, 3)`."""
    frame[PLACE] = LIDS[half] if covered(half, clock) else SIGN_COLOURS[sign]


def read_sign(frames: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Which sign each of `frames` `(..., H, W, 3)`, of any size, shows `(...)`; -1 for none."""
    height, width = (
        slice(place.start * side // SIZE, place.stop * side // SIZE)
        for place, side in zip(PLACE, frames.shape[-3:-1], strict=True)
    )
    seen = frames[..., height, width, :].astype(np.float32)
    colours = np.array(SIGN_COLOURS, np.float32)[:, None, None]  # (3, 1, 1, 3)
    distance = np.abs(seen[..., None, :, :, :] - colours).mean(axis=(-3, -2, -1))  # (..., 3)
    return np.where(distance.min(-1) <= READ_TOLERANCE, distance.argmin(-1), -1)
