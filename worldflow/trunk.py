"""The causal trunk: frames and actions so far -> features of what comes next.

A convolutional U-Net over the last L frames, told the last L actions by FiLM, with spatial
attention and causal temporal attention at its bottleneck (docs/model.md). Whole clips
run in parallel in training; one frame at a time runs from a state of fixed size, and both
give the same numbers.
"""

from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)


class Features(NamedTuple):
    """What the trunk says of the next frame, at three scales; rows N are (clip, step)."""

    fine: Tensor  # (N, C0, H/2, W/2)
    middle: Tensor  # (N, C1, H/4, W/4)
    coarse: Tensor  # (N, C2, H/8, W/8)


def full_precision(values: Tensor) -> Tensor:
    """Likelihoods and pictures want float32 at least, whatever autocast ran before."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def zeroed(layer: Layer) -> Layer:
    """The layer, giving zeros until it has learned otherwise."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Film(nn.Linear):
    """Condition `(N, D)` -> scale about 1 and shift about 0, each `(N, C, 1, 1)`."""

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        scale, shift = super().forward(condition).unflatten(1, (-1, 1, 1)).chunk(2, dim=1)
        return 1 + scale, shift


class ResidualBlock(nn.Module):
    """norm -> FiLM -> SiLU -> conv -> SiLU -> conv, added to the input; identity at first."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.film = zeroed(Film(condition, 2 * channels))
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)
        h = F.silu(torch.addcmul(shift, self.norm(x), scale))
        return x + self.conv2(F.silu(self.conv1(h)))  # type: ignore[no-any-return]


class SpatialAttention(nn.Module):
    """Every cell of one frame looks at every other; identity at first."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(n, 3 * self.heads, channels // self.heads, -1)
        q, k, v = qkv.transpose(2, 3).chunk(3, dim=1)  # (N, heads, cells, channels/heads)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(-1, -2).reshape(n, channels, height, width))  # type: ignore[no-any-return]


class Memory(NamedTuple):
    """What the temporal attention keeps of the window - 1 frames before this one, newest last."""

    keys: Tensor  # (N, heads, cells, window - 1, C/heads)
    values: Tensor  # the same


class TemporalAttention(nn.Module):
    """Each cell looks at its own past, over a window of `window` frames; identity at first.

    Streamed, it has that past in a `Memory`; `count` `(N,)` says how many of its frames are real.
    """

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.age_bias = nn.Parameter(torch.zeros(heads, window))  # by age: 0 is this frame
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, clip_length: int) -> Tensor:
        """Whole clips at once: `x` `(B*T, C, h, w)` with T = `clip_length`."""
        n, channels, height, width = x.shape
        batch, cells = n // clip_length, height * width
        qkv = self.qkv(self.norm(x)).reshape(batch, clip_length, 3, self.heads, -1, cells)
        q, k, v = qkv.permute(2, 0, 5, 3, 1, 4).reshape(
            3, batch * cells, self.heads, clip_length, channels // self.heads
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self._mask(clip_length, q.dtype))
        mixed = mixed.reshape(batch, cells, self.heads, clip_length, -1).permute(0, 3, 2, 4, 1)
        return x + self.out(mixed.reshape(n, channels, height, width))  # type: ignore[no-any-return]

    def _mask(self, length: int, dtype: torch.dtype) -> Tensor:
        """`(heads, length, length)`: the bias of each age; -inf for the future and the too old."""
        steps = torch.arange(length, device=self.age_bias.device)
        age = steps[:, None] - steps[None, :]
        bias = self.age_bias[:, age.clamp(0, self.window - 1)]
        return bias.masked_fill((age < 0) | (age >= self.window), float("-inf")).to(dtype)

    def streamed(self, x: Tensor, memory: Memory, count: Tensor) -> tuple[Tensor, Memory]:
        """One frame: `x` `(N, C, h, w)` -> the same and the next memory."""
        n, channels, height, width = x.shape
        depth = channels // self.heads
        qkv = full_precision(self.qkv(self.norm(x)))  # as the memory is
        qkv = qkv.reshape(n, 3 * self.heads, depth, height * width)
        q, k, v = qkv.transpose(2, 3).unsqueeze(3).chunk(3, dim=1)  # (N, heads, cells, 1, depth)
        keys = torch.cat((memory.keys, k), dim=3)
        values = torch.cat((memory.values, v), dim=3)
        scores = q @ keys.transpose(3, 4) * depth**-0.5 + self.age_bias.flip(1)[:, None, None]
        age = torch.arange(self.window - 1, -1, -1, device=x.device)
        unseen = (age > count[:, None]).view(-1, 1, 1, 1, self.window)
        weights = torch.softmax(scores.masked_fill(unseen, float("-inf")), dim=4)
        mixed = (weights @ values).transpose(2, 4).reshape(n, channels, height, width)
        return x + self.out(mixed), Memory(keys[:, :, :, 1:], values[:, :, :, 1:])


class CausalTrunk(nn.Module):
    """The U-Net; see `forward` for clips and `streamed` for one frame at a time."""

    def __init__(
        self,
        *,
        size: int,
        action_count: int,
        channels: tuple[int, int, int],
        blocks: tuple[int, int, int],
        history: int,
        window: int,
        heads: int,
    ) -> None:
        super().__init__()
        fine, middle, coarse = channels
        condition = 2 * coarse
        self.history, self.action_count = history, action_count
        self.memory_shape = (heads, (size // 8) ** 2, window - 1, coarse // heads)
        # One table for all slots of the past; index A in a slot means "no action yet".
        self.actions = nn.Embedding(history * (action_count + 1), 32)
        self.condition = nn.Sequential(
            nn.Linear(32 * history, condition),
            nn.SiLU(),
            nn.Linear(condition, condition),
            nn.SiLU(),
        )
        self.stem = nn.Conv2d(12 * history, fine, 3, padding=1)
        self.encode_fine = self._stage(blocks[0], fine, condition)
        self.to_middle = nn.Conv2d(fine, middle, 2, stride=2)
        self.encode_middle = self._stage(blocks[1], middle, condition)
        self.to_coarse = nn.Conv2d(middle, coarse, 2, stride=2)
        self.position = nn.Parameter(torch.zeros(1, coarse, size // 8, size // 8))
        self.bottleneck = self._stage(blocks[2], coarse, condition)
        self.look_around = SpatialAttention(coarse, heads)
        self.look_back = TemporalAttention(coarse, heads, window)
        self.settle = ResidualBlock(coarse, condition)
        self.from_coarse = nn.Conv2d(coarse, middle, 1)
        self.decode_middle = self._stage(blocks[1], middle, condition)
        self.from_middle = nn.Conv2d(middle, fine, 1)
        self.decode_fine = self._stage(blocks[0], fine, condition)

    @staticmethod
    def _stage(count: int, channels: int, condition: int) -> nn.ModuleList:
        return nn.ModuleList(ResidualBlock(channels, condition) for _ in range(count))

    def forward(self, frames: Tensor, actions: Tensor) -> Features:
        """Clips of T steps with the L-1 frames and actions before them.

        `frames` `(B, L-1+T, 3, H, W)`, `actions` `(B, L-1+T)`; row b*T + t of the result
        knows those up to index L-1+t of clip b. The temporal attention reaches back to the
        clip's first step. See `pad_history` for clips that begin an episode.
        """
        length = frames.shape[1] - self.history + 1
        past = torch.cat([frames[:, i : i + length] for i in range(self.history)], dim=2)
        done = actions.unfold(1, self.history, 1)  # (B, T, L)
        inner = self._down(past.flatten(0, 1), done.flatten(0, 1))
        return self._up(self.look_back(inner.bottom, length), inner)

    def pad_history(self, frames: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Clips `(B, T, 3, H, W)` and `(B, T)` from an episode's start, as `forward` wants them.

        Before the first frame stands that frame again, and no action.
        """
        before = frames[:, :1].expand(-1, self.history - 1, -1, -1, -1)
        none = actions.new_full((len(actions), self.history - 1), self.action_count)
        return torch.cat((before, frames), dim=1), torch.cat((none, actions), dim=1)

    def streamed(
        self, frames: Tensor, actions: Tensor, memory: Memory, count: Tensor
    ) -> tuple[Features, Memory]:
        """One step: `frames` `(N, history, 3, H, W)`, `actions` `(N, history)`, newest last.

        `memory`, twice `(N, *memory_shape)`, and `count` `(N,)` are `TemporalAttention`'s; the
        next memory is returned.
        """
        inner = self._down(frames.flatten(1, 2), actions)
        bottom, memory = self.look_back.streamed(inner.bottom, memory, count)
        return self._up(bottom, inner), memory

    def _down(self, past: Tensor, actions: Tensor) -> "_Inner":
        """`past` `(N, 3*history, H, W)`, `actions` `(N, history)` -> the encoder's half."""
        slots = torch.arange(self.history, device=actions.device) * (self.action_count + 1)
        condition = self.condition(self.actions(actions + slots).flatten(1))
        past = past.contiguous(memory_format=torch.channels_last)
        fine = self.stem(F.pixel_unshuffle(past, 2))
        for block in self.encode_fine:
            fine = block(fine, condition)
        middle = self.to_middle(fine)
        for block in self.encode_middle:
            middle = block(middle, condition)
        bottom = self.to_coarse(middle) + self.position
        for block in self.bottleneck:
            bottom = block(bottom, condition)
        return _Inner(fine, middle, self.look_around(bottom), condition)

    def _up(self, bottom: Tensor, inner: "_Inner") -> Features:
        coarse = self.settle(bottom, inner.condition)
        middle = inner.middle + F.interpolate(self.from_coarse(coarse), scale_factor=2)
        for block in self.decode_middle:
            middle = block(middle, inner.condition)
        fine = inner.fine + F.interpolate(self.from_middle(middle), scale_factor=2)
        for block in self.decode_fine:
            fine = block(fine, inner.condition)
        return Features(fine, middle, coarse)


class _Inner(NamedTuple):
    """The encoder's half of the U-Net, on its way to the decoder's."""

    fine: Tensor
    middle: Tensor
    bottom: Tensor
    condition: Tensor
