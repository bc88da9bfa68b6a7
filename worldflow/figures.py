"""The keys of metrics.json, and how each part of a judgement becomes figures."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from worldflow.memory import Recall
from worldflow.metrics import EventScores, reward_scores, termination_scores
from worldflow.modes import PLACES, ModeFigures
from worldflow.one_step import OneStep
from worldflow.rollouts import HORIZONS, Rollouts
from worldflow.small_objects import SPANS
from worldflow.survival import Survival
from worldflow.truth import TruthJudge

if TYPE_CHECKING:
    from worldflow.fidelity import Fidelity  # it needs torch; reading figures does not

Metrics = dict[str, float | int | str | None]

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
    "mode_error_by_chance",
    "sharp_fraction",
    *(f"sharp_{place.replace(' ', '_')}" for place in PLACES),
    "lost_fraction",
    "doubled_fraction",
    *(f"base_{what}" for what in ("mode_error_max", "sharp_fraction")),
    *(f"base_{what}" for what in ("lost_fraction", "doubled_fraction")),
    "memory_recall",
    "action_fidelity",
    "action_accuracy_real",
    "action_accuracy_dream",
    "survival_2000",
    "survival_share",
    "survival_real",
    "survival_real_runs",
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
    "memory_steps",
    "survival_steps",
    "sticky",
    "world_hash",
)
"""Always all of them; null where a figure is not defined."""


def picture_figures(rollouts: Rollouts) -> Metrics:
    """PSNR and SSIM at the report's horizons, as far as the rollouts go."""
    metrics: Metrics = {}
    for ahead in HORIZONS:
        if ahead > rollouts.psnr.shape[1]:
            break
        for name in ("psnr", "copy_psnr", "ssim"):
            metrics[f"{name}_{ahead}"] = _mean(getattr(rollouts, name)[:, ahead - 1])
    return metrics


def step_figures(one_step: OneStep, dimensions: int) -> Metrics:
    """Likelihood, reward and termination figures of frames of `dimensions` = 3HW values."""
    nll = one_step.nll_excess
    mean = _mean(nll)
    reward, termination = (EventScores(None, None, None),) * 2  # who tells none is not judged
    if not np.isnan(one_step.reward_told).any():
        reward = reward_scores(one_step.reward_told, one_step.reward)
    if not np.isnan(one_step.p_terminated).any():
        termination = termination_scores(one_step.p_terminated, one_step.terminated)
    return {
        "nll_excess_nats": mean,
        "nll_excess_nats_per_dim": None if mean is None else mean / dimensions,
        "nll_excess_event": _mean(nll[one_step.event]),
        "nll_excess_ordinary": _mean(nll[~one_step.event]),
        "nll_gap_shuffled": _mean(one_step.nll_shuffled - nll),
        **{f"reward_{name}": value for name, value in reward._asdict().items()},
        **{f"termination_{name}": value for name, value in termination._asdict().items()},
        "judged_steps": len(nll),
        "event_steps": int(one_step.event.sum()),
        "reward_steps": int((one_step.reward != 0).sum()),
        "termination_steps": int(one_step.terminated.sum()),
    }


def truth_figures(judge: TruthJudge) -> Metrics:
    """Figures of games that know the true distribution of their next frame."""
    figures = judge.world.figures()
    metrics: Metrics = {
        "psnr_1_deterministic": judge.world.determined_psnr,
        "mode_error_by_chance": figures.error_by_chance,
        "branching_steps": figures.steps,
    }
    for place in PLACES:
        metrics[f"sharp_{place.replace(' ', '_')}"] = judge.world.figures(place).sharp
    metrics |= _mode_figures("", figures)
    return metrics | (_mode_figures("base_", judge.base.figures()) if judge.base else {})


def _mode_figures(prefix: str, figures: ModeFigures) -> Metrics:
    return {
        f"{prefix}mode_error_max": figures.error_max,
        f"{prefix}sharp_fraction": figures.sharp,
        f"{prefix}lost_fraction": figures.lost,
        f"{prefix}doubled_fraction": figures.doubled,
    }


def memory_figures(recall: Recall) -> Metrics:
    """What came back from under the lid."""
    return {"memory_recall": recall.share, "memory_steps": recall.steps}


def fidelity_figures(fidelity: "Fidelity") -> Metrics:
    """How well actions are read off dreams, as a share of how well off real play."""
    return {
        "action_fidelity": fidelity.dream / fidelity.real if fidelity.real else None,
        "action_accuracy_real": fidelity.real,
        "action_accuracy_dream": fidelity.dream,
    }


def survival_figures(survival: Survival) -> Metrics:
    """How many dreams stayed within the range of real play."""
    return {
        "survival_2000": survival.share(2000),
        "survival_share": survival.share(survival.steps),
        "survival_real": survival.real,
        "survival_real_runs": survival.real_runs,
        "survival_steps": survival.steps,
    }


def _mean(values: NDArray[np.floating[Any]]) -> float | None:
    """The mean, or None of nothing and of what is not finite."""
    mean = float(values.mean(dtype=np.float64)) if values.size else np.nan
    return mean if np.isfinite(mean) else None
