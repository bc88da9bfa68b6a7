"""Dreams that run free: thousands of steps from many starts, played by policies."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import trange

from worldflow.card import Playable, WorldCard
from worldflow.engine import State, put_rows
from worldflow.episode import Episode
from worldflow.rollouts import RolloutConfig, draw_clips, noise_rows, read_clips
from worldflow.small_objects import SmallObject
from worldflow.survival import frame_features

FREE_ROWS = 4 << 32  # noise rows of their own, beside those of one_step.py and memory.py
SCRIPTED_SHAPE = (64, 64, 3)  # what the scripted policies can see


@dataclass(frozen=True)
class FreeRunConfig:
    """How many dreams, and how long."""

    steps: int = 2000
    starts: int = 32
    context: int = 8  # real frames before each
    seed: int = 0


class FrameWatcher(Protocol):
    """Sees the frames of all dreams, step by step: a film, say."""

    def add(self, frames: NDArray[np.uint8]) -> None:
        """The next frames `(N, H, W, 3)`."""
        ...


def run_free(
    playable: Playable,
    episodes: list[Episode],
    config: FreeRunConfig,
    small: SmallObject | None,
    watcher: FrameWatcher | None = None,
) -> NDArray[np.float32]:
    """The features (survival.py) of each drawn frame `(N, steps, F)`.

    A dream begins after real frames of `episodes` and is played as they were collected, by a
    `mixed` policy of its own that sees what is shown. Where it says that the game has ended, it
    goes on from one of the world's own starts, with another policy.
    """
    engine = playable.engine
    frames, state = _begin(playable, episodes, config)
    rows = np.arange(len(frames))
    players = [make_player(playable.card, engine.frame_shape) for _ in rows]
    for row, player in enumerate(players):
        player.reset(config.seed * len(rows) + row)
    random = np.random.default_rng(config.seed)
    temperature = np.ones(len(rows), np.float32)
    features = []
    for step in trange(config.steps, desc="free run", unit="step"):
        actions = [player.act(frame, {}) for player, frame in zip(players, frames, strict=True)]
        noise = noise_rows(config.seed, FREE_ROWS + rows, step, engine.noise_size)
        drawn = engine.step(state, np.array(actions, np.int64), noise, temperature)
        features.append(frame_features(drawn.frame, frames, drawn.terminated, small))
        if watcher:
            watcher.add(drawn.frame)
        frames, state = drawn.frame, drawn.state
        over = np.flatnonzero(drawn.terminated)
        if len(over):
            frames, state = _restart(playable, frames, state, over, random)
            for row in over.tolist():
                players[row].reset(int(random.integers(2**32)))
    return np.stack(features, axis=1)


def make_player(card: WorldCard, frame_shape: tuple[int, int, int]) -> Any:
    """The policy that `collect` plays by default; random where its script could not see."""
    from worldflow.agents.policy import make_policy
    from worldflow.envs.source import GameCard

    game = GameCard(
        id=card.game,
        action_names=card.action_names,
        key_map=card.key_map,
        frame_rate=card.frame_rate,
        settings=card.settings,
        max_episode_steps=card.max_episode_steps,
    )
    return make_policy("mixed" if frame_shape == SCRIPTED_SHAPE else "random", game)


def _begin(
    playable: Playable, episodes: list[Episode], config: FreeRunConfig
) -> tuple[NDArray[np.uint8], State]:
    """The newest frame of each dream `(N, H, W, 3)`, real, and the state after it."""
    places = RolloutConfig(config.starts, 1, config.context, 1, config.seed)
    frames, actions = read_clips(draw_clips(episodes, places), config.context)
    return frames[:, -1], playable.engine.start(frames, actions)


def _restart(
    playable: Playable,
    frames: NDArray[np.uint8],
    state: State,
    over: NDArray[np.int64],
    random: np.random.Generator,
) -> tuple[NDArray[np.uint8], State]:
    """The same frames and state, but for the rows `over`, which begin another game."""
    starts = random.integers(len(playable.start_frames), size=len(over))
    begun = playable.engine.start(playable.start_frames[starts], playable.start_actions[starts])
    frames = frames.copy()
    frames[over] = playable.start_frames[starts, -1]
    return frames, put_rows(state, over, begun)
