"""Many rollouts in a learned world for an agent to learn in; nothing leaves the world's device.

For a person, or where every step must be repeatable from its noise key, there are the envs in
`worldflow.envs`; here noise is drawn on the device.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldflow.agents.network import first_stack, next_stack
from worldflow.agents.stage import Transition
from worldflow.card import WorldCard
from worldflow.dataset import ClipSampler, Dataset
from worldflow.envs.source import GameCard
from worldflow.errors import InputError
from worldflow.model import StreamState, WorldModel
from worldflow.world import World

FRESH = 0.1  # share of the dreams that begin where an episode does


@dataclass(frozen=True)
class Limits:
    """The nll_excess, nats, within which a frame is believed; see `calibrated`."""

    low: float  # blank and frozen pictures are likelier than any real one
    high: float


class Context(NamedTuple):
    """What dreams begin after; N rows, padded as at an episode's start."""

    frames: Tensor  # (N, T, H, W, 3) uint8, newest last
    actions: Tensor  # (N, T-1) int64, "no action" before an episode's first frame
    missing: Tensor  # (N,) int64, how many of the frames are padding


class Starts:
    """Places to begin from: an episode's first frame, or the midst of one.

    Args:
        world: with starts of its own.
        dataset: recorded episodes, any step of which is such a midst; None for those starts.
    """

    def __init__(self, world: World, dataset: Dataset | None) -> None:
        device = world.model.reward_support.device
        self.frames = torch.from_numpy(world.start_frames).to(device)
        self.actions = torch.from_numpy(world.start_actions).to(device)
        self.no_action = world.model.action_count
        self.sampler: ClipSampler | None = None
        if dataset is not None:
            past = self.frames.shape[1] - 1
            self.sampler = ClipSampler(
                dataset, batch=1, horizon=1, seed=0, past=past, terminal_fraction=0.0
            )

    def draw(self, count: int, generator: torch.Generator) -> Context:
        """`count` rows, a FRESH share of which begin at a first frame."""
        device, length = self.frames.device, self.frames.shape[1]
        own = torch.randint(len(self.frames), (count,), generator=generator, device=device)
        fresh = torch.rand(count, generator=generator, device=device) < FRESH
        frames, actions = self.frames[own], self.actions[own]
        first = frames[:, :1].expand_as(frames)
        if self.sampler is not None:
            number = torch.randint(2**62, (1,), generator=generator, device=device)
            clips = self.sampler.clips(int(number), batch=count)
            frames = clips.frames[:, :length].to(device)
            actions = torch.from_numpy(clips.actions[:, : length - 1]).to(device)
        frames = torch.where(fresh[:, None, None, None, None], first, frames)
        actions = torch.where(fresh[:, None], self.no_action, actions)
        return Context(frames, actions, (actions == self.no_action).sum(dim=1))


class Dreams:
    """N rollouts in a world; a row whose dream has ended begins another within the step.

    A dream is truncated after `horizon` steps, and where a frame's surprise leaves the
    `limits`: then the step is not believed, and the dream ends where it stood before.

    Args:
        world: on the device where it is to be dreamed.
        starts: where dreams begin.
        envs: N.
        stack: frames of an observation.
        horizon: steps of a dream.
        limits: None believes every frame, and spares the cost of scoring them.
        compiled: run the step through `torch.compile`.

    Raises:
        InputError: envs, stack or horizon below 1.
    """

    def __init__(
        self,
        world: World,
        starts: Starts,
        *,
        envs: int,
        stack: int,
        horizon: int,
        limits: Limits | None = None,
        compiled: bool = False,
    ) -> None:
        for name, value in (("envs", envs), ("stack", stack), ("horizon", horizon)):
            if value < 1:
                raise InputError(f"{name}={value}: expected 1 or more")
        self.model, self.starts = world.model, starts
        self.envs, self.stack, self.horizon, self.limits = envs, stack, horizon, limits
        self.card, self.frame_size = game_card(world.card), world.model.size
        self.device = str(self.model.reward_support.device)
        self._step = torch.compile(self.model.step, dynamic=False) if compiled else self.model.step
        self._temperature = torch.ones(envs, device=self.device)

    @torch.no_grad()
    def restart(self, generator: torch.Generator) -> Tensor:
        """All rows from new starts, at different ages, so that they do not end all at once."""
        self.state, self.observation = self._begin(self.envs, generator)
        self.age = torch.arange(self.envs, device=self.device) * self.horizon // self.envs
        self._spare: tuple[StreamState, Tensor] | None = None
        return self.observation

    @torch.no_grad()
    def step(self, action: Tensor, generator: torch.Generator) -> Transition:
        """Draw the next frame of every row, given `action` `(N,)`."""
        noise = self._noise(generator)
        frame, reward, _, terminated, state = self._step(
            self.state, action, noise, self._temperature
        )
        last = next_stack(self.observation, frame)
        cut = torch.zeros_like(terminated)
        if self.limits is not None:
            surprise = self.model.score(self.state, action, frame, self._noise(generator))
            cut = (surprise < self.limits.low) | (surprise > self.limits.high)
            reward, terminated = reward.where(~cut, 0), terminated & ~cut
            last = last.where(~cut[:, None, None, None], self.observation)
        self.state, self.age = state, self.age + 1
        truncated = (cut | (self.age >= self.horizon)) & ~terminated
        self.observation = last
        ended = (terminated | truncated).nonzero()[:, 0]
        if len(ended):
            self._renew(ended, generator)
        return Transition(self.observation, reward, terminated, truncated, last, cut)

    def _noise(self, generator: torch.Generator) -> Tensor:
        size = (self.envs, self.model.noise_size)
        return torch.randn(size, generator=generator, device=self.device)

    def _renew(self, rows: Tensor, generator: torch.Generator) -> None:
        """New dreams in `rows`, from starts that were replayed many at a time."""
        spare = self._spare
        if spare is None or len(spare[1]) < len(rows):
            spare = self._begin(self.envs, generator)
        taken, left = split_rows(spare, len(rows))
        self._spare = left
        for tensor, fresh in zip(self.state, taken[0], strict=True):
            tensor[rows] = fresh  # our own: the model has just made it
        self.observation = self.observation.clone()
        self.observation[rows] = taken[1]
        self.age[rows] = 0

    def _begin(self, count: int, generator: torch.Generator) -> tuple[StreamState, Tensor]:
        context = self.starts.draw(count, generator)
        observation = first_stack(context.frames[:, 0], self.stack)
        for frame in context.frames[:, 1:].unbind(1):
            observation = next_stack(observation, frame)
        return replayed(self.model, context), observation


def split_rows(
    spare: tuple[StreamState, Tensor], count: int
) -> tuple[tuple[StreamState, Tensor], tuple[StreamState, Tensor]]:
    """The first `count` rows, and the others."""
    state, observation = spare
    first = StreamState(*(tensor[:count] for tensor in state)), observation[:count]
    rest = StreamState(*(tensor[count:] for tensor in state)), observation[count:]
    return first, rest


def replayed(model: WorldModel, context: Context) -> StreamState:
    """The state after a context; what is padding does not stay in memory."""
    state = model.first_state(context.frames[:, 0])
    for t in range(context.actions.shape[1]):
        _, state = model.advance(state, context.actions[:, t])
        state = model.observe(state, context.frames[:, t + 1])
    return state._replace(steps=state.steps - context.missing)


@torch.no_grad()
def calibrated(world: World, dataset: Dataset, trust: float, count: int = 2048) -> Limits:
    """Limits that the share `trust` of the recorded steps keeps on either side.

    Args:
        trust: of 0.999, a real frame would be disbelieved twice in 1000.
        count: recorded steps looked at; each with the context that a dream begins after.

    Raises:
        InputError: the share is out of range, or cannot be told from `count` steps.
    """
    if not 0.5 < trust < 1 or (1 - trust) * count < 1:
        raise InputError(f"trust={trust}: expected 0 (believe all) or from 0.5 to 0.9995")
    model, past, surprises = world.model, world.start_frames.shape[1] - 1, []
    device = model.reward_support.device
    generator = torch.Generator(device).manual_seed(0)
    sampler = ClipSampler(dataset, 64, horizon=1, seed=1, past=past, terminal_fraction=0.0)
    for number in range(count // 64):
        clips = sampler.clips(number)
        frames, actions = clips.frames.to(device), torch.from_numpy(clips.actions).to(device)
        missing = (actions[:, :past] == model.action_count).sum(dim=1)
        state = replayed(model, Context(frames[:, : past + 1], actions[:, :past], missing))
        noise = torch.randn((64, model.noise_size), generator=generator, device=device)
        surprises.append(model.score(state, actions[:, past], frames[:, past + 1], noise))
    found = torch.cat(surprises).double().cpu().numpy()
    return Limits(float(np.quantile(found, 1 - trust)), float(np.quantile(found, trust)))


def game_card(card: WorldCard) -> GameCard:
    """What a world's card tells of its game."""
    return GameCard(
        id=card.game,
        action_names=card.action_names,
        key_map=card.key_map,
        frame_rate=card.frame_rate,
        settings=card.settings,
        max_episode_steps=card.max_episode_steps,
    )
