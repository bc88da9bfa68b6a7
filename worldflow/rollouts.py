"""Open-loop rollouts beside the recording: a few real frames, then the recorded actions alone."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from worldflow.engine import Engine
from worldflow.episode import Episode
from worldflow.errors import InputError
from worldflow.metrics import SSIM_WINDOW, psnr, ssim
from worldflow.noise import standard_normal

HORIZONS = (1, 8, 16, 32, 64)  # frames ahead of which the report gives figures
FILMS = 4  # clips that are kept as pictures
FILM_SAMPLES = 2  # rollouts shown of each


def noise_rows(seed: int, rows: NDArray[np.int64], counter: int, size: int) -> NDArray[np.float32]:
    """The noise `(N, size)` of one step for the rollouts numbered `rows` `(N,)`."""
    return np.stack([standard_normal(seed, int(row), counter, size) for row in rows])


class Clip(NamedTuple):
    """A place in an episode: `start` is the index of the first context frame."""

    episode: Episode
    start: int


class Film(NamedTuple):
    """One clip as pictures; index 0 is the last context frame, index h is h frames ahead."""

    truth: NDArray[np.uint8]  # (horizon + 1, H, W, 3)
    samples: NDArray[np.uint8]  # (S, horizon + 1, H, W, 3), S rollouts


class Rollouts(NamedTuple):
    """What rolling out C clips gave; each figure is the mean over the samples of its clip."""

    psnr: NDArray[np.float64]  # (C, horizon), dB; column h - 1 is h frames ahead
    copy_psnr: NDArray[np.float64]  # (C, horizon), dB, of repeating the last context frame
    ssim: NDArray[np.float64]  # (C, horizon), at HORIZONS only, else NaN
    films: list[Film]


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


def roll_out(engine: Engine, clips: list[Clip], config: RolloutConfig) -> Rollouts:
    """Roll every clip out under its recorded actions, at temperature 1, and compare."""
    group = max(1, config.batch // config.samples)  # clips side by side
    filmed = set(np.linspace(0, len(clips) - 1, min(FILMS, len(clips))).astype(int).tolist())
    parts = []
    total = len(clips) * config.samples * config.horizon
    with tqdm(total=total, desc="rollouts", unit="frame", unit_scale=True) as progress:
        for first in range(0, len(clips), group):
            numbers = np.arange(first, min(first + group, len(clips)))
            films = [index for index, number in enumerate(numbers) if int(number) in filmed]
            parts.append(_roll_group(engine, clips, numbers, films, config, progress))
    return Rollouts(
        np.concatenate([part.psnr for part in parts]),
        np.concatenate([part.copy_psnr for part in parts]),
        np.concatenate([part.ssim for part in parts]),
        [film for part in parts for film in part.films],
    )


def _roll_group(
    engine: Engine,
    clips: list[Clip],
    numbers: NDArray[np.int64],
    filmed: list[int],
    config: RolloutConfig,
    progress: "tqdm[Any]",
) -> Rollouts:
    """Roll out the G clips numbered `numbers`; `filmed` are indices into them."""
    context, horizon, samples = config.context, config.horizon, config.samples
    frames, actions = _read([clips[number] for number in numbers], context + horizon)
    rows = (numbers[:, None] * samples + np.arange(samples)).ravel()  # one noise row a rollout
    temperature = np.ones(len(rows), np.float32)
    repeated = actions.repeat(samples, axis=0)  # (G * samples, context - 1 + horizon)
    state = engine.start(frames[:, :context].repeat(samples, axis=0), repeated[:, : context - 1])
    figures = np.full((3, len(numbers), horizon), np.nan)  # psnr, copy, ssim
    shown = [[frames[index, context - 1][None].repeat(samples, 0)] for index in filmed]
    for ahead in range(horizon):
        noise = noise_rows(config.seed, rows, ahead, engine.noise_size)
        step = engine.step(state, repeated[:, context - 1 + ahead], noise, temperature)
        state = step.state
        drawn = step.frame.reshape(len(numbers), samples, *step.frame.shape[1:])
        truth = frames[:, context + ahead]
        figures[0, :, ahead] = psnr(drawn, truth[:, None]).mean(axis=1)
        figures[1, :, ahead] = psnr(frames[:, context - 1], truth)
        if ahead + 1 in HORIZONS and min(truth.shape[1:3]) >= SSIM_WINDOW:
            figures[2, :, ahead] = ssim(drawn, truth[:, None]).mean(axis=1)
        for film, index in zip(shown, filmed, strict=True):
            film.append(drawn[index])
        progress.update(len(rows))
    films = [
        Film(frames[index, context - 1 :], np.stack(film, axis=1)[:FILM_SAMPLES])
        for film, index in zip(shown, filmed, strict=True)
    ]
    return Rollouts(figures[0], figures[1], figures[2], films)


def _read(clips: list[Clip], length: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The recorded frames `(G, length, H, W, 3)` and actions `(G, length - 1)` of clips."""
    frames = [clip.episode.frames(clip.start, clip.start + length) for clip in clips]
    actions = [clip.episode.actions(clip.start, clip.start + length - 1) for clip in clips]
    return np.stack(frames), np.stack(actions)
