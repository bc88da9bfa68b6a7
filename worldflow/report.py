"""What `worldflow evaluate` leaves: a table to read, metrics.json, and two pictures."""

import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldflow.rollouts import HORIZONS, Film, Rollouts

Metrics = dict[str, float | int | str | None]

SPANS = ("1_8", "9_32", "33_64")  # frames ahead, of the object figures
METRICS = (
    *(f"psnr_{ahead}" for ahead in HORIZONS),
    *(f"copy_psnr_{ahead}" for ahead in HORIZONS),
    *(f"ssim_{ahead}" for ahead in HORIZONS),
    "psnr_1_deterministic",
    "nll_excess_nats",
    "nll_excess_nats_per_dim",
    "nll_excess_event",
    "nll_excess_ordinary",
    "nll_gap_shuffled",
    *(f"reward_{figure}" for figure in ("precision", "recall", "f1")),
    *(f"termination_{figure}" for figure in ("precision", "recall", "f1")),
    *(f"object_{what}_{span}" for what in ("recall", "precision", "brightness") for span in SPANS),
    "mode_error_max",
    "sharp_fraction",
    "action_fidelity",
    "survival_2000",
    "gflop_per_frame",
    "parameters",
    "frames",
    "episodes",
    "clips",
    "judged_steps",
    "event_steps",
    "reward_steps",
    "termination_steps",
    "branching_steps",
    "sticky",
    "world_hash",
)
"""The keys of metrics.json, always all of them; null where a figure is not defined."""

FILM_COLUMNS = (0, 1, 2, 4, 8, 16, 32, 64)  # frames ahead; 0 is the last real frame


def table(metrics: Metrics) -> str:
    """The figures as aligned text; those that are not defined are left out.

    >>> print(table({"psnr_1": 44.1, "copy_psnr_1": 30.0, "episodes": 7, "ssim_1": None}))
    frames ahead          1
    psnr              44.10
    copy_psnr         30.00
    <BLANKLINE>
    episodes  7
    """
    ahead = [step for step in HORIZONS if metrics.get(f"psnr_{step}") is not None]
    curves = [name for name in ("psnr", "copy_psnr", "ssim") if _has(metrics, f"{name}_{ahead[0]}")]
    lines = [f"{'frames ahead':12}" + "".join(f"{step:11}" for step in ahead)]
    for name in curves:
        digits = 4 if name == "ssim" else 2
        values = [metrics[f"{name}_{step}"] for step in ahead]
        lines.append(f"{name:12}" + "".join(f"{value:11.{digits}f}" for value in values))
    in_curves = {f"{name}_{step}" for name in ("psnr", "copy_psnr", "ssim") for step in HORIZONS}
    rest = {key: value for key, value in metrics.items() if key not in in_curves}
    rest = {key: value for key, value in rest.items() if value is not None}
    width = max(map(len, rest), default=0)
    lines += ["", *(f"{key:{width}}  {_text(value)}" for key, value in rest.items())]
    return "\n".join(lines)


def _has(metrics: Metrics, key: str) -> bool:
    return metrics.get(key) is not None


def _text(value: float | int | str | None) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_report(out: Path, metrics: Metrics, rollouts: Rollouts, title: str) -> None:
    """Write metrics.json, psnr.png and rollouts.png into the folder `out`."""
    write_json(out / "metrics.json", metrics)
    _plot_psnr(out / "psnr.png", rollouts, title)
    _draw_films(out / "rollouts.png", rollouts.films)


def write_json(path: Path, values: dict[str, object] | Metrics) -> None:
    """Write a JSON object; figures that are not finite become null."""
    plain = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
    path.write_text(json.dumps(plain, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _plot_psnr(path: Path, rollouts: Rollouts, title: str) -> None:
    """PSNR over all horizons, the world's beside that of repeating the last real frame."""
    # Pillow is needed for pictures only: the figures above must not wait for it.
    from worldflow.plot import Line, line_plot

    horizon = rollouts.psnr.shape[1]
    ahead = np.arange(1, horizon + 1, dtype=np.float64)
    ticks = sorted({1, *(step for step in HORIZONS if step <= horizon), max(horizon, 2)})
    line_plot(
        path,
        [
            Line("worldflow", ahead, rollouts.psnr.mean(axis=0)),
            Line("repeating the last real frame", ahead, rollouts.copy_psnr.mean(axis=0)),
        ],
        title=f"{title}: PSNR of open-loop rollouts",
        x_label="frames ahead",
        y_label="PSNR (dB)",
        x_ticks=ticks,
    )


def _draw_films(path: Path, films: list[Film]) -> None:
    """A strip of pictures for each film: the truth, and rollouts below it."""
    from worldflow.film import write_strip

    rows: list[NDArray[np.uint8]] = []
    labels: list[str] = []
    for number, film in enumerate(films, 1):
        columns = [ahead for ahead in FILM_COLUMNS if ahead < len(film.truth)]
        rows += [film.truth[columns], *film.samples[:, columns]]
        labels.append(f"{number}: truth at +" + ", ".join(map(str, columns)))
        labels += [f"rollout {sample}" for sample in range(1, len(film.samples) + 1)]
    write_strip(path, rows, labels)
