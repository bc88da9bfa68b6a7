"""The pictures of a report: curves (plot.py), strips of frames and a film (film.py)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldflow.film import film_writer, side_by_side, write_strip
from worldflow.modes import SHARP_WORST, ModeTally
from worldflow.plot import Line, line_plot
from worldflow.rollouts import HORIZONS, Clip, Rollouts
from worldflow.small_objects import ObjectTally
from worldflow.survival import Survival
from worldflow.truth import TruthJudge

FILM_COLUMNS = (0, 1, 2, 4, 8, 16, 32, 64)  # frames ahead; 0 is the last real frame
STRICTNESS = np.linspace(0.1, 5.0, 50)  # multiples of the bounds of a sharp frame
SHARES = tuple(np.linspace(0.0, 1.0, 6).round(1).tolist())  # ticks of an axis
DREAMS, DREAM_COLUMNS = 8, 4  # free runs that are filmed, and how many side by side
SPEED = 4  # of the film, in times the game's own
SNAPSHOTS = 8  # frames of each filmed run on paper


def plot_psnr(path: Path, rollouts: Rollouts, title: str) -> None:
    """PSNR over all horizons, the world's beside that of repeating the last real frame."""
    horizon = rollouts.psnr.shape[1]
    ahead = np.arange(1, horizon + 1, dtype=np.float64)
    line_plot(
        path,
        [
            Line(title, ahead, rollouts.psnr.mean(axis=0)),
            Line("repeating the last real frame", ahead, rollouts.copy_psnr.mean(axis=0)),
        ],
        title=f"{title}: PSNR of open-loop rollouts",
        x_label="frames ahead",
        y_label="PSNR (dB)",
        x_ticks=_ahead_ticks(horizon),
    )


def plot_objects(path: Path, tally: ObjectTally, title: str) -> None:
    """Recall, precision and brightness of the small object by frames ahead."""
    ahead = np.arange(1, len(tally.true) + 1, dtype=np.float64)
    line_plot(
        path,
        [
            Line("recall", ahead, _ratio(tally.found, tally.true)),
            Line("precision", ahead, _ratio(tally.right, tally.told)),
            Line("brightness", ahead, _ratio(tally.brightness, tally.found)),
        ],
        title=f"{title}: the small object in rollouts",
        x_label="frames ahead",
        y_label="share",
        x_ticks=_ahead_ticks(len(ahead)),
        y_ticks=SHARES,
    )


def plot_sharpness(path: Path, truth: TruthJudge, title: str) -> None:
    """The share of sharp frames as the bounds grow; the bar stands at 10 % of the range."""
    worst = STRICTNESS * SHARP_WORST / 255 * 100
    line_plot(
        path,
        [
            Line(name, worst, tally.sharp_curve(STRICTNESS))
            for name, tally in _tallies(truth, title)
        ],
        title=f"{title}: sharp frames where the future branches",
        x_label="allowed at the worst pixel (% of the range); on average three tenths of it",
        y_label="share of sharp frames",
        x_ticks=[0, 10, 20, 30, 40, 50],
        y_ticks=SHARES,
    )


def plot_calibration(path: Path, truth: TruthJudge, title: str) -> None:
    """How often futures were drawn, over how probable they were."""
    diagonal = np.array([0.0, 1.0])
    lines = [Line("as they should be", diagonal, diagonal)]
    for name, tally in _tallies(truth, title):
        pairs = [(each.probability, each.frequency) for each in tally.frequencies()]
        probability, frequency = np.array(pairs).reshape(-1, 2).T
        lines.append(Line(name, probability, frequency, dots=True))
    line_plot(
        path,
        [lines[1], lines[0], *lines[2:]],  # the world in the first colour, as everywhere
        title=f"{title}: frequencies of futures",
        x_label="true probability",
        y_label="drawn",
        x_ticks=SHARES,
        y_ticks=SHARES,
    )


def plot_survival(path: Path, survival: Survival, title: str) -> None:
    """The share of free runs that have never left the range of real play."""
    steps = np.arange(1, survival.steps + 1, dtype=np.float64)
    share = (survival.left[:, None] > steps).mean(axis=0)
    line_plot(
        path,
        [Line(f"{len(survival.left)} free runs", steps, share)],
        title=f"{title}: within the range of real play",
        x_label="steps",
        y_label="share of runs",
        x_ticks=np.linspace(0, survival.steps, 5).round().astype(int).tolist(),
        y_ticks=SHARES,
    )


def draw_films(
    path: Path, clips: list[Clip], films: dict[int, NDArray[np.uint8]], context: int
) -> None:
    """A strip of pictures for each filmed clip: the truth, and rollouts below it."""
    rows: list[NDArray[np.uint8]] = []
    labels: list[str] = []
    for number, (clip, rollouts) in enumerate(films.items(), 1):
        columns = [ahead for ahead in FILM_COLUMNS if ahead <= rollouts.shape[1]]
        episode, now = clips[clip].episode, clips[clip].start + context - 1
        truth = episode.frames(now, now + columns[-1] + 1)
        shown = np.concatenate([truth[:1][None].repeat(len(rollouts), axis=0), rollouts], axis=1)
        rows += [truth[columns], *shown[:, columns]]
        labels.append(f"{number}: truth at +" + ", ".join(map(str, columns)))
        labels += [f"rollout {sample}" for sample in range(1, len(rollouts) + 1)]
    write_strip(path, rows, labels)


class DreamFilm:
    """The first free runs as a film, survival.mp4, and some of their frames, survival_runs.png."""

    def __init__(self, steps: int, frame_rate: int, out: Path) -> None:
        self._out = out
        self._film = film_writer(out / "survival.mp4", SPEED * frame_rate, scale=3)
        self._wanted = set(np.linspace(1, steps, SNAPSHOTS).astype(int).tolist())
        self._step = 0
        self._shots: dict[int, NDArray[np.uint8]] = {}

    def add(self, frames: NDArray[np.uint8]) -> None:
        """The next frame of each run `(N, H, W, 3)`."""
        self._step += 1
        shown = frames[:DREAMS]
        self._film.add(side_by_side(list(shown[:, None]), columns=DREAM_COLUMNS)[0])
        if self._step in self._wanted:
            self._shots[self._step] = shown.copy()

    def close(self) -> None:
        """Finish the files; without a frame there are none."""
        self._film.close()
        if self._shots:
            rows = list(np.stack(list(self._shots.values()), axis=1))
            labels = [f"run {row}" for row in range(1, len(rows) + 1)]
            labels[0] += " at step " + ", ".join(map(str, self._shots))
            write_strip(self._out / "survival_runs.png", rows, labels)


def _tallies(truth: TruthJudge, title: str) -> list[tuple[str, ModeTally]]:
    """The world's tally and that of its base alone, with their names."""
    return [(title, truth.world), *([("Gaussian base alone", truth.base)] if truth.base else [])]


def _ahead_ticks(horizon: int) -> list[int]:
    return sorted({1, *(step for step in HORIZONS if step <= horizon), max(horizon, 2)})


def _ratio(
    part: NDArray[np.float64] | NDArray[np.int64], whole: NDArray[np.int64]
) -> NDArray[np.float64]:
    """`part / whole`, NaN where there is nothing."""
    ratio = np.full(len(whole), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
