"""Who plays: the human, or one of several policies, any of whom can take over at any step."""

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldflow.agents.policy import Policy, make_policy, usual_player
from worldflow.card import WorldCard
from worldflow.demos.reality import game_card
from worldflow.errors import InputError

HUMAN = "human"


class Cast:
    """The players of a session.

    Args:
        policies: by the name under which they are chosen.
        player: who begins; HUMAN or one of them.
    """

    def __init__(self, policies: Mapping[str, Policy], player: str = HUMAN) -> None:
        self._policies = policies
        self.player = player
        self.understudy = next(iter(policies), HUMAN) if player == HUMAN else player

    def __len__(self) -> int:
        """How many could take over from the human."""
        return len(self._policies)

    @property
    def controller(self) -> str:
        """Who plays, as it is recorded: the policy's own name tells its noise, too."""
        return HUMAN if self.player == HUMAN else self._policies[self.player].name

    def reset(self, seed: int) -> None:
        """A new game begins."""
        for policy in self._policies.values():
            policy.reset(seed)

    def act(self, human: int, frame: NDArray[np.uint8], truth: dict[str, NDArray[Any]]) -> int:
        """The action of whoever plays; `human` is what the human would do."""
        if self.player == HUMAN:
            return human
        return self._policies[self.player].act(frame, truth)

    def hand_over(self, seed: int) -> None:
        """From the human to the understudy, who begins afresh, or back to the human."""
        if self.player != HUMAN or not self._policies:
            self.player = HUMAN
            return
        self.player = self.understudy
        self._policies[self.player].reset(seed)

    def next_understudy(self, seed: int) -> None:
        """Choose the next policy; if one plays now, the next goes on at once."""
        names = list(self._policies)
        if not names:
            return
        self.understudy = names[(names.index(self.understudy) + 1) % len(names)]
        if self.player != HUMAN:
            self.player = self.understudy
            self._policies[self.player].reset(seed)


def make_cast(card: WorldCard, player: str = HUMAN, *others: str) -> Cast:
    """Whoever can play a world's game: `others`, the shipped agent, the script, random play.

    Args:
        player: who begins: HUMAN, "auto" for the script where there is one and else random play,
            or what `make_policy` takes.
        others: more for `make_policy`.

    Raises:
        InputError: `player` or one of `others` is unknown or plays another game.
    """
    game = game_card(card)
    if player == "auto":
        player = usual_player(card.game)
    named = [name for name in (player, *others) if name != HUMAN]
    policies = {name: make_policy(name, game) for name in named}
    for name in (card.name, "scripted", "random"):
        with contextlib.suppress(InputError):  # not every game has an agent or a script
            policies[name] = policies.get(name) or make_policy(name, game)
    return Cast(policies, player)
