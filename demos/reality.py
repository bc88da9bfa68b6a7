"""The real game beside the dream: it can be left, gone back to, rewound and played again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldflow.card import WorldCard
from worldflow.envs.source import GameCard, SourceGame, recorded_source
from worldflow.envs.start import Context
from worldflow.errors import InputError

CONTEXT_STEPS = 40  # frames kept for a dream to begin after; a world looks back over fewer


@dataclass(frozen=True, eq=False)
class RealStep:
    """What one step of the real game gave."""

    frame: NDArray[np.uint8]  # (H, W, 3)
    reward: float
    terminated: bool
    truncated: bool
    life_lost: bool


@dataclass(frozen=True, eq=False)
class RealMark:
    """Where a real game stands."""

    seed: int
    actions: list[int]  # since the reset: a list that only grows, the first `count` of it
    count: int
    frames: tuple[NDArray[np.uint8], ...]  # the newest, CONTEXT_STEPS at most
    snapshot: Any  # the game's own; None where it tells none
    over: bool


class Reality:
    """One real game, from `reset(seed)` on.

    A game is a function of its seed and its actions, so these two say all about where it stands;
    a game without snapshots is brought back by playing its actions again.
    """

    def __init__(self, game: SourceGame) -> None:
        self.game = game
        self.seed: int | None = None  # of the game; None: none has begun
        self.actions: list[int] = []
        self.frames: tuple[NDArray[np.uint8], ...] = ()
        self.over = False

    def reset(self, seed: int) -> None:
        """A new game."""
        frame, _ = self.game.reset(seed=seed)
        self.seed = seed
        self.actions, self.frames, self.over = [], (frame,), False

    @property
    def frame(self) -> NDArray[np.uint8]:
        """The newest frame `(H, W, 3)`."""
        return self.frames[-1]

    def truth(self) -> dict[str, NDArray[Any]]:
        """The game's hidden state at the newest frame."""
        return self.game.truth()

    def context(self) -> Context:
        """The newest frames, for a dream to go on from."""
        actions = self.actions[len(self.actions) - len(self.frames) + 1 :]
        return Context(np.stack(self.frames), np.array(actions, np.int64))

    def step(self, action: int) -> RealStep:
        """Play one step; the game must not be over."""
        frame, reward, terminated, truncated, info = self.game.step(np.int64(action))
        self.actions.append(action)
        self.frames = (*self.frames, frame)[-CONTEXT_STEPS:]
        truncated = truncated or len(self.actions) >= self.game.card.max_episode_steps
        self.over = terminated or truncated
        life_lost = bool(info.get("life_lost", False))
        return RealStep(frame, float(reward), terminated, truncated and not terminated, life_lost)

    def mark(self) -> RealMark:
        """Where the game stands now; one must have begun."""
        assert self.seed is not None
        snapshot = self.game.snapshot()
        return RealMark(
            self.seed, self.actions, len(self.actions), self.frames, snapshot, self.over
        )

    def go_back(self, mark: RealMark) -> None:
        """Go back to a mark, of this game or an earlier one, and forget what was played since."""
        actions = mark.actions[: mark.count]
        if mark.snapshot is None:
            self.replay(mark.seed, actions)
        else:
            self.game.restore(mark.snapshot)
        self.seed, self.actions, self.frames, self.over = (
            mark.seed,
            actions,
            mark.frames,
            mark.over,
        )

    def replay(self, seed: int, actions: Sequence[int]) -> None:
        """A new game, played up to where `actions` lead."""
        self.reset(seed)
        for action in actions:
            self.step(action)

    def close(self) -> None:
        """Give back what the game holds."""
        self.game.close()


def make_reality(game: str, settings: Mapping[str, Any], action_count: int) -> Reality:
    """The real game `game` with the settings under which it was recorded or learned.

    Raises:
        InputError: it is not installed here, or has another number of actions.
    """
    source = recorded_source(game, settings)
    found = len(source.card.action_names)
    if found != action_count:
        raise InputError(f"{game} has {found} actions here, {action_count} where it was recorded")
    return Reality(source)


def game_card(card: WorldCard) -> GameCard:
    """What a policy needs to know of a world's game."""
    return GameCard(
        id=card.game,
        action_names=card.action_names,
        key_map=card.key_map,
        frame_rate=card.frame_rate,
        settings=card.settings,
        max_episode_steps=card.max_episode_steps,
    )
