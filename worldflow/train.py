"""`worldflow train`: from a folder of episodes to a world file.

Needs only torch, numpy and safetensors (tqdm and Pillow are used if they are there).
"""

import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, current_thread, main_thread
from types import FrameType

from worldflow.checkpoint import read_settings
from worldflow.dataset import Dataset, open_dataset
from worldflow.errors import InputError
from worldflow.journal import Log, ProgressBar
from worldflow.playable import choose_device
from worldflow.trainer import TrainConfig, Trainer, run_settings
from worldflow.validation import validate, write_film
from worldflow.whole_file import PARTIAL

__all__ = ["TrainConfig", "train"]


def train(config: TrainConfig) -> None:
    """Train, or go on with the run in `out`; leaves `world.safetensors` and the log there.

    Raises:
        InputError: neither `steps` nor `minutes`, no usable data, or an `out` that is not a run
            of these settings.
        WorkError: the disk is full, or no gradient is finite; the last checkpoint is kept.
        KeyboardInterrupt: stopped by the user; all updates are kept.
    """
    if (config.steps > 0) == (config.minutes > 0):
        raise InputError("how long? give either steps=20000 or minutes=20")
    out = Path(config.out)
    resume = _check_out(out, config)
    device = choose_device(config.device, config.threads)
    dataset = open_dataset(config.data, config.strict)
    training, held_out = dataset.split(config.holdout)
    trainer = Trainer(config, training, device)
    if resume:
        trainer.load(out / "checkpoint.safetensors")
    out.mkdir(parents=True, exist_ok=True)
    log = Log(out, trainer.progress.step, config.tensorboard)
    print(trainer.describe(dataset), flush=True)
    _run(trainer, config, held_out if held_out.episodes else training, out, log)
    print(f"world: {out / 'world.safetensors'}", flush=True)


def _check_out(out: Path, config: TrainConfig) -> bool:
    """Whether `out` holds a run to go on with; InputError if it holds anything else."""
    if not out.exists() or (out.is_dir() and all(_unfinished(path) for path in out.iterdir())):
        return False
    checkpoint = out / "checkpoint.safetensors"
    if not checkpoint.is_file():
        raise InputError(f"out={out} exists and is no training run: choose another folder")
    before, now = read_settings(checkpoint), run_settings(config)
    changed = sorted(key for key in now if before.get(key) != now[key])
    if changed:
        raise InputError(
            f"out={out} holds a run with {changed[0]}={before.get(changed[0])}, not "
            f"{now[changed[0]]}: use the same settings to go on with it, or another folder"
        )
    return True


def _unfinished(path: Path) -> bool:
    """Whether `path` is what a run leaves that was killed before its first checkpoint."""
    return path.name.endswith(PARTIAL)


@contextmanager
def stop_between_updates() -> Iterator[Event]:
    """Ctrl-C sets the event, so that an update is never left half-made; a second one breaks in."""
    stop = Event()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if current_thread() is not main_thread():  # only the main one may listen
        yield stop
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _run(trainer: Trainer, config: TrainConfig, held_out: Dataset, out: Path, log: Log) -> None:
    """Updates until the budget is spent; checkpoints, logs and films on the way.

    Raises:
        KeyboardInterrupt: stopped by the user; all updates are kept.
    """
    progress = trainer.progress
    saved = filmed = progress.seconds
    trainer.save(out)  # from now on the run can be killed
    clock = time.perf_counter()
    shown = ProgressBar(config.steps, config.minutes, progress)
    with closing(shown) as bar, stop_between_updates() as stop:
        while not trainer.finished() and not stop.is_set():
            told = trainer.update()
            if progress.step % config.log_every == 0:
                figures = {name: float(value) for name, value in told.items()}
                figures |= validate(trainer.world(), held_out)
                log.write(trainer.report(figures))
                bar.show(progress, figures)
            if 0 < 60 * config.film_minutes <= progress.seconds - filmed:
                write_film(out / f"film-{progress.step:07d}", trainer.world(), held_out)
                filmed = progress.seconds
            if progress.seconds - saved >= 60 * config.checkpoint_minutes:
                trainer.save(out)
                saved = progress.seconds
            now = time.perf_counter()  # all of it counts: what a budget in minutes buys
            progress.seconds, clock = progress.seconds + now - clock, now
            bar.advance(progress)
        trainer.save(out)
    if stop.is_set():
        raise KeyboardInterrupt
    if config.film_minutes > 0:
        write_film(out / "film-last", trainer.world(), held_out)
