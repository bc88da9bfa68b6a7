"""One update after the other: the model, its running mean, and the optimiser.

Every random draw of an update is a function of (seed, step), so that a run that was killed
goes on from its checkpoint as if nothing had happened.
"""

import json
import math
import shlex
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldflow.card import WorldCard
from worldflow.checkpoint import Progress, load_checkpoint, save_checkpoint
from worldflow.cost import device_name, quick_type, size_and_cost
from worldflow.dataset import Clips, ClipSampler, Dataset
from worldflow.doubt import Doubts
from worldflow.errors import InputError, WorkError
from worldflow.learning import Learning
from worldflow.model import ModelConfig, WorldModel, to_signed
from worldflow.objective import ObjectiveConfig, reward_support
from worldflow.world import World

BESIDE = 2  # steps before and after a reward or an end
WARMUP = 200  # updates of rising learning rate
BOUNDING = 0.3  # share of the training in which errors come to be bounded where much is open
PATIENCE = 50  # updates in a row whose gradients may be of no use
BACKDROPS = 1 << 32  # where the sampler's number of the first backdrops stands
START_LENGTH, STARTS = 8, 32  # frames of a start, and how many a world keeps


@dataclass(frozen=True)
class TrainConfig:
    """See `conf/train.yaml` for what each key means and its default."""

    data: str
    out: str
    strict: bool
    model: ModelConfig
    steps: int
    minutes: float
    name: str
    init: str
    seed: int
    batch: int
    horizon: int
    fresh: float
    doubtful: float
    eventful: float
    renewal: int
    long_every: int
    learning_rate: float
    weight_decay: float
    average: float
    holdout: float
    objective: ObjectiveConfig
    device: str
    threads: int
    resident: bool | None
    bfloat16: bool | None
    compile: bool
    log_every: int
    checkpoint_minutes: float
    film_minutes: float
    tensorboard: bool


class Trainer:
    """The model, its running mean, the optimiser, and one update after the other."""

    def __init__(self, config: TrainConfig, dataset: Dataset, device: str) -> None:
        self.config, self.dataset, self.device = config, dataset, device
        height, width, _ = dataset.frame_shape
        if height != width or height % 16:
            raise InputError(
                f"frames are {height}x{width}: expected square ones, a multiple of 16 wide; "
                "collect them with size=64"
            )
        if not 0 <= config.eventful <= 1:
            raise InputError(f"eventful={config.eventful}: expected a share, 0 to 1")
        torch.manual_seed(config.seed)
        self.model = WorldModel(
            config.model,
            size=height,
            action_count=len(dataset.header.action_names),
            reward_support=_support(dataset),
        ).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sampler = ClipSampler(
            dataset,
            config.batch,
            config.horizon,
            config.seed,
            past=config.model.history - 1,
            fresh=config.fresh,
            frames=dataset.decoded_frames(device) if _resident(config, dataset, device) else None,
        )
        if config.init:
            self._start_from(config.init)
        else:
            self._set_backdrops()
        self.average = {k: v.detach().clone() for k, v in self.model.named_parameters()}
        quick = quick_type(device)
        if config.bfloat16 is not None:
            quick = torch.bfloat16 if config.bfloat16 else torch.float32
        self.learning = Learning(
            self.model, config.objective, config.weight_decay, quick, config.compile
        )
        self.progress = Progress()
        self.in_vain = 0  # updates left out since the last that was not
        self.doubts = Doubts(dataset.steps)
        self.beside = _beside_events(dataset)
        self.starts = _starts(dataset)
        self.size_and_cost = size_and_cost(self.model)
        self.pool = ThreadPoolExecutor(2)
        self.coming: dict[int, Future[Clips]] = {}

    def _start_from(self, init: str) -> None:
        """Begin with the weights of a world of the same shape.

        Raises:
            InputError: no such world, or one of another shape.
        """
        given = World.load(init).model.state_dict()
        own = {name: value.shape for name, value in self.model.state_dict().items()}
        given_shapes = {name: value.shape for name, value in given.items()}
        other = sorted(dict(own.items() ^ given_shapes.items()))
        if other:
            raise InputError(
                f"init={init} has another shape (in {other[0]}): give the model= and the game "
                "that it was trained with, or no init"
            )
        self.model.load_state_dict(given)

    @torch.no_grad()
    def _set_backdrops(self) -> None:
        """Begin with frames out of the recordings, from which the backdrops are learned."""
        count = self.config.model.backdrops
        recorded = self.sampler.clips(BACKDROPS, count, 1).frames[:, 0]
        self.model.base.backdrops.copy_(to_signed(recorded))

    def update(self) -> dict[str, Tensor]:
        """One step of the optimiser; the figures of its batch, still on the device."""
        progress, config = self.progress, self.config
        if progress.step % config.renewal == 0:
            self.coming.clear()  # they were drawn by older doubts
            self.doubts.renew()
        clips = self._clips(progress.step)
        seed = int(np.random.SeedSequence((config.seed, progress.step)).generate_state(1)[0])
        generator = torch.Generator(self.device).manual_seed(seed)
        figures, doubts, norm = self.learning.gradients(clips, generator, self._bound())
        if self._clip_gradients(norm):  # here a GPU is waited for, and nowhere else
            self.learning.step(self._learning_rate())
            self._update_average()
        self.doubts.note(clips, doubts.cpu().numpy())
        progress.step += 1
        progress.frames += int(clips.valid.sum())
        return figures

    def _clips(self, step: int) -> Clips:
        """The clips of `step`; those of the next steps are read meanwhile."""
        for ahead in range(step, step + 4):
            if ahead not in self.coming:
                self.coming[ahead] = self.pool.submit(self._draw, ahead, self.doubts.weights)
        return self.coming.pop(step).result()

    def _draw(self, step: int, weights: np.ndarray[Any, Any]) -> Clips:
        """About as many frames each time: clips, now and then few long ones, to learn to look
        back, or many single steps that the model is unsure of.
        """
        config = self.config
        frames, length = config.batch * config.horizon, config.model.window + 8
        if config.long_every and (step + 1) % config.long_every == 0:
            return self.sampler.clips(step, max(1, frames // length), length)
        due = int((step + 1) * config.doubtful) > int(step * config.doubtful)
        if due and weights.any():
            return self.sampler.weighted_steps(step, frames, self._weighed(weights))
        return self.sampler.clips(step)

    def _weighed(self, doubts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """How often each step is drawn: by its doubt, and the share that is eventful alike."""
        share = self.config.eventful if self.beside.any() else 0.0
        by_doubt, alike = doubts / doubts.sum(), self.beside / max(1, self.beside.sum())
        weights: np.ndarray[Any, Any] = (1 - share) * by_doubt + share * alike
        return weights.astype(np.float32)

    def _learning_rate(self) -> float:
        """Warm-up, and a straight line down to nothing."""
        warm = min(1.0, (self.progress.step + 1) / WARMUP)
        return self.config.learning_rate * warm * max(0.0, 1 - self._spent())

    def _bound(self) -> float:
        """How far squared errors are bounded where much is open, 0 to 1: not at first."""
        return min(1.0, max(0.0, (self._spent() - self.config.objective.bounded) / BOUNDING))

    def _spent(self) -> float:
        """The share of the budget that is used up."""
        if self.config.steps:
            return self.progress.step / self.config.steps
        return self.progress.seconds / (60 * self.config.minutes)

    def finished(self) -> bool:
        return self._spent() >= 1

    def _clip_gradients(self, total: Tensor) -> bool:
        """Bound the gradient, of norm `total`, by what is typical; False if it is of no use."""
        progress = self.progress
        norm = float(total)
        if not np.isfinite(norm):
            progress.skipped += 1
            self.in_vain += 1
            if self.in_vain == PATIENCE:
                raise WorkError(
                    f"{PATIENCE} updates in a row had gradients that are not finite, so nothing is "
                    f"learned: try compile=false, bfloat16=false, or a learning_rate below "
                    f"{self.config.learning_rate}; the last checkpoint is kept"
                )
            return False
        self.in_vain = 0
        typical = progress.typical_norm or norm
        torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), typical, total)
        # A geometric mean: one outlier says little, a new level is soon believed.
        progress.typical_norm = typical**0.95 * max(norm, 1e-12) ** 0.05
        return True

    @torch.no_grad()
    def _update_average(self) -> None:
        # Short runs must forget their first weights, too.
        decay = min(self.config.average, (1 + self.progress.step) / (10 + self.progress.step))
        current = [p.detach() for p in self.model.parameters()]
        torch._foreach_lerp_(list(self.average.values()), current, 1 - decay)

    def world(self) -> World:
        """The world as it stands, with the averaged weights."""
        header, config = self.dataset.header, self.config
        model = WorldModel(
            config.model,
            size=self.model.size,
            action_count=self.model.action_count,
            reward_support=self.model.reward_support.clone(),
        ).to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        model.load_state_dict({**self.model.state_dict(), **self.average})
        card = WorldCard(
            name=config.name or Path(config.out).name,
            game=header.source,
            settings=header.settings,
            action_names=header.action_names,
            key_map=header.key_map,
            frame_rate=header.frame_rate,
            max_episode_steps=header.max_episode_steps,
            training=self._history(),
        )
        return World(card, model.eval().requires_grad_(False), *self.starts)

    def _history(self) -> dict[str, Any]:
        """How this world came to be, for its card."""
        return {
            "command": shlex.join(["worldflow", *sys.argv[1:]]),
            "device": device_name(self.device),
            "updates": self.progress.step,
            "frames_trained": self.progress.frames,
            "minutes": round(self.progress.seconds / 60, 2),
            "episodes": len(self.dataset.episodes),
            "frames": self.dataset.steps,
            **self.size_and_cost,
            "seed": self.config.seed,
        }

    def describe(self, dataset: Dataset) -> str:
        """What is about to be trained, in one line."""
        history = self._history()
        return (
            f"{dataset.header.source}: {history['frames']} steps of {history['episodes']} episodes"
            f" to train on; {history['parameters'] / 1e6:.2f} M parameters,"
            f" {history['gflop_per_frame']:.2f} GFLOP per frame, on {history['device']};"
            f" from update {self.progress.step}"
        )

    def report(self, figures: dict[str, float]) -> dict[str, float]:
        """One line of the log."""
        progress = self.progress
        return {
            "step": progress.step,
            "frames": progress.frames,
            "seconds": round(progress.seconds, 1),
            "frames_per_s": round(progress.frames / max(progress.seconds, 1e-6), 1),
            "learning_rate": self._learning_rate(),
            "typical_gradient_norm": progress.typical_norm,
            "skipped_updates": progress.skipped,
            **figures,
        }

    def save(self, out: Path) -> None:
        """Write the checkpoint, and the world as it stands."""
        save_checkpoint(
            out / "checkpoint.safetensors",
            self.model,
            self.average,
            self.learning.optimizers,
            self.progress,
            run_settings(self.config),
            vars(self.doubts),
        )
        self.world().save(out / "world.safetensors")

    def load(self, path: Path) -> None:
        arrays = vars(self.doubts)
        self.progress = load_checkpoint(
            path, self.model, self.average, self.learning.optimizers, arrays
        )


def _resident(config: TrainConfig, dataset: Dataset, device: str) -> bool:
    """Whether to keep all frames on the device: on a GPU, if half of its free memory will do."""
    if config.resident is not None or device == "cpu":
        return bool(config.resident)
    needed = (dataset.steps + len(dataset.episodes)) * math.prod(dataset.frame_shape)
    free: int = torch.cuda.mem_get_info(device)[0]
    return needed < free / 2


def _support(dataset: Dataset) -> Tensor:
    rewards = dataset.columns.reward
    return reward_support(dataset.reward_values, float(rewards.min()), float(rewards.max()))


def _beside_events(dataset: Dataset) -> np.ndarray[Any, Any]:
    """Which steps lie within BESIDE of one with a reward or an end: 1, else 0."""
    near = dataset.columns.events[:, None] + np.arange(-BESIDE, BESIDE + 1)
    beside = np.zeros(dataset.steps, np.float32)
    beside[near.clip(0, dataset.steps - 1)] = 1
    return beside


def _starts(dataset: Dataset) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The first frames of some episodes: `(S, T, H, W, 3)` and their actions `(S, T-1)`."""
    long = [e for e in dataset.episodes if len(e) >= START_LENGTH]
    length = START_LENGTH if long else 1
    chosen = (long or dataset.episodes)[:STARTS]
    frames = np.stack([e.frames(0, length) for e in chosen])
    actions = np.stack([e.steps(0, length - 1).rows["action"] for e in chosen])
    return frames, actions.astype(np.int64)


def run_settings(config: TrainConfig) -> dict[str, Any]:
    """What must stay the same for a run to be the same run, as JSON has it."""
    where, when = ("out", "name", "device", "threads", "resident"), ("steps", "minutes")
    free = {*where, *when, "log_every", "tensorboard"}
    settings: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return {k: v for k, v in settings.items() if k not in free and not k.endswith("_minutes")}
