"""The world model, whole: trunk -> base -> flow -> denoiser, reward and termination."""

import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflow.base import Conditions, GaussianBase, gaussian_log_prob
from worldflow.errors import InputError
from worldflow.flow import MultiscaleFlow
from worldflow.mixture import standard_normal_cdf
from worldflow.sites import asinh_units
from worldflow.tracking import Tracker
from worldflow.trunk import CausalTrunk, Memory, full_precision, zeroed
from worldflow.waiting import recencies


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a world model; presets in `conf/model/`."""

    channels: tuple[int, int, int]  # of the trunk at 1/2, 1/4 and 1/8 of the frame's size
    blocks: tuple[int, int, int]  # residual blocks on each side of the U-Net at those sizes
    hidden: tuple[int, int, int, int]  # widths of the flow's conditioners, coarse to fine
    backdrops: int = 4  # pictures that the base remembers; 0: none
    components: tuple[int, int, int, int] = (8, 8, 4, 4)  # of its mixtures, likewise
    heads: int = 4  # of the attentions
    history: int = 4  # L, frames that the trunk sees directly
    window: int = 32  # W, frames that its temporal attention reaches
    further: int = 0  # more pairs of layers where 16x16 is made of 8x8
    evidence: bool = False  # whether there, what is drawn already weighs the components directly
    ways: int = 0  # that a whole frame may go: a mixture over its 16x16 picture; 0: one
    tracking: int = 0  # width of the networks that keep the game's objects on course; 0: none
    objects: int = 1  # that they keep, one each
    striped: bool = False  # whether what they know them by differs from row to row
    waiting: bool = False  # whether its choices are told how lately the first was in sight
    sigma: float = 0.05  # noise on the modelled frame, on the [-1, 1] range


class Outcome(NamedTuple):
    """What follows a step, read off the drawn frame."""

    frame: Tensor  # (N, 3, H, W), the denoised frame, unbounded
    reward_logits: Tensor  # (N, R)
    termination_logit: Tensor  # (N,)


class StreamState(NamedTuple):
    """The streaming state of N rows; of fixed size."""

    frames: Tensor  # (N, L, H, W, 3) uint8, newest last
    actions: Tensor  # (N, L-1) int64, the actions taken before the newest frame
    keys: Tensor  # (N, heads, cells, W-1, C/heads) float32, the temporal attention's memory
    values: Tensor  # the same
    steps: Tensor  # (N,) int64, steps seen
    recency: Tensor  # (N,) float32, how lately the game's object was in sight (waiting.py)


class WorldModel(nn.Module):
    """`log p(next frame | frames, actions so far)`, exact, and a sampler in one pass."""

    reward_support: Tensor

    def __init__(
        self, config: ModelConfig, *, size: int, action_count: int, reward_support: Tensor
    ) -> None:
        """`reward_support` `(R,)`: the rewards that the head chooses among, ascending."""
        super().__init__()
        if config.objects < 1:
            raise InputError(
                f"model.objects={config.objects}: expected 1 or more; to keep none on its course, "
                "model.tracking=0"
            )
        if config.waiting and not config.tracking:
            raise InputError(
                "model.waiting=true model.tracking=0: what sees for how long an object is gone is "
                "the tracker; give it a width, model.tracking=256, or leave waiting out"
            )
        self.config, self.size, self.action_count = config, size, action_count
        self.trunk = CausalTrunk(
            size=size,
            action_count=action_count,
            channels=config.channels,
            blocks=config.blocks,
            history=config.history,
            window=config.window,
            heads=config.heads,
        )
        self.base = GaussianBase(
            config.channels[0],
            config.history,
            config.backdrops,
            config.sigma,
            size,
            action_count,
            config.tracking,
            config.objects,
            config.striped,
        )
        self.flow = MultiscaleFlow(
            size=size,
            features=config.channels,
            hidden=config.hidden,
            components=config.components,
            sigma=config.sigma,
            further=config.further,
            evidence=config.evidence,
            ways=config.ways,
            waiting=config.waiting,
        )
        self.outcome = OutcomeHead(config.channels, config.sigma, len(reward_support))
        self.register_buffer("reward_support", reward_support)

    @property
    def noise_size(self) -> int:
        """Z: the flow's noise and one entry for the termination draw."""
        size: int = self.flow.noise_size + 1
        return size

    @property
    def entropy_per_dim(self) -> float:
        """The entropy of the noise in one value of `y`, nats."""
        return 0.5 * math.log(2 * math.pi * math.e * self.config.sigma**2)

    @property
    def noise_entropy(self) -> float:
        """The entropy of the noise in `y`, nats per frame: the floor of -log p(y)."""
        return self.flow.eps_size * self.entropy_per_dim

    # Parallel, over whole clips

    def conditions(self, frames: Tensor, actions: Tensor) -> Conditions:
        """Of every step of clips: N = B*T rows; `frames` and `actions` as the trunk wants them."""
        features, taken = self.trunk(frames, actions), self.taken(actions)
        past = self.past(frames)
        return self.base(features, past, taken, self.recency(past, frames.shape[0]))  # type: ignore[no-any-return]

    def past(self, frames: Tensor) -> Tensor:
        """The last L frames of every step of clips `(N, L, 3, H, W)`, newest last."""
        return frames.unfold(1, self.config.history, 1).movedim(-1, 2).flatten(0, 1).contiguous()

    def recency(self, past: Tensor, clips: int) -> Tensor:
        """How lately the game's object was in sight, in every step of B `clips` `(B*T,)`.

        `past` as above. What was before them is not known.
        """
        before = past.new_zeros(clips)
        return self._recency(past, before, past.shape[0] // clips)

    def _recency(self, past: Tensor, before: Tensor, steps: int) -> Tensor:
        if self.flow.waiting is None:  # nobody asks
            return 0 * past[:, 0, 0, 0, 0].abs()  # zeros; made as such they ask for a shape
        first = cast(Tracker, self.base.trackers[0])
        return recencies(first.sees(past), before, steps)

    def taken(self, actions: Tensor) -> Tensor:
        """The last L actions of every step of clips `(N, L)`, newest last."""
        return actions.unfold(1, self.config.history, 1).flatten(0, 1)

    def nll_excess(self, y: Tensor, given: Conditions) -> Tensor:
        """`-log p(y)` above the noise's own entropy `(N,)`, nats per frame."""
        return -self.flow.log_prob(y, given) - self.noise_entropy

    def base_nll_excess(self, y: Tensor, given: Conditions) -> Tensor:
        """The same under the Gaussian base alone."""
        return -gaussian_log_prob(y, given).sum(dim=(1, 2)) - self.noise_entropy

    # Streamed, one step at a time

    def first_state(self, frame: Tensor) -> StreamState:
        """The state at an episode's first `frame` `(N, H, W, 3)` uint8."""
        n, length = len(frame), self.config.history
        return StreamState(
            frames=frame[:, None].repeat(1, length, 1, 1, 1),
            actions=torch.full((n, length - 1), self.action_count, device=frame.device),
            keys=torch.zeros((n, *self.trunk.memory_shape), device=frame.device),
            values=torch.zeros((n, *self.trunk.memory_shape), device=frame.device),
            steps=torch.zeros(n, dtype=torch.int64, device=frame.device),
            recency=torch.zeros(n, device=frame.device),
        )

    def advance(self, state: StreamState, action: Tensor) -> tuple[Conditions, StreamState]:
        """The conditions of the next frame, and the state that waits for it.

        The new state's newest frame is still the old one: `observe` replaces it.
        """
        actions = torch.cat((state.actions, action[:, None]), dim=1)
        frames = to_signed(state.frames)
        memory = Memory(state.keys, state.values)
        features, memory = self.trunk.streamed(frames, actions, memory, state.steps)
        shifted = torch.cat((state.frames[:, 1:], state.frames[:, -1:]), dim=1)
        recency = self._recency(frames, state.recency, steps=1)
        given: Conditions = self.base(features, frames, actions, recency)
        return given, StreamState(shifted, actions[:, 1:], *memory, state.steps + 1, recency)

    def observe(self, state: StreamState, frame: Tensor) -> StreamState:
        """`state` with `frame` `(N, H, W, 3)` uint8 as its newest."""
        frames = torch.cat((state.frames[:, :-1], frame[:, None]), dim=1)
        return StreamState(frames, *state[1:])  # PyTorch 2.11 compiles no `_replace`

    def step(
        self, state: StreamState, action: Tensor, noise: Tensor, temperature: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, StreamState]:
        """Draw one step: frame uint8, reward, p_terminated, terminated, next state."""
        given, state = self.advance(state, action)
        y = self.flow.decode(noise[:, :-1], given, temperature)
        outcome = self.outcome(y, given)
        frame = to_bytes(outcome.frame)
        p_terminated = torch.sigmoid(outcome.termination_logit)
        terminated = standard_normal_cdf(noise[:, -1]) > 1 - p_terminated
        reward = self.reward_support[outcome.reward_logits.argmax(dim=1)]
        return frame, reward, p_terminated, terminated, self.observe(state, frame)

    def score(self, state: StreamState, action: Tensor, frame: Tensor, noise: Tensor) -> Tensor:
        """`nll_excess` `(N,)` of `frame` `(N, H, W, 3)` uint8 as the next one."""
        given, _ = self.advance(state, action)
        eps = noise[:, : self.flow.eps_size].view(-1, 3, self.size, self.size)
        return self.nll_excess(to_signed(frame) + self.config.sigma * eps, given)


class OutcomeHead(nn.Module):
    """Denoiser, reward and termination from `(y, mean, features)`: no look-ahead."""

    def __init__(self, channels: tuple[int, int, int], sigma: float, rewards: int) -> None:
        super().__init__()
        fine, _, coarse = channels
        self.sigma = sigma
        self.conv1 = nn.Conv2d(fine + 24, fine, 3, padding=1)
        self.conv2 = nn.Conv2d(fine, fine, 3, padding=1)
        self.picture = zeroed(nn.Conv2d(fine, 24, 1))
        # Trust the mean until taught otherwise.
        self.picture.bias = nn.Parameter(torch.tensor([-4.0, 0.0]).repeat_interleave(12))
        self.shrink = nn.Conv2d(fine, coarse, 4, stride=4)
        self.events = nn.Conv2d(2 * coarse, coarse // 2, 3, padding=1)
        self.verdict = nn.Linear(coarse, rewards + 1)

    def forward(self, y: Tensor, given: Conditions) -> Outcome:
        mean = given.mean.detach()
        seen = torch.cat((mean, asinh_units(y - mean, self.sigma)), dim=1)
        seen = F.pixel_unshuffle(seen.contiguous(memory_format=torch.channels_last), 2)
        h = F.silu(self.conv1(torch.cat((given.features.fine, seen), dim=1)))
        h = F.silu(self.conv2(h))
        gate, correction = F.pixel_shuffle(full_precision(self.picture(h)), 2).chunk(2, dim=1)
        frame = mean + torch.sigmoid(gate) * (y - mean) + correction
        cells = torch.cat((F.silu(self.shrink(h)), given.features.coarse), dim=1)
        cells = full_precision(F.silu(self.events(cells)))
        pooled = torch.cat((cells.mean(dim=(2, 3)), cells.amax(dim=(2, 3))), dim=1)
        verdict = full_precision(self.verdict(pooled))
        return Outcome(frame, verdict[:, :-1], verdict[:, -1])


def to_signed(frames: Tensor) -> Tensor:
    """uint8 `(..., H, W, 3)` -> float32 `(..., 3, H, W)` in [-1, 1]."""
    return frames.movedim(-1, -3).float() / 127.5 - 1


def to_bytes(frames: Tensor) -> Tensor:
    """float `(..., 3, H, W)` in [-1, 1] -> uint8 `(..., H, W, 3)`, rounded."""
    return ((frames.movedim(-3, -1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
