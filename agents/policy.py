"""Policies: who chooses the actions, in a source game or in a learned world."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worldflow.agents.scripted import SCRIPTS, ScriptedPolicy
from worldflow.envs.source import GameCard
from worldflow.errors import InputError, did_you_mean

# How often `mixed` plays an episode at each noise level; 1.0 is random play. Episodes of good
# play are long: in Breakout these shares give an eighth of the steps to random play.
MIXTURE = {0.0: 0.05, 0.1: 0.1, 0.3: 0.25, 0.6: 0.2, 1.0: 0.4}
REPEATS = (0.0, 0.5, 0.8, 0.95)  # random play: chances to keep the last action
# Games whose script holds one action, by its name. Who holds "up" in Freeway gets across some
# twenty times in a game, thrown back by a car now and then, chance alone once or twice: it shows
# what chance hardly does, the upper lanes and a score of two digits.
HELD = {"ALE/Freeway-v5": "up"}
MEAN_BURST = 4.0  # steps of random play at a stretch, when noise breaks in


class Policy(Protocol):
    """Chooses an action for each frame of an episode."""

    name: str  # the controller that is recorded: "random", "scripted", "scripted+0.3", "human"

    def reset(self, seed: int) -> None:
        """Before each episode; the same seed leads to the same choices."""

    def act(self, frame: NDArray[np.uint8], truth: dict[str, NDArray[Any]]) -> int:
        """The action for `frame` `(H, W, 3)`; `truth` is the game's hidden state, {} in a dream."""


class HoldingPolicy:
    """Holds one action throughout.

    Args:
        name: of the controller that is recorded.
        action: the one that is held.
    """

    def __init__(self, name: str, action: int) -> None:
        self.name, self.action = name, action

    def reset(self, seed: int) -> None:
        """There is nothing to forget."""

    def act(self, frame: NDArray[np.uint8], truth: dict[str, NDArray[Any]]) -> int:
        return self.action


class RandomPolicy:
    """Uniform over the actions, each kept for a while.

    Without repeats a paddle trembles on the spot and never sees the rest of the screen.

    Args:
        actions: how many there are.
        repeat: probability to keep the last action, in [0, 1).
    """

    name = "random"

    def __init__(self, actions: int, repeat: float = 0.5) -> None:
        self.actions = actions
        self.repeat = repeat
        self.reset(0)

    def reset(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.action = int(self.rng.integers(self.actions))

    def act(self, frame: NDArray[np.uint8], truth: dict[str, NDArray[Any]]) -> int:
        if self.rng.random() >= self.repeat:
            self.action = int(self.rng.integers(self.actions))
        return self.action


class NoisyPolicy:
    """Another policy, broken into by short bursts of random play.

    Bursts lead to places where a good player never is, single random actions hardly do.

    Args:
        policy: who plays otherwise; it sees every frame.
        actions: how many there are.
        noise: share of the steps that is random, in (0, 1).
    """

    def __init__(self, policy: Policy, actions: int, noise: float) -> None:
        self.policy = policy
        self.random = RandomPolicy(actions)
        self.name = f"{policy.name}+{noise:g}"
        # A two-state chain whose bursts last MEAN_BURST steps and fill `noise` of the time.
        self.leave = 1.0 / MEAN_BURST
        self.enter = min(1.0, self.leave * noise / (1.0 - noise))
        self.reset(0)

    def reset(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.policy.reset(int(self.rng.integers(2**32)))
        self.random.reset(int(self.rng.integers(2**32)))
        self.bursting = False

    def act(self, frame: NDArray[np.uint8], truth: dict[str, NDArray[Any]]) -> int:
        action = self.policy.act(frame, truth)
        turns = self.rng.random() < (self.leave if self.bursting else self.enter)
        self.bursting = self.bursting != turns
        return self.random.act(frame, truth) if self.bursting else action


class MixedPolicy:
    """Another player each episode: scripted at a noise level, or random; `name` tells which.

    So a data set shows skilled play, its accidents, and actions that no frame predicts. Without a
    script for the game all episodes are random, with repeats of all lengths.
    """

    def __init__(self, card: GameCard) -> None:
        self.card = card
        self.reset(0)

    def reset(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        noise = float(rng.choice(list(MIXTURE), p=list(MIXTURE.values())))
        repeat = float(rng.choice(REPEATS))
        actions = len(self.card.action_names)
        self.policy: Policy
        if noise == 1.0 or not scripted(self.card.id):
            self.policy = RandomPolicy(actions, repeat)
        else:
            self.policy = script(self.card)
            if noise > 0.0:
                self.policy = NoisyPolicy(self.policy, actions, noise)
        self.policy.reset(int(rng.integers(2**32)))
        self.name = self.policy.name

    def act(self, frame: NDArray[np.uint8], truth: dict[str, NDArray[Any]]) -> int:
        return self.policy.act(frame, truth)


def scripted(game: str) -> bool:
    """Whether there is a script for the game of this id."""
    return game in SCRIPTS or game in HELD


def usual_player(game: str) -> str:
    """The policy that plays the game of this id where none is named."""
    return "scripted" if scripted(game) else "random"


def script(card: GameCard) -> Policy:
    """The script that plays a game.

    Raises:
        InputError: there is none.
    """
    if card.id in HELD:
        names = [name.lower() for name in card.action_names]
        return HoldingPolicy("scripted", names.index(HELD[card.id]))
    if card.id in SCRIPTS:
        return ScriptedPolicy(card.id, card.action_names)
    raise InputError(
        f"policy=scripted: there is no script for {card.id}, only for"
        f" {', '.join((*SCRIPTS, *HELD))}; use policy=random or policy=mixed"
    )


def make_policy(name: str, card: GameCard) -> Policy:
    """The policy "random", "scripted", "mixed" or "noop" for a game, or a trained agent.

    Args:
        name: one of these, or an agent: a shipped name, a run folder or a `.safetensors` file.
        card: of the game.

    Raises:
        InputError: no such policy, no script for this game, an agent of another game, or an
            agent where PyTorch is not installed.
    """
    if name == "random":
        return RandomPolicy(len(card.action_names))
    if name == "scripted":
        return script(card)
    if name == "mixed":
        return MixedPolicy(card)
    if name == "noop":
        return HoldingPolicy("noop", card.key_map.get("", 0))
    try:
        from worldflow.agents.agent_file import Agent, agent_names, resolve_agent
        from worldflow.agents.learned import LearnedPolicy
    except ModuleNotFoundError as error:  # an exported world is played without PyTorch, too
        raise InputError(
            f"policy={name}: an agent needs the package {error.name}: pip install {error.name}"
        ) from error

    try:
        path = resolve_agent(name)
    except InputError:
        if Path(name).exists():  # what is wrong with it, resolve_agent has said
            raise
        hint = did_you_mean(name, ("random", "scripted", "mixed", "noop", *agent_names()))
        raise InputError(f"policy={name}: no such policy, and no agent's file; {hint}") from None
    return LearnedPolicy(Agent.load(path), card)
