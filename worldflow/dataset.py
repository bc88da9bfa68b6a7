"""Many episodes of one game, and random clips of them; read from disk, never loaded whole."""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldflow.blocks import MAX_REWARD_VALUES
from worldflow.episode import SUFFIX, Episode, Header
from worldflow.errors import InputError

# Keeps the draws of clips apart from the model's noise, which has the seed for a key too.
_CLIP_STREAM = int.from_bytes(b"clips", "big")


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

    frames: NDArray[np.uint8]  # (B, P+T+1, H, W, 3)
    actions: NDArray[np.int64]  # (B, P+T)
    rewards: NDArray[np.float32]  # (B, T), raw game units
    terminated: NDArray[np.bool_]  # (B, T)
    valid: NDArray[np.bool_]  # (B, T)
    index: NDArray[np.int64]  # (B, T), which step of the data set; -1 where not valid


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
    ) -> None:
        if not dataset.episodes:
            raise InputError("a data set without episodes: no clip can be drawn; record more")
        if batch < 1 or horizon < 1 or not 0 <= seed < 2**64 or not 0 <= terminal_fraction <= 1:
            raise InputError(
                f"batch {batch}, horizon {horizon}, seed {seed}, terminal_fraction "
                f"{terminal_fraction}: expected >= 1, >= 1, 0 to 2**64 - 1, 0 to 1"
            )
        self._dataset = dataset
        self._batch, self._horizon, self._seed = batch, horizon, seed
        self._past, self._fresh = past, fresh
        self._ends = np.cumsum([len(episode) for episode in dataset.episodes])
        self._terminations = [
            (number, step)
            for number, episode in enumerate(dataset.episodes)
            for step in episode.terminations
        ]
        self._terminal_fraction = terminal_fraction if self._terminations else 0.0

    def clips(self, step: int, batch: int | None = None, horizon: int | None = None) -> Clips:
        """The clips of training step `step` >= 0, by default of the sampler's own sizes."""
        batch = self._batch if batch is None else batch
        horizon = horizon or self._horizon
        clips = _empty_clips(self._dataset, batch, self._past, horizon)
        for row, draw in enumerate(self._draws(step, batch)):
            number, first, stop = self._place(draw, horizon)
            known = 0 if draw[3] < self._fresh else min(self._past, first)
            self._fill(clips, row, number, first, stop, known)
        return clips

    def weighted_steps(self, step: int, batch: int, weights: NDArray[np.float32]) -> Clips:
        """`batch` clips of a single step each, drawn in proportion to its weight.

        `weights` `(dataset.steps,)`, >= 0, not all of them 0.
        """
        cumulative = np.cumsum(weights, dtype=np.float64)
        clips = _empty_clips(self._dataset, batch, self._past, 1)
        for row, draw in enumerate(self._draws(step, batch)):
            drawn = np.searchsorted(cumulative, draw[1] * cumulative[-1], side="right")
            number, first = self._find(int(drawn))
            self._fill(clips, row, number, first, first + 1, min(self._past, first))
        return clips

    def _draws(self, step: int, batch: int) -> NDArray[np.float64]:
        """Four uniform draws in [0, 1) for each row: `(batch, 4)`."""
        key = np.array([self._seed, _CLIP_STREAM], np.uint64)
        bits = np.random.Philox(key=key, counter=[0, 0, 0, step])
        return np.random.Generator(bits).random((batch, 4))

    def _find(self, step: int) -> tuple[int, int]:
        """The episode of a step of the data set, and which of its own steps it is."""
        number = int(np.searchsorted(self._ends, step, side="right"))
        return number, step - int(self._ends[number]) + len(self._dataset.episodes[number])

    def _place(self, draw: NDArray[np.float64], horizon: int) -> tuple[int, int, int]:
        """Episode, first step and stop of a clip; `draw` is uniform in [0, 1)."""
        if draw[0] < self._terminal_fraction:
            number, last = self._terminations[int(draw[1] * len(self._terminations))]
            return number, max(0, last + 1 - horizon), last + 1
        number, step = self._find(int(draw[1] * self._ends[-1]))
        length = len(self._dataset.episodes[number])
        # Moved into the episode rather than cut: its first and last steps are drawn too.
        first = step - int(draw[2] * horizon)
        first = max(0, min(first, length - horizon))
        return number, first, min(first + horizon, length)

    def _fill(self, clips: Clips, row: int, number: int, first: int, stop: int, known: int) -> None:
        """Steps `first` to `stop` of an episode, and the `known` ones before them."""
        episode = self._dataset.episodes[number]
        missing, count = self._past - known, stop - first
        frames = episode.frames(first - known, stop + 1)
        steps = episode.steps(first - known, stop).rows
        clips.frames[row, :missing] = frames[0]
        clips.frames[row, missing : missing + len(frames)] = frames
        clips.frames[row, missing + len(frames) :] = frames[-1]
        clips.actions[row, missing : missing + len(steps)] = steps["action"]
        clips.rewards[row, :count] = steps["reward"][known:]
        clips.terminated[row, :count] = steps["terminated"][known:]
        clips.valid[row, :count] = True
        before = int(self._ends[number]) - len(episode)
        clips.index[row, :count] = before + np.arange(first, stop)


def _empty_clips(dataset: Dataset, batch: int, past: int, horizon: int) -> Clips:
    length, none = past + horizon, len(dataset.header.action_names)
    actions = np.zeros((batch, length), np.int64)
    actions[:, :past] = none
    return Clips(
        np.zeros((batch, length + 1, *dataset.frame_shape), np.uint8),
        actions,
        np.zeros((batch, horizon), np.float32),
        np.zeros((batch, horizon), np.bool_),
        np.zeros((batch, horizon), np.bool_),
        np.full((batch, horizon), -1, np.int64),
    )
