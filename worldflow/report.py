"""What `worldflow evaluate` leaves: a table to read, metrics.json, pictures, and one page."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from worldflow.card import WorldCard
from worldflow.figures import Metrics
from worldflow.rollouts import HORIZONS

if TYPE_CHECKING:
    from worldflow.evaluate import EvaluateConfig, Judgement


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


def write_report(
    out: Path, judgement: "Judgement", card: WorldCard, config: "EvaluateConfig"
) -> None:
    """Write metrics.json, the pictures that there is something for, and report.md into `out`."""
    # Pillow is needed for pictures only: the figures must not wait for it.
    from worldflow import charts
    from worldflow.page import page

    write_json(out / "metrics.json", judgement.metrics)
    charts.plot_psnr(out / "psnr.png", judgement.rollouts, card.name)
    charts.draw_films(out / "rollouts.png", judgement.clips, judgement.films, config.context)
    if judgement.objects:
        charts.plot_objects(out / "objects.png", judgement.objects, card.name)
    if judgement.truth and judgement.truth.world.figures().steps:
        charts.plot_sharpness(out / "sharpness.png", judgement.truth, card.name)
        charts.plot_calibration(out / "calibration.png", judgement.truth, card.name)
    if judgement.survival:
        charts.plot_survival(out / "survival.png", judgement.survival, card.name)
    pictures = {path.name for path in out.iterdir()}
    (out / "report.md").write_text(page(judgement, card, config, pictures), encoding="utf-8")


def write_json(path: Path, values: dict[str, object] | Metrics) -> None:
    """Write a JSON object; figures that are not finite become null."""
    plain = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
    path.write_text(json.dumps(plain, indent=2, allow_nan=False) + "\n", encoding="utf-8")
