"""Recorded play: one append-only file per episode, lossless, readable after any crash.

docs/episodes.md tells the format byte by byte.
"""

import bisect
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldflow.blocks import (
    MAX_REWARD_VALUES,
    STEP,
    Index,
    Steps,
    Truth,
    empty_index,
    unpack_frames,
    unpack_steps,
)
from worldflow.errors import InputError
from worldflow.recording import SCHEMA_VERSION, EpisodeWriter, Header, StepRecord
from worldflow.sections import FOOT, HEAD, DamagedEpisode, Section, SectionReader, damaged

__all__ = ["SUFFIX", "DamagedEpisode", "Episode", "EpisodeWriter", "Header", "StepRecord"]

SUFFIX = ".episode"


class _Block(NamedTuple):
    """A block to read, and the range of its steps that is asked for."""

    reader: SectionReader
    section: Section
    name: str
    first: int
    stop: int


@dataclass(frozen=True, eq=False)
class Episode:
    """A recorded episode of T steps: `Episode.open(path)`.

    Step t takes `actions[t]` at frame t and leads to frame t+1, so there are T+1 frames.
    Every reading method takes a range, first <= t < stop, the whole episode by default; it
    opens the file, reads and checks the blocks that it needs, and keeps nothing.

    Raises:
        InputError: a range outside the episode; from `open` also: no such file, not an
            episode, or one of a newer worldflow.
        DamagedEpisode: what was read does not match its checksum.
    """

    path: Path
    header: Header
    frame_shape: tuple[int, int, int]  # (H, W, 3)
    start_actions: NDArray[np.int64]  # (K-1,)
    complete: bool  # False: its writer was killed, and the steps of the last second are lost
    index: Index
    head: Section

    @classmethod
    def open(cls, path: str | Path) -> "Episode":
        """Read what is needed to find any step; no frames."""
        path = Path(path)
        with SectionReader(path) as reader:
            head = _read_head(reader, path)
            about = json.loads(reader.part(head, 0, "its header"))
            shape, start_actions = about.pop("frame_shape"), about.pop("start_actions")
            for name in ("action_names", "game_actions"):
                about[name] = tuple(about.get(name, ()))
            del about["schema_version"]
            index, complete = _read_index(reader, head.end)
        return cls(
            path,
            Header(**about),
            (shape[0], shape[1], shape[2]),
            np.array(start_actions, np.int64),
            complete,
            index,
            head,
        )

    def __len__(self) -> int:
        """T, the number of steps."""
        return self.index.steps

    @property
    def terminations(self) -> list[int]:
        """The steps that ended the game."""
        return self.index.terminations

    @property
    def reward_values(self) -> list[float] | None:
        """The distinct rewards, sorted; None if there are more than 64."""
        return None if len(self.index.rewards) > MAX_REWARD_VALUES else self.index.rewards

    @property
    def start_frames(self) -> NDArray[np.uint8]:
        """uint8 `(K, H, W, 3)`; the last of them is frame 0."""
        with SectionReader(self.path) as reader:
            part = reader.part(self.head, 1, "its start frames")
        return unpack_frames(part, len(self.start_actions) + 1, self.frame_shape)

    def frames(self, first: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Frames first <= t < stop of the T+1, uint8 `(stop - first, H, W, 3)`."""
        stop = self._stop(first, stop, len(self) + 1)
        parts = [np.zeros((0, *self.frame_shape), np.uint8)]
        if first == 0 < stop:
            parts.append(self.start_frames[-1:])
        for block in self._blocks(max(first - 1, 0), stop - 1):
            part = block.reader.part(block.section, 1, block.name)
            parts.append(unpack_frames(part, block.stop, self.frame_shape)[block.first :])
        return np.concatenate(parts)

    def steps(self, first: int = 0, stop: int | None = None) -> Steps:
        """All of the steps first <= t < stop but their frames.

        `truth` has the names that all of these steps have.
        """
        stop = self._stop(first, stop, len(self))
        rows: list[NDArray[np.void]] = [np.zeros(0, STEP)]
        truths: list[Truth] = []
        controllers: list[str] = []
        for block in self._blocks(first, stop):
            part = block.reader.part(block.section, 0, block.name)
            steps, wanted = unpack_steps(part, block.section.number), slice(block.first, block.stop)
            rows.append(steps.rows[wanted])
            truths.append({name: array[wanted] for name, array in steps.truth.items()})
            controllers = steps.controllers  # begins with the list of the block before
        common = (
            [name for name in truths[0] if all(name in each for each in truths)] if truths else []
        )
        truth = {name: np.concatenate([each[name] for each in truths]) for name in common}
        return Steps(np.concatenate(rows), controllers, truth)

    def actions(self, first: int = 0, stop: int | None = None) -> NDArray[np.int64]:
        """int64 `(stop - first,)`, as are all below."""
        return self.steps(first, stop).rows["action"].astype(np.int64)

    def rewards(self, first: int = 0, stop: int | None = None) -> NDArray[np.float64]:
        """float64, raw game units."""
        return self._column("reward", first, stop)

    def terminated(self, first: int = 0, stop: int | None = None) -> NDArray[np.bool_]:
        """bool: the game ended with this step."""
        return self._column("terminated", first, stop)

    def truncated(self, first: int = 0, stop: int | None = None) -> NDArray[np.bool_]:
        """bool: play was cut off after this step."""
        return self._column("truncated", first, stop)

    def life_lost(self, first: int = 0, stop: int | None = None) -> NDArray[np.bool_]:
        """bool: a life was lost in this step."""
        return self._column("life_lost", first, stop)

    def origin(self, first: int = 0, stop: int | None = None) -> list[str]:
        """ "real" or "dream" for each step."""
        return ["dream" if dream else "real" for dream in self._column("dream", first, stop)]

    def controller(self, first: int = 0, stop: int | None = None) -> list[str]:
        """Who chose each action."""
        steps = self.steps(first, stop)
        return [steps.controllers[index] for index in steps.rows["controller"]]

    def truth(self, first: int = 0, stop: int | None = None) -> Truth:
        """State of the game in which each action was taken, arrays `(stop - first, ...)`."""
        return self.steps(first, stop).truth

    def verify(self) -> None:
        """Read the whole file once and check every byte of it."""
        with SectionReader(self.path) as reader:
            reader.part(self.head, 1, "its start frames")
        for block in self._blocks(0, len(self)):
            for which in (0, 1):
                block.reader.part(block.section, which, block.name)

    def _column(self, name: str, first: int, stop: int | None) -> NDArray[Any]:
        return self.steps(first, stop).rows[name].copy()

    def _stop(self, first: int, stop: int | None, length: int) -> int:
        stop = length if stop is None else stop
        if not 0 <= first <= stop <= length:
            raise InputError(f"{self.path}: {first} to {stop} asked for, it has 0 to {length}")
        return stop

    def _blocks(self, first: int, stop: int) -> Iterator[_Block]:
        """The blocks that hold the steps first <= t < stop."""
        if first >= stop:
            return
        with SectionReader(self.path) as reader:
            for number in range(bisect.bisect_right(self.index.ends, first), len(self.index.ends)):
                begins = self.index.ends[number - 1] if number else 0
                if begins >= stop:
                    break
                name = f"block {number}"
                section = reader.section(self.index.offsets[number], name)
                if section is None:
                    raise damaged(self.path, name)
                wanted = max(first - begins, 0), min(stop - begins, section.number)
                yield _Block(reader, section, name, *wanted)


def _read_head(reader: SectionReader, path: Path) -> Section:
    """The section with header and start frames."""
    if not reader.starts_like(HEAD):
        raise InputError(f"{path}: not an episode; expected a file recorded by worldflow")
    head = reader.section(0, "its header")
    if head is None:
        raise InputError(f"{path}: cut short within its header, nothing to read; remove the file")
    if head.number != SCHEMA_VERSION:
        raise InputError(
            f"{path}: episode schema {head.number}, this worldflow reads {SCHEMA_VERSION}; "
            "update worldflow"
        )
    return head


def _read_index(reader: SectionReader, offset: int) -> tuple[Index, bool]:
    """The index, and whether the episode was closed; the blocks begin at `offset`."""
    footer = reader.footer()
    if footer is None:
        return _walk(reader, offset)
    return Index(**json.loads(zlib.decompress(reader.part(footer, 0, "its index")))), True


def _walk(reader: SectionReader, offset: int) -> tuple[Index, bool]:
    """The same for a file whose end is torn or damaged: hop from block to block."""
    index = empty_index()
    while (section := reader.section(offset, name := f"block {len(index.ends)}")) is not None:
        if section.kind == FOOT:
            reader.part(section, 0, "its index")
            reader.part(section, 1, "its end")
            return index, True
        steps = unpack_steps(reader.part(section, 0, name), section.number)
        index.add(offset, steps.rows)
        offset = section.end
    return index, False
