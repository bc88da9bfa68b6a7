"""Open-loop rollouts beside the recording: a few real frames, then the recorded actions alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from worldflow.engine import Engine
from worldflow.episode import Episode
from worldflow.errors import InputError
from worldflow.metrics import SSIM_WINDOW, psnr, ssim
from worldflow.noise import standard_normal

HORIZONS = (1, 8, 16, 32, 64)  # frames ahead of which the report gives figures


def noise_rows(seed: int, rows: NDArray[np.int64], counter: int, size: int) -> NDArray[np.float32]:
    """The noise `(N, size)` of one step for the rollouts numbered `rows` `(N,)`."""
    return np.stack([standard_normal(seed, int(row), counter, size) for row in rows])


class Clip(NamedTuple):
    """A place in an episode: `start` is the index of the first context frame."""

    episode: Episode
    start: int


class Rollouts(NamedTuple):
    """What rolling out C clips gave; each figure is the mean over the samples of its clip."""

    psnr: NDArray[np.float64]  # (C, horizon), dB; column h - 1 is h frames ahead
    copy_psnr: NDArray[np.float64]  # (C, horizon), dB, of repeating the last context frame
    ssim: NDArray[np.float64]  # (C, horizon), at HORIZONS only, else NaN


class Watcher(Protocol):
    """Sees every frame of every rollout, beside the recorded one, and keeps what it wants."""

    def see(
        self,
        numbers: NDArray[np.int64],
        ahead: int,
        drawn: NDArray[np.uint8],
        truth: NDArray[np.uint8],
    ) -> None:
        """Frames `ahead` (1 is the first drawn) of the G clips `numbers` `(G,)`.

        `drawn` is `(G, S, H, W, 3)`, `truth` `(G, H, W, 3)`.
        """
        ...


@dataclass(frozen=True)
class RolloutConfig:
    """The protocol: how many clips, and how each is rolled out."""

    clips: int = 256
    samples: int = 4  # rollouts of each clip, with noise of their own
    context: int = 8  # real frames given
    horizon: int = 64  # frames drawn
    seed: int = 0
    batch: int = 64  # rollouts side by side


def draw_clips(episodes: list[Episode], config: RolloutConfig) -> list[Clip]:
    """`config.clips` distinct clips, uniform over all places with the horizon still recorded.

    A function of the episodes and the seed; all there are, if fewer; in recorded order.

    Raises:
        InputError: no episode is long enough.
    """
    needed = config.context - 1 + config.horizon
    places = np.array([max(0, len(episode) - needed + 1) for episode in episodes])
    total = int(places.sum())
    if total == 0:
        longest = max((len(episode) for episode in episodes), default=0)
        fits = longest - config.context + 1
        raise InputError(
            f"horizon={config.horizon}: needs an episode of {needed} steps, but the longest has "
            f"{longest}; " + (f"horizon={fits} fits" if fits > 0 else "record longer episodes")
        )
    random = np.random.default_rng(config.seed)
    chosen = np.sort(random.choice(total, min(config.clips, total), replace=False))
    ends = np.cumsum(places)
    owners = np.searchsorted(ends, chosen, side="right")
    starts = chosen - (ends - places)[owners]
    return [Clip(episodes[owner], int(start)) for owner, start in zip(owners, starts, strict=True)]


def roll_out(
    engine: Engine, clips: list[Clip], config: RolloutConfig, watchers: Sequence[Watcher] = ()
) -> Rollouts:
    """Roll every clip out under its recorded actions, at temperature 1, and compare."""
    group = max(1, config.batch // config.samples)  # clips side by side
    parts = []
    for first in tqdm(range(0, len(clips), group), desc="rollouts", unit="batch"):
        numbers = np.arange(first, min(first + group, len(clips)))
        parts.append(_roll_group(engine, clips, numbers, config, watchers))
    return Rollouts(*np.concatenate(parts, axis=1))


def _roll_group(
    engine: Engine,
    clips: list[Clip],
    numbers: NDArray[np.int64],
    config: RolloutConfig,
    watchers: Sequence[Watcher],
) -> NDArray[np.float64]:
    """Roll out the G clips numbered `numbers`: PSNR, that of copying, SSIM `(3, G, horizon)`."""
    context, horizon, samples = config.context, config.horizon, config.samples
    frames, actions = read_clips([clips[number] for number in numbers], context + horizon)
    rows = (numbers[:, None] * samples + np.arange(samples)).ravel()  # one noise row a rollout
    temperature = np.ones(len(rows), np.float32)
    repeated = actions.repeat(samples, axis=0)  # (G * samples, context - 1 + horizon)
    state = engine.start(frames[:, :context].repeat(samples, axis=0), repeated[:, : context - 1])
    figures = np.full((3, len(numbers), horizon), np.nan)
    for ahead in range(1, horizon + 1):
        noise = noise_rows(config.seed, rows, ahead - 1, engine.noise_size)
        step = engine.step(state, repeated[:, context - 2 + ahead], noise, temperature)
        state = step.state
        drawn = step.frame.reshape(len(numbers), samples, *step.frame.shape[1:])
        truth = frames[:, context - 1 + ahead]
        figures[0, :, ahead - 1] = psnr(drawn, truth[:, None]).mean(axis=1)
        figures[1, :, ahead - 1] = psnr(frames[:, context - 1], truth)
        if ahead in HORIZONS and min(truth.shape[1:3]) >= SSIM_WINDOW:
            figures[2, :, ahead - 1] = ssim(drawn, truth[:, None]).mean(axis=1)
        for watcher in watchers:
            watcher.see(numbers, ahead, drawn, truth)
    return figures


def read_clips(clips: list[Clip], length: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The recorded frames `(G, length, H, W, 3)` and actions `(G, length - 1)` of clips."""
    frames = [clip.episode.frames(clip.start, clip.start + length) for clip in clips]
    actions = [clip.episode.actions(clip.start, clip.start + length - 1) for clip in clips]
    return np.stack(frames), np.stack(actions)


class DreamKeeper:
    """Keeps the rollouts of some clips as pictures; watches them being drawn."""

    def __init__(self, chosen: Sequence[int], samples: int) -> None:
        """`chosen`: numbers of the clips; `samples`: rollouts kept of each, at most."""
        self._samples = samples
        self._frames: dict[int, list[NDArray[np.uint8]]] = {number: [] for number in chosen}

    def see(
        self,
        numbers: NDArray[np.int64],
        ahead: int,
        drawn: NDArray[np.uint8],
        truth: NDArray[np.uint8],
    ) -> None:
        for number, frames in zip(numbers.tolist(), drawn, strict=True):
            if number in self._frames:
                self._frames[number].append(frames[: self._samples].copy())

    def dreams(self) -> dict[int, NDArray[np.uint8]]:
        """Clip number -> uint8 `(S, horizon, H, W, 3)`; entry h - 1 is h frames ahead."""
        return {number: np.stack(kept, axis=1) for number, kept in self._frames.items()}
