"""How well a policy plays: returns of whole episodes in the real game, and in a dream beside it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from worldflow.agents.policy import Policy
from worldflow.card import Playable
from worldflow.envs.source import BOUNCE_IDS, SourceGame
from worldflow.envs.world_vector_env import WorldVectorEnv
from worldflow.errors import InputError

RESAMPLES = 10_000  # of the bootstrap
LAUNCH, MISS = 1.0, -1.0  # rewards of Bounce


class Played(NamedTuple):
    """One episode in the real game."""

    seed: int  # of the games and policies that it belongs to
    first_frame: NDArray[np.uint8]  # (H, W, 3)
    rewards: NDArray[np.float64]  # (T,), raw game units


def play_games(
    game: SourceGame, policy: Policy, seeds: Sequence[int], episodes: int
) -> list[Played]:
    """`episodes` whole games under each of `seeds`; the same seeds give every policy the same luck.

    A game that has not ended after `card.max_episode_steps` is cut off there.
    """
    if episodes < 1 or not seeds:
        raise InputError(f"episodes={episodes}, seeds={list(seeds)}: expected at least one of each")
    played = []
    for seed in tqdm(seeds, desc=policy.name, unit="seed"):
        for number in range(episodes):
            game_seed, policy_seed = np.random.SeedSequence((seed, number)).generate_state(2)
            played.append(_play(game, policy, int(game_seed), int(policy_seed))._replace(seed=seed))
    return played


def _play(game: SourceGame, policy: Policy, game_seed: int, policy_seed: int) -> Played:
    first, _ = game.reset(seed=game_seed)
    policy.reset(policy_seed)
    frame, rewards = first, []
    for _ in range(game.card.max_episode_steps):
        action = np.int64(policy.act(frame, game.truth()))
        frame, reward, terminated, truncated, _ = game.step(action)
        rewards.append(float(reward))
        if terminated or truncated:
            break
    return Played(0, first, np.array(rewards))


def dream_returns(
    playable: Playable,
    make: Callable[[], Policy],
    first_frames: NDArray[np.uint8],
    horizon: int,
    seed: int,
) -> NDArray[np.float64]:
    """What a policy gets in `horizon` steps of dreams that begin at `first_frames` `(N, H, W, 3)`.

    Returns `(N,)`, raw game units. A dream that ends sooner has got what it has.
    """
    count = len(first_frames)
    env = WorldVectorEnv(playable, count, max_episode_steps=horizon)
    frames, _ = env.reset(seed=seed)
    for row, frame in enumerate(first_frames):
        options = {"reset_mask": np.arange(count) == row, "frames": frame}
        frames, _ = env.reset(options=options)
    policies = [make() for _ in range(count)]
    for row, policy in enumerate(policies):
        policy.reset(seed + row)
    returns, running = np.zeros(count), np.ones(count, np.bool_)
    for _ in tqdm(range(horizon), desc="dreams", unit="step"):
        actions = [policy.act(frame, {}) for policy, frame in zip(policies, frames, strict=True)]
        frames, rewards, terminated, truncated, _ = env.step(np.array(actions))
        returns += rewards * running
        running &= ~(terminated | truncated)
        if not running.any():
            break
    return returns


class Interval(NamedTuple):
    """A mean and its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} ({self.low:.1f} to {self.high:.1f})"


def interval(values: NDArray[np.float64]) -> Interval:
    """The mean of independent `values` `(N,)`, N >= 1, and its bootstrap percentile interval."""
    draws = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def figures(played: Sequence[Played], game_id: str) -> dict[str, Any]:
    """What the episodes of one policy come to; raw game units."""
    returns = np.array([episode.rewards.sum() for episode in played])
    seeds = sorted({episode.seed for episode in played})
    by_seed = {
        str(seed): float(np.mean([e.rewards.sum() for e in played if e.seed == seed]))
        for seed in seeds
    }
    told = {
        "return": interval(returns)._asdict(),
        "return_by_seed": by_seed,
        "returns": returns.tolist(),
        "steps": float(np.mean([len(episode.rewards) for episode in played])),
    }
    return told | (caught(played) if game_id in BOUNCE_IDS else {})


def caught(played: Sequence[Played]) -> dict[str, float]:
    """Of Bounce: balls caught in an episode, and their share of those that came down.

    Every launch but an episode's first follows a catch.
    """
    catches = sum(int((episode.rewards == LAUNCH).sum()) - 1 for episode in played)
    misses = sum(int((episode.rewards == MISS).sum()) for episode in played)
    return {
        "caught": catches / len(played),
        "caught_share": catches / max(1, catches + misses),
    }
