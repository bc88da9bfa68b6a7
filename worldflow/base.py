"""The Gaussian base: what of the next frame is determined, and how much is open."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflow.course import Track
from worldflow.mixture_head import SCALE_FLOOR
from worldflow.tracking import Tracker
from worldflow.trunk import Features, full_precision, zeroed

OTHER = 4.0  # squared distance, in units of the noise, from which on a colour is another
FAVOUR = 6.0  # log-odds of the newest frame against another picture, before anything is learned


class Conditions(NamedTuple):
    """What a density may know of the next frame."""

    features: Features
    mean: Tensor  # (N, 3, H, W), the base's mean, float32
    log_scale: Tensor  # (N, 3, H, W), the base's log standard deviation, float32
    recency: Tensor  # (N,), how lately the game's object was in sight (waiting.py)


class GaussianBase(nn.Module):
    """Features -> mean and scale of a diagonal Gaussian.

    Each pixel of the mean is recalled: from one of the last L frames, or from one of a few
    `backdrops`, pictures that are learned, as far as weights that sum to one say; and put right
    by a residual. So what a moving thing uncovers is as it was before, to the bit, and what stands
    still is drawn in the colours that the backdrops keep, however often it was drawn before.
    """

    def __init__(
        self,
        channels: int,
        history: int,
        backdrops: int,
        sigma: float,
        size: int,
        action_count: int,
        tracking: int = 0,
        objects: int = 1,
        striped: bool = False,
    ) -> None:
        super().__init__()
        self.floor, self.sigma = math.log(SCALE_FLOOR * sigma), sigma
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.backdrops = nn.Parameter(torch.zeros(backdrops, 3, size, size))
        self.likeness = nn.Parameter(torch.zeros(()))
        self.recall = zeroed(nn.Conv2d(channels, 4 * (history + backdrops), 1))
        favour = torch.zeros(history + backdrops)
        favour[history - 1] = FAVOUR
        self.recall.bias = nn.Parameter(favour.repeat_interleave(4))
        self.out = zeroed(nn.Conv2d(channels, 24, 1))
        # A scale of about 2 sigma to begin with, so that no change is a catastrophe.
        self.out.bias = nn.Parameter(torch.tensor([0.0, -1.0]).repeat_interleave(12))
        self.trackers = nn.ModuleList(
            Tracker(history, size, action_count, tracking, company, striped)
            for company in range(objects if tracking else 0)
        )

    def forward(
        self, features: Features, past: Tensor, actions: Tensor, recency: Tensor
    ) -> Conditions:
        """What is known of the next frame.

        Args:
            features: the trunk's.
            past: `(N, L, 3, H, W)`, the last frames in [-1, 1], newest last.
            actions: `(N, L)`, those taken at the last frames; the newest is the one taken now.
            recency: `(N,)`, how lately the game's object was in sight.
        """
        h = F.silu(self.conv(features.fine))
        recalled = self._recalled(F.pixel_shuffle(full_precision(self.recall(h)), 2), past)
        raw = full_precision(self.out(h))
        residual, spread = F.pixel_shuffle(raw, 2).chunk(2, dim=1)
        log_scale = self.floor * (1 - torch.sigmoid(spread))  # within [floor, 0]
        mean = recalled + residual
        company: list[Track] = []  # each object is told of those before it
        for tracker in self.trackers:
            mean, track = tracker(mean, past, actions, company)
            company.append(track)
        return Conditions(features, mean, log_scale, recency)

    def _recalled(self, logits: Tensor, past: Tensor) -> Tensor:
        """`logits` `(N, L + B, H, W)` -> each pixel as some of the pictures have it.

        A backdrop is the likelier the nearer its colour is to that of the newest frame.
        """
        if len(self.backdrops) == 0:
            return (torch.softmax(logits, dim=1)[:, :, None] * past).sum(dim=1)
        length, backdrops = past.shape[1], self.backdrops[None]
        unlike = F.softplus(self.likeness) * unlikeness(past[:, -1:] - backdrops, self.sigma)
        logits = torch.cat((logits[:, :length], logits[:, length:] - unlike), dim=1)
        frames, pictures = torch.softmax(logits, dim=1)[:, :, None].tensor_split([length], dim=1)
        return (frames * past).sum(dim=1) + (pictures * backdrops).sum(dim=1)


def gaussian_log_prob(y: Tensor, given: Conditions) -> Tensor:
    """The log-density of each pixel of `y` under the base alone `(N, H, W)`, nats."""
    z = (y - given.mean) * torch.exp(-given.log_scale)
    log_prob = -0.5 * z.square() - given.log_scale - 0.5 * math.log(2 * math.pi)
    return log_prob.sum(dim=1)


def unlikeness(apart: Tensor, sigma: float) -> Tensor:
    """How unlike colours are that are `apart` `(N, P, 3, H, W)`: `(N, P, H, W)`.

    The squared distance in units of the noise, bent: of colours that are another, how far does
    not matter.
    """
    distance = (apart / sigma).square().sum(dim=2)
    return OTHER * torch.log1p(distance / OTHER)
