"""`worldflow collect`: plays a source game with several processes and records the episodes."""

import contextlib
import json
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import numpy as np
from tqdm import tqdm

from worldflow.agents.policy import Policy, make_policy
from worldflow.envs.source import SourceGame, make_source
from worldflow.episode import SUFFIX, DamagedEpisode, Episode, EpisodeWriter, Header, StepRecord
from worldflow.errors import InputError, WorkError
from worldflow.whole_file import PARTIAL, write_whole

MANIFEST = "collect.json"
# A game's frames are too small to share among threads; each worker has a core.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class CollectConfig:
    """What to play and where to keep it; see conf/collect.yaml for the defaults."""

    env: str  # "bounce", "ALE/Breakout-v5", any Gymnasium id
    out: Path  # a new or empty folder, or one that the same settings made
    steps: int = 50_000  # in all episodes together, those already in the folder included
    policy: str = "mixed"  # random | scripted | mixed | noop
    workers: int = 1
    seed: int = 0
    size: int = 64
    sticky: float = 0.0
    life_loss_ends: bool = False
    memory: bool = False

    def source(self) -> SourceGame:
        return make_source(
            self.env,
            size=self.size,
            sticky=self.sticky,
            life_loss_ends=self.life_loss_ends,
            memory=self.memory,
        )


def collect(config: CollectConfig) -> None:
    """Play until `out` holds `steps` steps, and continue where an earlier run has stopped.

    Episode i is the same for the same seed, whoever plays it; the last ones may be cut short.
    Processes are spawned: a script that calls this needs `if __name__ == "__main__":`.

    Raises:
        InputError: a bad setting, or a folder that other settings made.
        WorkError: the disk is full or the game failed; what was played is kept.
        KeyboardInterrupt: stopped by the user; what was played is kept.
    """
    for name in ("steps", "workers"):
        if getattr(config, name) < 1:
            raise InputError(f"{name}={getattr(config, name)}: expected 1 or more")
    if config.seed < 0:
        raise InputError(f"seed={config.seed}: expected 0 or more")
    game = config.source()
    make_policy(config.policy, game.card)
    game.close()
    _claim_folder(config)
    done, index = _taken_stock(config.out)
    if done < config.steps:
        _play(config, done, index)
    done, _ = _taken_stock(config.out)
    episodes = len(list(config.out.glob(f"*{SUFFIX}")))
    print(f"{config.out}: {done} steps in {episodes} episodes")


class Quota:
    """What the workers share: how many steps are left to play, and which episode is next."""

    def __init__(self, context: SpawnContext, steps: int, index: int) -> None:
        self.left = context.Value("q", steps)
        self.next = context.Value("q", index)
        self.stopped = context.Event()

    def take_step(self) -> bool:
        """Whether one more step may be played."""
        # A collector that was killed cannot say stop.
        parent = multiprocessing.parent_process()
        if self.stopped.is_set() or (parent is not None and not parent.is_alive()):
            return False
        with self.left.get_lock():
            allowed: bool = self.left.value > 0
            self.left.value -= allowed
        return allowed

    def take_index(self) -> int:
        """The number of the episode to play next."""
        with self.next.get_lock():
            index: int = self.next.value
            self.next.value += 1
        return index


def record_episode(
    game: SourceGame, policy: Policy, path: Path, seeds: tuple[int, int], quota: Quota
) -> None:
    """Play one episode into `path` until it ends or the quota does; its first step is taken.

    `seeds` are the game's and the policy's.
    """
    card = game.card
    frame, _ = game.reset(seed=seeds[0])
    policy.reset(seeds[1])
    header = Header(
        source=card.id,
        settings=card.settings,
        frame_rate=card.frame_rate,
        action_names=card.action_names,
        key_map=card.key_map,
        seed=seeds[0],
        max_episode_steps=card.max_episode_steps,
    )
    with EpisodeWriter(path, header, frame[None], np.zeros(0, np.int64)) as writer:
        for step in range(1, card.max_episode_steps + 1):
            truth = game.truth()
            action = policy.act(frame, truth)
            frame, reward, terminated, truncated, info = game.step(np.int64(action))
            truncated = truncated or (step == card.max_episode_steps and not terminated)
            writer.append(
                StepRecord(
                    action=action,
                    frame=frame,
                    reward=float(reward),
                    terminated=terminated,
                    truncated=truncated,
                    life_lost=info["life_lost"],
                    origin="real",
                    controller=policy.name,
                    truth=truth,
                )
            )
            if terminated or truncated or not quota.take_step():
                return


def _work(
    config: CollectConfig, quota: Quota, failures: "SimpleQueue[InputError | WorkError]"
) -> None:
    """A worker process: whole episodes, one after the other."""
    try:
        game = config.source()
        policy = make_policy(config.policy, game.card)
        while quota.take_step():
            index = quota.take_index()
            game_seed, policy_seed = np.random.SeedSequence((config.seed, index)).generate_state(2)
            path = config.out / f"episode-{index:06d}{SUFFIX}"
            record_episode(game, policy, path, (int(game_seed), int(policy_seed)), quota)
    except (InputError, WorkError) as error:
        failures.put(error)
    except Exception as error:  # whatever a game of the user's own may raise
        failures.put(WorkError(f"{config.env} failed: {type(error).__name__}: {error}"))


def _play(config: CollectConfig, done: int, index: int) -> None:
    """Run the workers until the quota is used up, one fails, or the user stops them."""
    context = multiprocessing.get_context("spawn")
    quota = Quota(context, config.steps - done, index)
    failures: SimpleQueue[InputError | WorkError] = context.SimpleQueue()
    workers = [
        context.Process(target=_work, args=(config, quota, failures), daemon=True)
        for _ in range(config.workers)
    ]
    with _for_children():
        for worker in workers:
            worker.start()
    try:
        with tqdm(total=config.steps, initial=done, unit="step", desc=config.env) as bar:
            while any(worker.is_alive() for worker in workers):
                time.sleep(0.1)
                bar.update(config.steps - quota.left.value - bar.n)
                if any(worker.exitcode for worker in workers) or not failures.empty():
                    break
            bar.update(config.steps - quota.left.value - bar.n)
    finally:
        _stop(workers, quota)
    if not failures.empty():
        raise failures.get()
    for worker in workers:
        if worker.exitcode:
            raise WorkError(
                f"a worker died (exit code {worker.exitcode}); what was played is kept in"
                f" {config.out}: run the same command again to go on"
            )


def _stop(workers: list[SpawnProcess], quota: Quota) -> None:
    """Let the workers close their files. One that hangs is killed: its last second is lost."""
    quota.stopped.set()
    for worker in workers:
        worker.join(timeout=10.0)
        if worker.is_alive():
            worker.kill()
            worker.join()


@contextlib.contextmanager
def _for_children() -> Iterator[None]:
    """What processes started here inherit: one thread each, and no Ctrl-C.

    It is the collector that is interrupted; a worker would die within a step.
    """
    environment = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        for name, value in environment.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _claim_folder(config: CollectConfig) -> None:
    """Make the folder and its manifest, or check that this command made them."""
    settings = {
        "env": config.env,
        "policy": config.policy,
        "seed": config.seed,
        "size": config.size,
        "sticky": config.sticky,
        "life_loss_ends": config.life_loss_ends,
        "memory": config.memory,
    }
    manifest = config.out / MANIFEST
    try:
        config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"out={config.out}: cannot be a folder: {error.strerror}") from None
    if manifest.exists():
        _check_manifest(manifest, settings)
    elif any(path.name != MANIFEST + PARTIAL for path in config.out.iterdir()):
        raise InputError(f"out={config.out}: not empty and not ours; name a new or empty folder")
    else:
        write_whole(manifest, f"{json.dumps(settings, indent=2)}\n".encode())


def _check_manifest(manifest: Path, settings: dict[str, object]) -> None:
    try:
        found = {"memory": False} | json.loads(manifest.read_text())  # older ones do not tell
    except ValueError:
        raise InputError(f"{manifest} is damaged; collect into another folder") from None
    for name, value in settings.items():
        if found.get(name) != value:
            raise InputError(
                f"out={manifest.parent} was collected with {name}={found.get(name)}, not"
                f" {name}={value}; name another folder, or the same settings to go on"
            )


def _taken_stock(folder: Path) -> tuple[int, int]:
    """How many steps the folder holds, and the number of the next episode."""
    steps, index = 0, 0
    for path in sorted(folder.glob(f"episode-*{SUFFIX}")):
        index = int(path.stem.removeprefix("episode-")) + 1
        try:
            steps += len(Episode.open(path))
        except DamagedEpisode as error:
            warnings.warn(f"{error}; it is not counted", stacklevel=2)
    return steps, index
