"""Many episodes of one game, and random clips of them.

Frames are read from disk as they are needed, or all of them are kept, decoded, on the device.
"""

import hashlib
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldflow.blocks import MAX_REWARD_VALUES
from worldflow.episode import SUFFIX, Episode, Header
from worldflow.errors import InputError

# Keeps the draws of clips apart from the model's noise, which has the seed for a key too.
_CLIP_STREAM = int.from_bytes(b"clips", "big")


class Columns(NamedTuple):
    """What training needs of all steps beside their frames, one episode after the other."""

    action: NDArray[np.int64]  # (steps,)
    reward: NDArray[np.float32]  # (steps,), raw game units
    terminated: NDArray[np.bool_]  # (steps,)

    @property
    def events(self) -> NDArray[np.int64]:
        """The steps with a reward or an end."""
        return np.flatnonzero((self.reward != 0) | self.terminated)


@dataclass(frozen=True)
class Dataset:
    """Episodes that fit together: one game, one list of actions, one frame size."""

    header: Header  # of the first episode; game, actions and frame rate are those of all
    frame_shape: tuple[int, int, int]  # (H, W, 3)
    episodes: list[Episode]  # sorted by path; none without steps

    @property
    def steps(self) -> int:
        """Number of steps of all episodes."""
        return sum(len(episode) for episode in self.episodes)

    @cached_property
    def columns(self) -> Columns:
        """Read once, and kept."""
        rows = [episode.steps(0, len(episode)).rows for episode in self.episodes]
        action, reward, terminated = (
            np.concatenate([part[name] for part in rows])
            for name in ("action", "reward", "terminated")
        )
        return Columns(action.astype(np.int64), reward.astype(np.float32), terminated)

    def decoded_frames(self, device: str) -> Tensor:
        """All frames, one episode after the other: uint8 `(steps + episodes, H, W, 3)`."""
        lengths = [len(episode) + 1 for episode in self.episodes]
        frames = torch.empty((sum(lengths), *self.frame_shape), dtype=torch.uint8, device=device)
        parts = frames.split(lengths)

        def read(number: int) -> None:
            parts[number].copy_(torch.from_numpy(self.episodes[number].frames()))

        with ThreadPoolExecutor() as pool:
            list(pool.map(read, range(len(parts))))
        return frames

    @property
    def reward_values(self) -> list[float] | None:
        """The distinct rewards, sorted; None if there are more than 64."""
        values: set[float] = set()
        for episode in self.episodes:
            if episode.reward_values is None:
                return None
            values.update(episode.reward_values)
        return sorted(values) if len(values) <= MAX_REWARD_VALUES else None

    def split(self, holdout: float) -> tuple["Dataset", "Dataset"]:
        """Episodes to train on, and about the fraction `holdout` of them to judge by.

        A hash of its file name puts an episode on its side, so that it stays there when the
        data set grows or moves. Of two episodes or more, each side gets one.

        Raises:
            InputError: not 0 < holdout < 1.
        """
        if not 0 < holdout < 1:
            raise InputError(f"holdout is {holdout}, expected a fraction between 0 and 1")
        ranked = sorted(self.episodes, key=_hash)
        count = sum(_hash(episode) < holdout for episode in ranked)
        count = max(1, min(count, len(ranked) - 1)) if len(ranked) > 1 else 0
        held = {id(episode) for episode in ranked[:count]}
        sides = [[e for e in self.episodes if (id(e) in held) == side] for side in (False, True)]
        train, held_out = (Dataset(self.header, self.frame_shape, side) for side in sides)
        return train, held_out


def _hash(episode: Episode) -> float:
    """In [0, 1), by the file's name."""
    digest = hashlib.sha256(episode.path.name.encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def open_dataset(paths: str | Path | Sequence[str | Path], strict: bool = False) -> Dataset:
    """The episodes in a folder and the folders within, in one file, or in several of either.

    Every byte is read once, to find damage by its checksum; nothing is kept but the indices.

    Args:
        paths: files and folders.
        strict: refuse a damaged file, instead of skipping it with a warning.

    Raises:
        InputError: nothing there, no whole episode, or episodes that do not fit together.
        DamagedEpisode: a damaged file, if `strict`.
    """
    given = [paths] if isinstance(paths, (str, Path)) else paths
    episodes = []
    for path in sorted({file for each in given for file in _files(Path(each))}):
        try:
            episode = Episode.open(path)
            episode.verify()
        except InputError as error:
            if strict:
                raise
            warnings.warn(f"skipped {error}", stacklevel=2)
            continue
        if len(episode):  # a recording stopped within its first second has no steps
            episodes.append(episode)
    if not episodes:
        raise InputError(
            f"{', '.join(map(str, given))}: no episode with a step in it; "
            "record some: worldflow collect env=... out=FOLDER"
        )
    for episode in episodes[1:]:
        _check_alike(episodes[0], episode)
    return Dataset(episodes[0].header, episodes[0].frame_shape, episodes)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return list(path.rglob(f"*{SUFFIX}"))
    if path.exists():
        return [path]
    raise InputError(f"{path}: no such file or folder; expected an episode or a folder of them")


def _check_alike(first: Episode, other: Episode) -> None:
    for name, a, b in (
        ("game", first.header.source, other.header.source),
        ("actions", first.header.action_names, other.header.action_names),
        ("frame size", first.frame_shape, other.frame_shape),
        ("frame rate", first.header.frame_rate, other.header.frame_rate),
    ):
        if a != b:
            raise InputError(
                f"mixed {name}: {a} in {first.path}, {b} in {other.path}; open them apart"
            )


@dataclass(frozen=True, eq=False)
class Clips:
    """B clips of T steps, with the P frames and actions before them.

    Step t takes `actions[:, P + t]` at frame P + t and leads to frame P + t + 1. Before an
    episode's first frame: that frame again, and "no action" (one above the last action).
    After the end of a short clip: its last frame again, action 0, reward 0, not valid.
    """

    frames: Tensor  # (B, P+T+1, H, W, 3) uint8, on the device where the data set's are kept
    actions: NDArray[np.int64]  # (B, P+T)
    rewards: NDArray[np.float32]  # (B, T), raw game units
    terminated: NDArray[np.bool_]  # (B, T)
    valid: NDArray[np.bool_]  # (B, T)
    index: NDArray[np.int64]  # (B, T), which step of the data set; -1 where not valid


class _Places(NamedTuple):
    """Where B clips lie: steps of their own episodes."""

    episode: NDArray[np.int64]  # (B,)
    first: NDArray[np.int64]  # (B,)
    stop: NDArray[np.int64]  # (B,)
    known: NDArray[np.int64]  # (B,), how many steps before the first are told


class ClipSampler:
    """Random clips, a pure function of (seed, step); row i does not depend on the batch size.

    A clip covers a step drawn uniformly from the data set and lies within one episode; only
    an episode shorter than the horizon is padded. A fraction of the rows instead ends in a
    termination, drawn uniformly from all.

    Args:
        dataset: one episode at least.
        batch: clips per step.
        horizon: T, steps of a clip.
        seed: 0 <= seed < 2**64.
        past: P, frames and actions before each clip.
        fresh: expected fraction of rows that pretend to be an episode's start, so that a
            world can be started from a single frame.
        terminal_fraction: expected fraction of rows that must end in a termination, if the
            data set has any.
        frames: the data set's `decoded_frames`; None reads them from disk, clip by clip.

    Raises:
        InputError: an empty data set, or a value out of its range.
        DamagedEpisode: a file that was damaged since the data set was opened.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch: int,
        horizon: int,
        seed: int,
        *,
        past: int = 0,
        fresh: float = 0.0,
        terminal_fraction: float = 0.15,
        frames: Tensor | None = None,
    ) -> None:
        if not dataset.episodes:
            raise InputError("a data set without episodes: no clip can be drawn; record more")
        if batch < 1 or horizon < 1 or not 0 <= seed < 2**64 or not 0 <= terminal_fraction <= 1:
            raise InputError(
                f"batch {batch}, horizon {horizon}, seed {seed}, terminal_fraction "
                f"{terminal_fraction}: expected >= 1, >= 1, 0 to 2**64 - 1, 0 to 1"
            )
        self._dataset, self._frames = dataset, frames
        self._batch, self._horizon, self._seed = batch, horizon, seed
        self._past, self._fresh = past, fresh
        self._lengths = np.array([len(episode) for episode in dataset.episodes])
        self._ends = np.cumsum(self._lengths)
        self._begins = self._ends - self._lengths  # steps of the data set, as are terminations
        last_steps = [
            begin + step
            for begin, episode in zip(self._begins, dataset.episodes, strict=True)
            for step in episode.terminations
        ]
        self._terminations = np.array(last_steps, np.int64)
        self._terminal_fraction = terminal_fraction if len(self._terminations) else 0.0

    def clips(self, step: int, batch: int | None = None, horizon: int | None = None) -> Clips:
        """The clips of training step `step` >= 0, by default of the sampler's own sizes."""
        horizon = horizon or self._horizon
        draws = self._draws(step, self._batch if batch is None else batch)
        episode, first = self._find((draws[:, 1] * self._ends[-1]).astype(np.int64))
        # Moved into the episode rather than cut: its first and last steps are drawn too.
        first = first - (draws[:, 2] * horizon).astype(np.int64)
        first = np.clip(first, 0, np.maximum(self._lengths[episode] - horizon, 0))
        stop = np.minimum(first + horizon, self._lengths[episode])
        ending = draws[:, 0] < self._terminal_fraction
        drawn = (draws[ending, 1] * len(self._terminations)).astype(np.int64)
        episode[ending], last = self._find(self._terminations[drawn])
        first[ending], stop[ending] = np.maximum(last + 1 - horizon, 0), last + 1
        known = np.where(draws[:, 3] < self._fresh, 0, np.minimum(first, self._past))
        return self._read(_Places(episode, first, stop, known), horizon)

    def weighted_steps(self, step: int, batch: int, weights: NDArray[np.float32]) -> Clips:
        """`batch` clips of a single step each, drawn in proportion to its weight.

        `weights` `(dataset.steps,)`, >= 0, not all of them 0.
        """
        cumulative = np.cumsum(weights, dtype=np.float64)
        draws = self._draws(step, batch)[:, 1] * cumulative[-1]
        return self.steps(np.searchsorted(cumulative, draws, side="right"))

    def steps(self, numbers: NDArray[np.int64], horizon: int = 1) -> Clips:
        """The steps `numbers` `(B,)` of the data set, and those after them, as clips."""
        episode, first = self._find(numbers)
        stop = np.minimum(first + horizon, self._lengths[episode])
        known = np.minimum(first, self._past)
        return self._read(_Places(episode, first, stop, known), horizon)

    def _draws(self, step: int, batch: int) -> NDArray[np.float64]:
        """Four uniform draws in [0, 1) for each row: `(batch, 4)`."""
        key = np.array([self._seed, _CLIP_STREAM], np.uint64)
        bits = np.random.Philox(key=key, counter=[0, 0, 0, step])
        return np.random.Generator(bits).random((batch, 4))

    def _find(self, step: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The episodes of steps of the data set, and which of their own steps they are."""
        episode = np.searchsorted(self._ends, step, side="right")
        return episode, step - self._begins[episode]

    def _read(self, places: _Places, horizon: int) -> Clips:
        episode, first, stop, known = (part[:, None] for part in places)
        columns, begin = self._dataset.columns, self._begins[episode]
        steps = first + np.arange(-self._past, horizon)
        told = (steps >= first - known) & (steps < stop)
        index = np.where(told, begin + steps, 0)
        nothing = np.where(steps < first, len(self._dataset.header.action_names), 0)
        valid, ahead = told[:, self._past :], index[:, self._past :]
        shown = np.clip(first + np.arange(-self._past, horizon + 1), first - known, stop)
        return Clips(
            self._frames_at(places.episode, shown),
            actions=np.where(told, columns.action[index], nothing),
            rewards=np.where(valid, columns.reward[ahead], np.float32(0)),
            terminated=valid & columns.terminated[ahead],
            valid=valid,
            index=np.where(valid, ahead, -1),
        )

    def _frames_at(self, episode: NDArray[np.int64], shown: NDArray[np.int64]) -> Tensor:
        """Frames `shown` `(B, L)`, ascending, of B episodes: uint8 `(B, L, H, W, 3)`."""
        if self._frames is not None:  # each episode has one frame more than steps
            which = (self._begins[episode] + episode)[:, None] + shown
            return self._frames[torch.from_numpy(which).to(self._frames.device)]
        clips = np.empty((*shown.shape, *self._dataset.frame_shape), np.uint8)
        for clip, number, times in zip(clips, episode, shown, strict=True):
            first = int(times[0])
            frames = self._dataset.episodes[number].frames(first, int(times[-1]) + 1)
            clip[:] = frames[times - first]
        return torch.from_numpy(clips)
