"""What every source game is: a Gymnasium env of small RGB frames with a card that tells its rules.

Episodes are recorded from source games, and a learned world keeps the card of the one it learned.
"""

import difflib
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from worldflow.errors import InputError

BOUNCE_IDS = ("bounce", "worldflow/BounceGame-v0")


@dataclass(frozen=True)
class GameCard:
    """What an episode header and a world keep of a game."""

    id: str  # "bounce", "ALE/Breakout-v5", any Gymnasium id
    action_names: tuple[str, ...]  # one for each action, in their order
    key_map: dict[str, int]  # pygame key names joined by "+" -> action; "" = nothing held
    frame_rate: int  # steps per second of play at the game's own speed
    settings: dict[str, Any]  # JSON: all that changes what is recorded (size, skip, sticky, ...)
    max_episode_steps: int  # who plays or collects truncates an episode after that many


class SourceGame(gymnasium.Env[NDArray[np.uint8], np.int64]):
    """A real game to learn from.

    Observations are frames `(size, size, 3)`, uint8 RGB, in arrays that are never written again;
    actions are `Discrete`, counted from 0; rewards are raw game units. The `info` of `reset` and
    `step` has `life_lost` (bool).
    """

    card: GameCard

    def truth(self) -> dict[str, NDArray[Any]]:
        """A small hidden state of the game at the current frame, or {} if it tells none."""
        return {}

    def snapshot(self) -> Any:
        """All that decides what comes next, luck included; None if the game cannot tell it."""
        return None

    def restore(self, snapshot: Any) -> None:
        """Go back to a snapshot of this game: the same actions then give the same steps."""
        raise NotImplementedError(f"{type(self).__name__} tells no snapshots")


def make_source(
    env_id: str,
    *,
    size: int = 64,
    sticky: float = 0.0,
    life_loss_ends: bool = False,
    memory: bool = False,
) -> SourceGame:
    """The source game with this id.

    Args:
        env_id: "bounce", "ALE/Breakout-v5", or any Gymnasium id ("module:Id-v0" imports module).
        size: height and width of the frames in pixels.
        sticky: ALE only: probability that the console repeats its last action, in [0, 1).
        life_loss_ends: ALE only: a lost life terminates the episode.
        memory: bounce only: a sign is hidden for 20 frames and comes back.

    Raises:
        InputError: unknown id, or a setting that this game does not have.
    """
    if not 8 <= size <= 512:
        raise InputError(f"size={size}: expected 8 to 512 pixels; 64 is what worlds learn from")
    if not 0.0 <= sticky < 1.0:
        raise InputError(f"sticky={sticky}: expected a probability in [0, 1); 0 turns it off")
    if memory and env_id not in BOUNCE_IDS:
        raise InputError(f"env={env_id}: memory exists for env=bounce only; leave it out")
    if env_id.startswith("ALE/"):
        from worldflow.envs.atari import AtariGame

        return AtariGame(env_id, size=size, sticky=sticky, life_loss_ends=life_loss_ends)
    if sticky or life_loss_ends:
        raise InputError(
            f"env={env_id}: sticky and life_loss_ends exist for ALE games only; leave them out"
        )
    if env_id in BOUNCE_IDS:
        from worldflow.envs.bounce import BounceGame

        return BounceGame(memory=memory, size=size)
    from worldflow.envs.gymnasium_game import GymnasiumGame

    return GymnasiumGame(env_id, size=size)


def recorded_source(env_id: str, settings: Mapping[str, Any]) -> SourceGame:
    """The source game with the settings under which it was recorded, learned or played.

    Raises:
        InputError: see `make_source`.
    """
    named = {"size", "sticky", "life_loss_ends", "memory"} & settings.keys()
    return make_source(env_id, **{name: settings[name] for name in named})


def unknown_id(env_id: str) -> InputError:
    """The error for an id that no registry knows, naming the nearest one that is known."""
    if importlib.util.find_spec("ale_py"):
        importlib.import_module("ale_py")  # it registers its games, to be suggested
    # By bare names; of several ids the last: ALE before Gymnasium's own before others, and newest.
    ids = sorted(gymnasium.registry, key=lambda known: (known.startswith("ALE/"), "/" not in known))
    choices = {_stem(choice): choice for choice in (*ids, "bounce")}
    near = difflib.get_close_matches(_stem(env_id), choices, n=1, cutoff=0.6)
    hint = (
        f"did you mean '{choices[near[0]]}'?"
        if near
        else "use bounce, ALE/<Game>-v5 or an id from gymnasium.pprint_registry()"
    )
    return InputError(f"env={env_id}: no such game; {hint}")


def _stem(env_id: str) -> str:
    """The bare name of a game: breakout of ALE/Breakout-v5."""
    return env_id.rpartition("/")[2].partition("-v")[0].lower()
