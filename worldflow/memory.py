"""Does a world remember what it no longer sees? Bounce's sign, covered for 20 frames.

Everything else of that game shows in its last two frames, so that what comes out from under the
lid is known from the full history, and from nothing less. Guessing is right one time in three.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldflow.engine import Engine
from worldflow.episode import Episode, Header
from worldflow.rollouts import Clip, RolloutConfig, noise_rows, read_clips

MEMORY_ROWS = 3 << 32  # noise rows of their own, beside those of one_step.py


class Recall(NamedTuple):
    """How often the right sign came back."""

    share: float | None  # of the sampled frames, in [0, 1]; None without any
    steps: int  # places in the recording where a lid opens, with the sign's first show before it


def has_memory(header: Header) -> bool:
    """Whether the episodes are of Bounce with its `memory` option."""
    return header.source == "bounce" and bool(header.settings.get("memory", False))


def judge_memory(engine: Engine, episodes: list[Episode], config: RolloutConfig) -> Recall:
    """Draw the frame in which the lid opens, `config.samples` times at up to `config.clips` places.

    The world is given the whole cycle before it: 4 frames of the sign and 20 of the lid.
    """
    from worldflow.envs.sign import read_sign

    places, signs = _openings(episodes)
    if not places:
        return Recall(None, 0)
    random = np.random.default_rng(config.seed)
    chosen = np.sort(random.permutation(len(places))[: config.clips])
    right: list[NDArray[np.bool_]] = []
    for first in range(0, len(chosen), config.batch):
        numbers = chosen[first : first + config.batch]
        drawn = _draw(engine, [places[number] for number in numbers], numbers, config)
        right.append(read_sign(drawn) == signs[numbers][:, None])
    return Recall(float(np.concatenate(right).mean()), len(chosen))


def _openings(episodes: list[Episode]) -> tuple[list[Clip], NDArray[np.int64]]:
    """The clips that end where a lid is about to open, and the sign below each `(N,)`."""
    from worldflow.envs.bounce import BounceGame
    from worldflow.envs.sign import OPENS

    places, signs = [], []
    for episode in episodes:
        for step, fields in enumerate(episode.truth().get("bounce", ())):
            state = BounceGame.from_truth({"bounce": fields})
            if state.uncovers and step >= OPENS - 1:
                places.append(Clip(episode, step - (OPENS - 1)))
                signs.append(state.sign)
    return places, np.array(signs, np.int64)


def _draw(
    engine: Engine, places: list[Clip], numbers: NDArray[np.int64], config: RolloutConfig
) -> NDArray[np.uint8]:
    """The frame that follows each of N places, S times: `(N, S, H, W, 3)`."""
    from worldflow.envs.sign import OPENS

    frames, actions = read_clips(places, OPENS + 1)
    temperature = np.ones(len(places), np.float32)
    state = engine.start(frames[:, :OPENS], actions[:, :-1])
    drawn = []
    for sample in range(config.samples):
        noise = noise_rows(config.seed, MEMORY_ROWS + numbers, sample, engine.noise_size)
        drawn.append(engine.step(state, actions[:, -1], noise, temperature).frame)
    return np.stack(drawn, axis=1)
