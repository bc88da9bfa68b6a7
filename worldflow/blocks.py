"""What a block of an episode holds: a second of steps and of frames, as compressed bytes.

docs/episodes.md tells the format byte by byte.
"""

import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# The scalars of a step as they lie in the file: packed, little-endian.
STEP = np.dtype(
    [
        ("action", "<i4"),
        ("reward", "<f8"),
        ("terminated", "?"),
        ("truncated", "?"),
        ("life_lost", "?"),
        ("dream", "?"),
        ("controller", "<u2"),  # index into the list of names, which only grows within a file
        ("noise_seed", "<u8"),
        ("noise_row", "<u8"),
        ("noise_counter", "<u8"),
        ("temperature", "<f8"),
    ]
)
_FRAME_LEVEL = 1  # read three times as fast as level 6, for half as many bytes again
MAX_REWARD_VALUES = 64  # a game with more distinct rewards has no list of them
_META_LENGTH = struct.Struct("<I")

Truth = dict[str, NDArray[Any]]
"""Named arrays, steps first."""


class Steps(NamedTuple):
    """All of N steps but their frames."""

    rows: NDArray[np.void]  # (N,) of STEP
    controllers: list[str]
    truth: Truth  # each (N, ...)


def pack_steps(steps: Steps) -> bytes:
    """The steps part of a block."""
    truth = {
        name: np.asarray(value, value.dtype.newbyteorder("<"), order="C")
        for name, value in steps.truth.items()
    }
    layout = [[name, value.dtype.str, value.shape[1:]] for name, value in truth.items()]
    meta = json.dumps({"controllers": steps.controllers, "truth": layout}).encode()
    arrays = b"".join(value.tobytes() for value in truth.values())
    return zlib.compress(_META_LENGTH.pack(len(meta)) + meta + steps.rows.tobytes() + arrays)


def unpack_steps(part: bytes, count: int) -> Steps:
    """The `count` steps of a block."""
    data = zlib.decompress(part)
    (meta_length,) = _META_LENGTH.unpack_from(data)
    offset = _META_LENGTH.size + meta_length
    meta = json.loads(data[_META_LENGTH.size : offset])
    rows: NDArray[np.void] = np.frombuffer(data, STEP, count, offset)
    offset += rows.nbytes
    truth: Truth = {}
    for name, dtype, shape in meta["truth"]:
        size = count * int(np.prod(shape))
        flat: NDArray[Any] = np.frombuffer(data, np.dtype(dtype), size, offset)
        truth[name] = flat.reshape(count, *shape)
        offset += flat.nbytes
    return Steps(rows, meta["controllers"], truth)


def pack_frames(frames: NDArray[np.uint8]) -> bytes:
    """Frames uint8 `(N, H, W, 3)`: the first as it is, each other as the change modulo 256."""
    changes = frames.copy()
    changes[1:] -= frames[:-1]
    return zlib.compress(changes.tobytes(), _FRAME_LEVEL)


def unpack_frames(part: bytes, count: int, shape: Sequence[int]) -> NDArray[np.uint8]:
    """The first `count` frames, uint8 `(count, H, W, 3)`; later ones are not decompressed."""
    size = count * int(np.prod(shape))
    data = bytearray(zlib.decompressobj().decompress(part, size))
    frames = np.frombuffer(data, np.uint8).reshape(count, *shape)
    for t in range(1, count):  # a hundred times as fast as np.add.accumulate
        frames[t] += frames[t - 1]
    return frames


class Index(NamedTuple):
    """Where the blocks are, and what a sampler looks for; the JSON of the footer."""

    offsets: list[int]  # of each block in the file
    ends: list[int]  # number of steps up to the end of each block
    terminations: list[int]  # the steps that are terminated
    rewards: list[float]  # distinct, sorted; cut after MAX_REWARD_VALUES + 1 of them

    @property
    def steps(self) -> int:
        """Number of steps in all blocks."""
        return self.ends[-1] if self.ends else 0

    def add(self, offset: int, rows: NDArray[np.void]) -> None:
        """Note the next block, of STEP `rows`, at `offset`."""
        first = self.steps
        self.offsets.append(offset)
        self.ends.append(first + len(rows))
        self.terminations.extend((first + np.flatnonzero(rows["terminated"])).tolist())
        distinct = sorted({*self.rewards, *rows["reward"].tolist()})
        self.rewards[:] = distinct[: MAX_REWARD_VALUES + 1]


def empty_index() -> Index:
    """The index of a file without blocks."""
    return Index([], [], [], [])
