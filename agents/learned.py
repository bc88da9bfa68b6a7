"""A trained agent as a policy: it plays source games and learned worlds from their frames."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from worldflow.agents.agent_file import Agent
from worldflow.agents.network import first_stack, next_stack
from worldflow.envs.area import AreaResize
from worldflow.envs.source import GameCard
from worldflow.errors import InputError


class LearnedPolicy:
    """Draws its actions as it did in training; greedy, it takes the likeliest.

    Where the game's frames are larger than those that it learned from, it sees their area averages.

    Args:
        agent: of this game.
        card: of the game that it is to play.
        greedy: no chance at all; may get stuck where chance would free it.

    Raises:
        InputError: the agent was trained for another game, other actions or larger frames.
    """

    name = "agent"

    def __init__(self, agent: Agent, card: GameCard, *, greedy: bool = False) -> None:
        for what, own, given in (
            ("game", agent.card.game, card.id),
            ("actions", agent.card.action_names, card.action_names),
        ):
            if own != given:
                raise InputError(f"the agent was trained with {what} {own}, here it is {given}")
        own_size, size = agent.card.frame_size, card.settings.get("size", 64)
        if own_size > size:
            raise InputError(f"the agent was trained with frames of {own_size}, here it is {size}")
        self._resize = None if own_size == size else AreaResize(size, size, own_size)
        self.network, self.greedy = agent.network, greedy
        self.reset(0)

    def reset(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.observation: torch.Tensor | None = None

    @torch.inference_mode()
    def act(self, frame: NDArray[np.uint8], truth: dict[str, NDArray[Any]]) -> int:
        frame = np.ascontiguousarray(frame) if self._resize is None else self._resize(frame)
        seen = torch.from_numpy(frame)[None]
        if self.observation is None:
            self.observation = first_stack(seen, self.network.config.stack)
        else:
            self.observation = next_stack(self.observation, seen)
        logits, _ = self.network(self.observation)
        if self.greedy:
            return int(logits.argmax())
        return int(torch.multinomial(F.softmax(logits[0], dim=0), 1, generator=self.generator))
