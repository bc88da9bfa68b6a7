"""`worldflow evaluate`: judge a world on held-out episodes, through its engine alone.

The protocol is told in docs/evaluation.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldflow.card import Playable
from worldflow.dataset import Dataset, open_dataset
from worldflow.episode import Episode
from worldflow.errors import InputError
from worldflow.metrics import reward_scores, termination_scores
from worldflow.modes import ModeTally, oracle_of
from worldflow.one_step import OneStep, OneStepConfig, draw_stretches, judge_steps
from worldflow.report import METRICS, Metrics, table, write_report
from worldflow.rollouts import HORIZONS, RolloutConfig, Rollouts, draw_clips, roll_out


@dataclass(frozen=True)
class EvaluateConfig:
    """The keys of `worldflow evaluate`."""

    world: str  # a shipped name, a run folder or a .safetensors file
    data: str  # a folder of episodes, or one
    out: Path  # a new folder
    holdout: float = 1.0  # share of the episodes to judge: those that `train` keeps apart
    clips: int = 256  # or all there are
    samples: int = 4  # rollouts of each clip
    context: int = 8  # real frames before each rollout
    horizon: int = 64  # frames of each rollout
    one_step: int = 4096  # steps judged one by one
    seed: int = 0
    batch: int = 64  # rows side by side
    engine: str = "auto"
    device: str = "auto"
    threads: int = 0  # 0: the engine's own choice
    strict: bool = False  # a damaged episode is an error, not a warning


class Judgement(NamedTuple):
    """All figures, and the rollouts that they come from."""

    metrics: Metrics
    rollouts: Rollouts


def evaluate(config: EvaluateConfig) -> None:
    """Print the figures and write `metrics.json`, `psnr.png` and `rollouts.png` into `out`.

    Raises:
        InputError: a value out of range, `out` in use, no data, or data that does not fit.
    """
    _check(config)
    dataset = open_dataset(config.data, strict=config.strict)
    from worldflow.playable import load_playable

    playable = load_playable(
        config.world, engine=config.engine, device=config.device, threads=config.threads
    )
    judgement = judge(playable, dataset, config)
    print(table(judgement.metrics))
    config.out.mkdir(parents=True, exist_ok=True)
    write_report(config.out, judgement.metrics, judgement.rollouts, playable.card.name)
    print(f"report in {config.out}")


def judge(playable: Playable, dataset: Dataset, config: EvaluateConfig) -> Judgement:
    """All figures of a world on the held-out part of a data set.

    Raises:
        InputError: frame size or actions that do not fit the world, or episodes too short.
    """
    engine = playable.engine
    check_fit(playable, dataset)
    episodes = held_out(dataset, config.holdout)
    rolling = RolloutConfig(
        config.clips, config.samples, config.context, config.horizon, config.seed, config.batch
    )
    stepping = OneStepConfig(config.one_step, config.context, config.seed, config.batch)
    clips = draw_clips(episodes, rolling)
    oracle = oracle_of(dataset.header.source)
    tally = ModeTally(oracle) if oracle else None
    rollouts = roll_out(engine, clips, rolling)
    one_step = judge_steps(engine, draw_stretches(episodes, stepping), stepping, tally)
    metrics: Metrics = dict.fromkeys(METRICS)
    metrics |= picture_figures(rollouts) | step_figures(one_step, int(np.prod(engine.frame_shape)))
    metrics |= truth_figures(tally) if tally else {}
    metrics |= {
        "gflop_per_frame": playable.card.training.get("gflop_per_frame"),
        "parameters": playable.card.training.get("parameters"),
        "frames": sum(len(episode) for episode in episodes),
        "episodes": len(episodes),
        "clips": len(clips),
        "sticky": dataset.header.settings.get("sticky"),
        "world_hash": engine.world_hash,
    }
    return Judgement(metrics, rollouts)


def held_out(dataset: Dataset, holdout: float) -> list[Episode]:
    """The share `holdout` of the episodes that training keeps apart; with 1, all of them.

    Raises:
        InputError: nothing is left.
    """
    episodes = (dataset if holdout == 1.0 else dataset.split(holdout)[1]).episodes
    if not episodes:
        raise InputError(f"holdout={holdout}: one episode cannot be shared out; use holdout=1.0")
    return episodes


def check_fit(playable: Playable, dataset: Dataset) -> None:
    """Raise InputError unless the episodes have the world's frame size and action count."""
    world = playable.engine
    if dataset.frame_shape != tuple(world.frame_shape):
        raise InputError(
            f"frames of {_size(dataset.frame_shape)} in the data, but the world "
            f"'{playable.card.name}' draws {_size(world.frame_shape)}; collect with its size"
        )
    if len(dataset.header.action_names) != world.action_count:
        raise InputError(
            f"{len(dataset.header.action_names)} actions in the data ({dataset.header.source}), "
            f"but the world '{playable.card.name}' ({playable.card.game}) has "
            f"{world.action_count}; give episodes of its own game"
        )


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _check(config: EvaluateConfig) -> None:
    """Raise InputError for values out of range and for an `out` that is in use."""
    for name in ("clips", "samples", "context", "horizon", "one_step", "batch"):
        if getattr(config, name) < 1:
            raise InputError(f"{name}={getattr(config, name)}: expected 1 or more")
    if config.seed < 0:
        raise InputError(f"seed={config.seed}: expected 0 or more")
    if not 0.0 < config.holdout <= 1.0:
        raise InputError(
            f"holdout={config.holdout}: expected a share in (0, 1]; 1 judges all of the data"
        )
    if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise InputError(f"out={config.out} exists and is not empty; name a new folder")


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
    reward = reward_scores(one_step.reward_told, one_step.reward)
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


def truth_figures(tally: ModeTally) -> Metrics:
    """Figures of games that know the true distribution of their next frame."""
    return {
        "psnr_1_deterministic": tally.determined_psnr,
        "mode_error_max": tally.error_max,
        "sharp_fraction": tally.sharp_fraction,
        "branching_steps": tally.branching_steps,
    }


def _mean(values: NDArray[np.floating]) -> float | None:
    """The mean, or None of nothing and of what is not finite."""
    mean = float(values.mean(dtype=np.float64)) if values.size else np.nan
    return mean if np.isfinite(mean) else None
