"""Where an agent learns: N episodes side by side, as tensors; and the real game as such a place."""

from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldflow.agents.network import first_stack, next_stack
from worldflow.envs.source import GameCard, make_source
from worldflow.errors import InputError


class Transition(NamedTuple):
    """What a step of N episodes gave. One that ended has begun anew within the step."""

    observation: Tensor  # (N, H, W, 3*stack) uint8, what to act on next
    reward: Tensor  # (N,) float32, raw game units
    terminated: Tensor  # (N,) bool: the game is over, nothing is to be had any more
    truncated: Tensor  # (N,) bool: cut off; more would have followed
    last: Tensor  # (N, H, W, 3*stack) uint8, where the step led, before any new beginning
    cut: Tensor  # (N,) bool: truncated because the world no longer knew


class Stage(Protocol):
    """N episodes, all on one device. Whoever holds the generator repeats what happens."""

    envs: int  # N
    device: str
    card: GameCard
    frame_size: int  # pixels, H = W

    def restart(self, generator: torch.Generator) -> Tensor:
        """Begin all episodes anew; what is seen, `(N, H, W, 3*stack)` uint8."""
        ...

    def step(self, action: Tensor, generator: torch.Generator) -> Transition:
        """Take `action` `(N,)` int64."""
        ...


class RealGames:
    """N copies of a source game, stepped one after the other, that begin again where they end.

    Args:
        env: "bounce", "ALE/Breakout-v5", any Gymnasium id.
        envs: N >= 1.
        stack: frames of an observation.
        size: of a frame, pixels.
        device: of the tensors; the games themselves run on the CPU.

    Raises:
        InputError: no such game, or none of that size.
    """

    def __init__(self, env: str, *, envs: int, stack: int, size: int, device: str) -> None:
        if envs < 1:
            raise InputError(f"envs={envs}: expected 1 or more")
        self.envs, self.stack, self.device = envs, stack, device
        self.games = [make_source(env, size=size) for _ in range(envs)]
        self.card = self.games[0].card
        shape = self.games[0].observation_space.shape
        assert shape is not None  # a source game's frames are a Box
        self.frame_size = shape[0]
        self.steps = np.zeros(envs, np.int64)  # of the running episodes
        self.observation = torch.empty(0)

    def restart(self, generator: torch.Generator) -> Tensor:
        """All games from a reset, seeded by `generator`."""
        seeds = torch.randint(2**31, (self.envs,), generator=generator, device=generator.device)
        resets = zip(self.games, seeds.tolist(), strict=True)
        frames = [game.reset(seed=seed)[0] for game, seed in resets]
        self.steps[:] = 0
        self.observation = first_stack(self._tensor(np.stack(frames)), self.stack)
        return self.observation

    def step(self, action: Tensor, generator: torch.Generator) -> Transition:
        """One step of each game; later episodes' luck is the games' own."""
        results = [
            game.step(np.int64(chosen))
            for game, chosen in zip(self.games, action.tolist(), strict=True)
        ]
        self.steps += 1
        terminated = np.array([result[2] for result in results])
        limit = self.steps >= self.card.max_episode_steps
        truncated = (np.array([result[3] for result in results]) | limit) & ~terminated
        last = next_stack(self.observation, self._tensor(np.stack([r[0] for r in results])))
        self.observation = last
        ended = np.flatnonzero(terminated | truncated)
        if len(ended):
            fresh = np.stack([self.games[row].reset()[0] for row in ended])
            self.observation = last.clone()
            self.observation[torch.from_numpy(ended)] = first_stack(self._tensor(fresh), self.stack)
            self.steps[ended] = 0
        reward = np.array([result[1] for result in results], np.float32)
        return Transition(
            self.observation,
            self._tensor(reward),
            self._tensor(terminated),
            self._tensor(truncated),
            last,
            torch.zeros(self.envs, dtype=torch.bool, device=self.device),
        )

    def _tensor(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(self.device)
