"""Recording play: an episode's header, its steps, and the writer that no crash can hurt."""

import contextlib
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from worldflow.blocks import STEP, Steps, empty_index, pack_frames, pack_steps
from worldflow.errors import InputError, WorkError
from worldflow.sections import BLOCK, HEAD, pack_footer, pack_section
from worldflow.whole_file import write_whole

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Header:
    """What is known of an episode before its first step; JSON in the file."""

    source: str  # the game's id: "bounce", "ALE/Breakout-v5"
    settings: dict[str, Any]  # of the game: skip, sticky, area, ...
    frame_rate: int  # steps per second
    action_names: tuple[str, ...]
    key_map: dict[str, int]  # pygame key names joined by "+" -> action
    seed: int
    max_episode_steps: int = 27_000  # half an hour at 15 steps per second, as ALE has it
    world_hash: str | None = None  # of the world that dreamed; None: nothing is dreamed
    engine: str | None = None
    dtype: str | None = None
    parent: str | None = None  # the episode that this one goes on from, after a rewind
    parent_step: int | None = None  # frame 0 is frame `parent_step` of the parent
    world: str | None = None  # the world as its user named it
    game_actions: tuple[int, ...] = ()  # of the real game, from reset(seed) up to frame 0
    schema_version: int = field(default=SCHEMA_VERSION, init=False)


@dataclass(frozen=True, eq=False)
class StepRecord:
    """One step: the action, and what it led to."""

    action: int
    frame: NDArray[np.uint8]  # (H, W, 3), shown after the action
    reward: float  # raw game units
    terminated: bool
    truncated: bool
    life_lost: bool
    origin: Literal["real", "dream"]
    controller: str  # who chose the action: "random", "scripted+0.3", "human"
    noise_seed: int = 0  # the noise was standard_normal(noise_seed, noise_row, noise_counter, Z)
    noise_row: int = 0
    noise_counter: int = 0
    temperature: float = 1.0
    # State of the game in which the action was taken: arrays of numbers, {} if there is none.
    truth: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class EpisodeWriter:
    """Writes an episode, one block for each second of play.

    A process that is killed loses the running block at most. Arrays are copied.

    Args:
        path: a file that does not exist yet; missing folders are made.
        header: its values must be JSON.
        start_frames: uint8 `(K, H, W, 3)`, K >= 1; the last of them is frame 0.
        start_actions: int64 `(K-1,)`, taken between them.

    Raises:
        InputError: the file exists, its folder cannot be made, or a value does not fit.
        WorkError: the disk is full or fails; the blocks before are readable.
    """

    def __init__(
        self,
        path: str | Path,
        header: Header,
        start_frames: NDArray[np.uint8],
        start_actions: NDArray[np.int64],
    ) -> None:
        self.path = Path(path)
        self._header = header
        self._frame_shape = start_frames.shape[1:]
        self._pending: list[StepRecord] = []
        self._controllers: list[str] = []
        self._truth_kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._index = empty_index()
        head = self._pack_head(start_frames, start_actions)
        self._open(head)
        self._end = len(head)  # of the bytes known to be whole

    def append(self, record: StepRecord) -> None:
        """Record one step."""
        self._check(record)
        # The steps of a block hold the same truth; a dream that begins has none.
        if self._pending and self._pending[-1].truth.keys() != record.truth.keys():
            self.flush()
        truth = {name: value.copy() for name, value in record.truth.items()}
        copied = {**vars(record), "frame": record.frame.copy(), "truth": truth}
        self._pending.append(StepRecord(**copied))
        if len(self._pending) >= self._header.frame_rate:
            self.flush()

    def close(self) -> None:
        """Write the running block and the index. Closing twice does nothing."""
        if self._file.closed:
            return
        self.flush()
        index = zlib.compress(json.dumps(self._index._asdict()).encode())
        self._write(pack_footer(self._index.steps, index, self._end))
        self._file.close()

    def __enter__(self) -> "EpisodeWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _pack_head(
        self, start_frames: NDArray[np.uint8], start_actions: NDArray[np.int64]
    ) -> bytes:
        frames, shape = start_frames, start_frames.shape
        if frames.dtype != np.uint8 or len(shape) != 4 or shape[0] < 1 or shape[3] != 3:
            raise InputError(
                f"{self.path}: start frames are {frames.dtype} {shape}, "
                "expected uint8 (K, H, W, 3), K >= 1"
            )
        if start_actions.shape != (shape[0] - 1,):
            raise InputError(
                f"{self.path}: start actions are {start_actions.shape}, expected ({shape[0] - 1},)"
            )
        about = asdict(self._header)
        about |= {"frame_shape": shape[1:], "start_actions": start_actions.tolist()}
        try:
            text = json.dumps(about)
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.path}: the header must be JSON values ({error})") from None
        return pack_section(HEAD, SCHEMA_VERSION, text.encode(), pack_frames(frames))

    def _open(self, head: bytes) -> None:
        if self.path.exists():
            raise InputError(f"{self.path} exists already; name another file")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path} cannot be made: {error.strerror}") from None
        write_whole(self.path, head)  # an episode without all of its head could not be read
        self._file = self.path.open("r+b")

    def flush(self) -> None:
        """Write the running block early: slow play may take long to fill a second."""
        if not self._pending:
            return
        steps = self._gather()
        frames = pack_frames(np.stack([record.frame for record in self._pending]))
        offset = self._end
        self._write(pack_section(BLOCK, len(steps.rows), pack_steps(steps), frames))
        self._index.add(offset, steps.rows)
        self._pending = []

    def _gather(self) -> Steps:
        rows = np.zeros(len(self._pending), STEP)
        for row, record in zip(rows, self._pending, strict=True):
            if record.controller not in self._controllers:
                self._controllers.append(record.controller)
            values = {**vars(record), "dream": record.origin == "dream"}
            values["controller"] = self._controllers.index(record.controller)
            for name in STEP.fields or ():
                row[name] = values[name]
        truth = {
            name: np.stack([record.truth[name] for record in self._pending])
            for name in self._pending[0].truth
        }
        return Steps(rows, self._controllers, truth)

    def _write(self, section: bytes) -> None:
        try:
            # A write that was interrupted is written over: it may have left half a section.
            self._file.seek(self._end)
            self._file.write(section)
            self._file.flush()
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.close()
            raise WorkError(
                f"{self.path} cannot be written: {error.strerror}; "
                f"its first {self._index.steps} steps are kept"
            ) from error
        self._end += len(section)

    def _check(self, record: StepRecord) -> None:
        frame, actions = record.frame, len(self._header.action_names)
        keys = (record.noise_seed, record.noise_row, record.noise_counter)
        if frame.dtype != np.uint8 or frame.shape != self._frame_shape:
            found, expected = f"frame {frame.dtype} {frame.shape}", f"uint8 {self._frame_shape}"
        elif not 0 <= record.action < actions:
            found, expected = f"action {record.action}", f"0 to {actions - 1}"
        elif not math.isfinite(record.reward):
            found, expected = f"reward {record.reward}", "a finite number"
        elif not all(0 <= key < 2**64 for key in keys):
            found, expected = f"noise key {keys}", "0 to 2**64 - 1"
        elif record.origin not in ("real", "dream"):
            found, expected = f"origin {record.origin!r}", "'real' or 'dream'"
        else:
            self._check_truth(record.truth)
            return
        raise InputError(f"{self.path}: a step with {found}, expected {expected}")

    def _check_truth(self, truth: Mapping[str, NDArray[Any]]) -> None:
        for name, value in truth.items():
            kind = (value.dtype.str, value.shape)
            first = self._truth_kinds.setdefault(name, kind)
            if kind != first or value.dtype.kind not in "biuf":
                raise InputError(
                    f"{self.path}: truth {name!r} is {kind}, expected numbers, always {first}"
                )
