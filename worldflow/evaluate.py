"""`worldflow evaluate`: judge a world on held-out episodes, through its engine alone.

The protocol is told in docs/evaluation.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldflow.card import Playable
from worldflow.dataset import Dataset, open_dataset
from worldflow.engine import Engine, State
from worldflow.episode import Episode
from worldflow.errors import InputError
from worldflow.figures import (
    METRICS,
    Metrics,
    fidelity_figures,
    memory_figures,
    picture_figures,
    step_figures,
    survival_figures,
    truth_figures,
)
from worldflow.memory import has_memory, judge_memory
from worldflow.one_step import OneStepConfig, draw_stretches, judge_steps
from worldflow.rollouts import (
    Clip,
    DreamKeeper,
    RolloutConfig,
    Rollouts,
    Watcher,
    draw_clips,
    roll_out,
)
from worldflow.small_objects import ObjectTally, SmallObject
from worldflow.survival import Survival, judge_survival, real_stream
from worldflow.truth import TruthJudge, oracle_of

if TYPE_CHECKING:
    from worldflow.fidelity import Fidelity
    from worldflow.free_run import FrameWatcher

FILMS = 4  # clips that are kept as pictures
FILM_SAMPLES = 2  # rollouts shown of each


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
    survival: int = 0  # steps of each free run; 0: none
    starts: int = 32  # free runs
    seed: int = 0
    batch: int = 64  # rows side by side
    engine: str = "auto"
    device: str = "auto"
    threads: int = 0  # 0: the engine's own choice
    strict: bool = False  # a damaged episode is an error, not a warning


class Judgement(NamedTuple):
    """All figures, and what they come from; None where the game defines no such thing."""

    metrics: Metrics
    rollouts: Rollouts
    clips: list[Clip]
    films: dict[int, NDArray[np.uint8]]  # number of a clip -> rollouts (S, horizon, H, W, 3)
    objects: ObjectTally | None
    truth: TruthJudge | None
    fidelity: "Fidelity | None"
    survival: Survival | None


def evaluate(config: EvaluateConfig) -> None:
    """Print the figures and leave a report in `out`: metrics.json, report.md and its pictures.

    Raises:
        InputError: a value out of range, `out` in use, no data, or data that does not fit.
    """
    check(config)
    dataset = open_dataset(config.data, strict=config.strict)
    from worldflow.playable import load_playable

    playable = load_playable(
        config.world, engine=config.engine, device=config.device, threads=config.threads
    )
    judge_and_report(playable, dataset, config)


def judge_and_report(playable: Playable, dataset: Dataset, config: EvaluateConfig) -> Metrics:
    """The same for a world that is loaded, or a peer behind its adapter; returns the figures."""
    from worldflow.charts import DreamFilm
    from worldflow.report import table, write_report

    config.out.mkdir(parents=True, exist_ok=True)
    film = DreamFilm(config.survival, playable.card.frame_rate, config.out)
    judgement = judge(playable, dataset, config, film)
    film.close()
    print(table(judgement.metrics))
    write_report(config.out, judgement, playable.card, config)
    print(f"report in {config.out}")
    return judgement.metrics


def judge(
    playable: Playable,
    dataset: Dataset,
    config: EvaluateConfig,
    film: "FrameWatcher | None" = None,
) -> Judgement:
    """All figures of a world on the held-out part of a data set.

    Args:
        film: is shown the frames of the free runs.

    Raises:
        InputError: frame size or actions that do not fit the world, or episodes too short.
    """
    from worldflow.envs.objects import object_of

    check_fit(playable, dataset)
    engine, episodes = playable.engine, held_out(dataset, config.holdout)
    small = object_of(dataset.header.source, dataset.frame_shape)
    rolling = RolloutConfig(
        config.clips, config.samples, config.context, config.horizon, config.seed, config.batch
    )
    judgement = _judge_rollouts(engine, episodes, rolling, small)
    metrics = judgement.metrics
    stepping = OneStepConfig(config.one_step, config.context, config.seed, config.batch)
    truth = _truth_judge(engine, dataset, small)
    one_step = judge_steps(engine, draw_stretches(episodes, stepping), stepping, truth)
    metrics |= step_figures(one_step, int(np.prod(engine.frame_shape)))
    metrics |= truth_figures(truth) if truth else {}
    if has_memory(dataset.header):
        metrics |= memory_figures(judge_memory(engine, episodes, rolling))
    survival = _judge_survival(playable, episodes, config, small, film)
    metrics |= survival_figures(survival) if survival else {}
    metrics |= _about(playable, dataset, episodes)
    return judgement._replace(truth=truth, survival=survival)


def _judge_rollouts(
    engine: Engine, episodes: list[Episode], config: RolloutConfig, small: SmallObject | None
) -> Judgement:
    """Roll out, with everybody watching: films, objects, and who reads actions off dreams."""
    from worldflow.fidelity import judge_fidelity, judged_clips

    clips = draw_clips(episodes, config)
    objects = ObjectTally(small, config.horizon) if small else None
    filmed = np.linspace(0, len(clips) - 1, min(FILMS, len(clips))).astype(int).tolist()
    films, dreams = DreamKeeper(filmed, FILM_SAMPLES), DreamKeeper(judged_clips(episodes, clips), 1)
    watchers: list[Watcher] = [films, dreams, *([objects] if objects else [])]
    rollouts = roll_out(engine, clips, config, watchers)
    fidelity = judge_fidelity(episodes, clips, dreams.dreams(), config.context, config.seed)
    metrics: Metrics = dict.fromkeys(METRICS)
    metrics |= picture_figures(rollouts)
    metrics |= objects.figures() if objects else {}
    metrics |= fidelity_figures(fidelity) if fidelity else {}
    metrics["clips"] = len(clips)
    return Judgement(metrics, rollouts, clips, films.dreams(), objects, None, fidelity, None)


def _truth_judge(engine: Engine, dataset: Dataset, small: SmallObject | None) -> TruthJudge | None:
    """Who holds drawn frames against the truth, if the game tells it."""
    from worldflow.white_box import base_sampler

    def sample(
        state: State, action: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        return engine.step(state, action, noise, np.ones(len(action), np.float32)).frame

    oracle = oracle_of(dataset.header)
    return TruthJudge(oracle, sample, small, base_sampler(engine)) if oracle else None


def _judge_survival(
    playable: Playable,
    episodes: list[Episode],
    config: EvaluateConfig,
    small: SmallObject | None,
    film: "FrameWatcher | None",
) -> Survival | None:
    """Run free, if asked for, and hold the dreams against real play."""
    if config.survival == 0:
        return None
    from worldflow.free_run import FreeRunConfig, run_free

    running = FreeRunConfig(config.survival, config.starts, config.context, config.seed)
    dreams = run_free(playable, episodes, running, small, film)
    return judge_survival(dreams, real_stream(episodes, small, config.seed))


def _about(playable: Playable, dataset: Dataset, episodes: list[Episode]) -> Metrics:
    """What was judged, on what; the cost is counted where the engine shows its model."""
    from worldflow.white_box import cost_of

    cost, told = cost_of(playable.engine), playable.card.training
    return {
        "gflop_per_frame": cost.gflop_per_frame if cost else told.get("gflop_per_frame"),
        "parameters": cost.parameters if cost else told.get("parameters"),
        "frames": sum(len(episode) for episode in episodes),
        "episodes": len(episodes),
        "sticky": dataset.header.settings.get("sticky"),
        "world_hash": playable.engine.world_hash or None,
    }


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


def check(config: EvaluateConfig) -> None:
    """Raise InputError for values out of range and for an `out` that is in use."""
    for name in ("clips", "samples", "context", "horizon", "one_step", "batch", "starts"):
        if getattr(config, name) < 1:
            raise InputError(f"{name}={getattr(config, name)}: expected 1 or more")
    for name in ("seed", "survival"):
        if getattr(config, name) < 0:
            raise InputError(f"{name}={getattr(config, name)}: expected 0 or more")
    if not 0.0 < config.holdout <= 1.0:
        raise InputError(
            f"holdout={config.holdout}: expected a share in (0, 1]; 1 judges all of the data"
        )
    if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise InputError(f"out={config.out} exists and is not empty; name a new folder")
