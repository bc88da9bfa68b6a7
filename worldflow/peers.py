"""Other world models, judged by the same code on the same clips.

A peer is given history frames and actions, and returns the next frame. Behind its adapter it looks
like any engine; what it does not tell (likelihood, reward, termination) stays null.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worldflow.card import Playable, WorldCard
from worldflow.dataset import Dataset, open_dataset
from worldflow.engine import State, Step
from worldflow.errors import InputError
from worldflow.evaluate import EvaluateConfig, check, judge_and_report
from worldflow.figures import Metrics


class Peer(Protocol):
    """Another world model; draws its own luck, if it needs any."""

    name: str
    history: int  # frames that it is given, 1 or more

    def next_frame(
        self, frames: NDArray[np.uint8], actions: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """The frame that follows each of N histories.

        Args:
            frames: `(N, history, H, W, 3)`, newest last; before a game's first frame, that
                frame again.
            actions: `(N, history)`, `actions[:, t]` taken at `frames[:, t]`, the newest last;
                the number of actions stands for "none" before a game's first frame.

        Returns:
            `(N, H, W, 3)` uint8.
        """
        ...


def evaluate_peer(peer: Peer, data: str | Path, out: str | Path, **settings: Any) -> Metrics:
    """What `worldflow evaluate` does, for a peer: the same report, and the figures.

    Args:
        data: a folder of episodes, or one.
        out: a new folder.
        settings: other keys of `EvaluateConfig`: clips, samples, horizon, seed, survival, ...

    Raises:
        InputError: as `evaluate`; or a peer whose frames have another shape.
    """
    config = EvaluateConfig(peer.name, str(data), Path(out), **settings)
    check(config)
    if peer.history < 1:
        raise InputError(f"history={peer.history} of {peer.name}: expected 1 or more")
    dataset = open_dataset(data, strict=config.strict)
    return judge_and_report(adapt(peer, dataset), dataset, config)


def adapt(peer: Peer, dataset: Dataset) -> Playable:
    """The peer as a world of the recorded game, which begins where its episodes do."""
    header = dataset.header
    card = WorldCard(
        name=peer.name,
        game=header.source,
        settings=header.settings,
        action_names=header.action_names,
        key_map=header.key_map,
        frame_rate=header.frame_rate,
        max_episode_steps=header.max_episode_steps,
    )
    starts = np.stack([episode.frames(0, 1) for episode in dataset.episodes])
    engine = PeerEngine(peer, dataset.frame_shape, len(header.action_names))
    return Playable(card, engine, starts, np.zeros((len(starts), 0), np.int64))


class PeerEngine:
    """`Engine` over a peer: keeps its history; see the protocol for shapes."""

    device, dtype = "unknown", "unknown"
    world_hash = ""
    noise_size = 1  # a peer draws its own

    def __init__(self, peer: Peer, frame_shape: tuple[int, int, int], action_count: int) -> None:
        self.name = peer.name
        self.peer, self.frame_shape, self.action_count = peer, frame_shape, action_count

    def start(self, frames: NDArray[np.uint8], actions: NDArray[np.int64]) -> State:
        missing = max(0, self.peer.history - frames.shape[1])
        padding = np.full((len(frames), missing), self.action_count)
        shown = np.concatenate([frames[:, :1].repeat(missing, axis=1), frames], axis=1)
        taken = np.concatenate([padding, actions], axis=1)
        old = shown.shape[1] - self.peer.history
        return {"frames": shown[:, old:], "actions": taken[:, old:]}

    def step(
        self,
        state: State,
        action: NDArray[np.int64],
        noise: NDArray[np.float32],
        temperature: NDArray[np.float32],
    ) -> Step:
        taken = np.concatenate([state["actions"], action[:, None]], axis=1)
        frame = self.peer.next_frame(state["frames"], taken)
        expected = (len(action), *self.frame_shape)
        if frame.shape != expected or frame.dtype != np.uint8:
            raise InputError(
                f"{self.name} returned frames {frame.shape} of {frame.dtype}; "
                f"expected {expected} of uint8"
            )
        shown = np.concatenate([state["frames"][:, 1:], frame[:, None]], axis=1)
        unknown = np.full(len(action), np.nan, np.float32)
        never = np.zeros(len(action), np.bool_)
        after = {"frames": shown, "actions": taken[:, 1:]}
        return Step(frame, reward=unknown, p_terminated=unknown, terminated=never, state=after)

    def observe(self, state: State, frame: NDArray[np.uint8]) -> State:
        shown = np.concatenate([state["frames"][:, :-1], frame[:, None]], axis=1)
        return {**state, "frames": shown}

    def score(
        self,
        state: State,
        action: NDArray[np.int64],
        frame: NDArray[np.uint8],
        noise: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """NaN: a peer has no likelihood."""
        return np.full(len(action), np.nan, np.float32)
