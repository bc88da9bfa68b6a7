"""`worldflow steady`: a ripe world learns to keep what stands still as it was recorded.

What stands still is copied from frame to frame, and every copy is off by a trifle that adds up:
hundreds of steps later a dream is grainy, and then it is no game any more. A backdrop, a picture
that the base may recall a pixel from (base.py), has no such memory of its faults. So a world is
given more of them: what colours each pixel mostly has in the recordings, the most frequent one
first. They stay as they are; learned is when to recall from them, by a few hundred weights.

It is learned on streams of the world's own pictures, hundreds of steps long. They stay on the
recorded branch, as in own_pictures.py: where something happens, the picture is denoised from the
noised true one; all else is what the flow draws, with whatever it has let in before. All other
weights stay as they are, to the bit (docs/experiments.md, 90).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldflow import places
from worldflow.base import Conditions, gaussian_log_prob
from worldflow.dataset import ClipSampler, Dataset
from worldflow.errors import InputError
from worldflow.model import StreamState, WorldModel, to_bytes, to_signed
from worldflow.own_pictures import normal
from worldflow.ripe import RipeConfig, autocast, descend_by_adam, reshaped, train_part
from worldflow.world import World

SAMPLE = 8192  # recorded frames that colours are counted in
UNLIKELY = -4.0  # log-odds of a new backdrop, before anything is learned
FOCUS = 8.0  # weight of places where things happen, as in training


@dataclass(frozen=True)
class SteadyConfig(RipeConfig):
    """See `conf/steady.yaml` for what each key means and its default."""

    backdrops: int


def steady(config: SteadyConfig) -> None:
    """Add backdrops to a world and teach it when to recall from them; writes `out`.

    Raises:
        InputError: as `train_part`; `backdrops` or `batch` below 1.
        WorkError: as `train_part`.
    """
    if config.backdrops < 1 or config.batch < 1:
        raise InputError(
            f"backdrops={config.backdrops} batch={config.batch}: expected 1 or more of each"
        )
    train_part(config, "steadied", partial(_steadied, config))


def _steadied(
    config: SteadyConfig, world: World, training: Dataset, device: str
) -> tuple[World, int]:
    colours = usual_colours(training, config.backdrops, config.seed)
    world = with_backdrops(world, to_signed(torch.from_numpy(colours)).to(device))
    model, base = world.model, world.model.base
    older = 4 * model.config.history  # rows of the frames, which stay as they are
    parameters: list[Tensor] = [*base.recall.parameters(), base.likeness]
    for parameter in parameters:
        parameter.requires_grad_(True)
    hooks = [each.register_hook(partial(_but, older)) for each in base.recall.parameters()]
    streams = Streams(model, training, config.batch, config.seed, device)
    updates = descend_by_adam(parameters, streams.next_loss, config)
    for hook in hooks:
        hook.remove()
    model.requires_grad_(False)
    return world, updates


def _but(rows: int, gradient: Tensor) -> Tensor:
    """`gradient`, but for the first `rows`: what has none does not move."""
    kept = gradient.clone()
    kept[:rows] = 0
    return kept


def usual_colours(dataset: Dataset, count: int, seed: int) -> NDArray[np.uint8]:
    """The colours that each pixel has most often, the most frequent first `(count, H, W, 3)`.

    Of frames drawn at random. Where a pixel has fewer colours, the first stands for the rest.
    """
    sampler = ClipSampler(dataset, 1, 1, seed)
    frames = sampler.clips(0, min(SAMPLE, dataset.steps), 1).frames[:, 0].numpy().astype(np.int32)
    codes = (frames[..., 0] << 16) | (frames[..., 1] << 8) | frames[..., 2]
    chosen = np.empty((count, *codes.shape[1:]), np.int32)
    for y, x in np.ndindex(codes.shape[1:]):
        colours, times = np.unique(codes[:, y, x], return_counts=True)
        best = colours[np.argsort(-times, kind="stable")][:count]
        chosen[:, y, x] = best[0]
        chosen[: len(best), y, x] = best
    return np.stack((chosen >> 16, chosen >> 8 & 255, chosen & 255), axis=-1).astype(np.uint8)


def with_backdrops(world: World, pictures: Tensor) -> World:
    """`world` with `pictures` `(K, 3, H, W)`, in [-1, 1], after its backdrops; hardly recalled."""
    base = world.model.base
    weight, bias = base.recall.parameters()
    rows = 4 * len(pictures)
    tensors = {
        "base.backdrops": torch.cat((base.backdrops, pictures)),
        "base.recall.weight": torch.cat((weight, weight.new_zeros((rows, *weight.shape[1:])))),
        "base.recall.bias": torch.cat((bias, bias.new_full((rows,), UNLIKELY))),
    }
    return reshaped(world, tensors, backdrops=len(tensors["base.backdrops"]))


class Streams:
    """Recorded episodes side by side, step by step, each as the world itself shows it."""

    def __init__(
        self, model: WorldModel, dataset: Dataset, batch: int, seed: int, device: str
    ) -> None:
        self.model, self.dataset, self.device = model, dataset, device
        self.random = np.random.default_rng(seed)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.lengths = np.array([len(episode) for episode in dataset.episodes])
        self.played = [self._draw() for _ in range(batch)]
        self.at = np.zeros(batch, np.int64)  # steps of these that are past
        first = self._frames(range(batch))
        self.state = model.first_state(first)
        # The last L recorded frames and the next: they tell what moved, and the pictures do not.
        self.recorded = first[:, None].repeat(1, model.config.history + 1, 1, 1, 1)

    def next_loss(self) -> Tensor:
        """One step of all streams: the base's weighted NLL excess of it, nats per dimension."""
        self._begin_anew()
        rows, model = range(len(self.played)), self.model
        taken = [self.played[row][0][self.at[row]] for row in rows]
        self.at += 1
        self.recorded = torch.cat((self.recorded[:, 1:], self._frames(rows)[:, None]), dim=1)
        recorded = to_signed(self.recorded)
        frame = recorded[:, -1]
        y = frame + model.config.sigma * normal(frame.shape, self.generator)
        with autocast(self.device):
            given, after = model.advance(self.state, torch.tensor(taken, device=self.device))
            lately = places.moved(recorded, model.config.history)
            self._show(y, given, lately, after)
        nll = -gaussian_log_prob(y, given) - 3 * model.entropy_per_dim
        counts = places.weights(lately, given, model.base.floor, FOCUS)[:, 0]
        return (counts * nll).sum(dim=(1, 2)).mean() / frame[0].numel()

    @torch.no_grad()
    def _show(self, y: Tensor, given: Conditions, lately: Tensor, after: StreamState) -> None:
        """Go on to the state `after`, with the picture that the world makes of `y`."""
        noise = normal(torch.Size((len(y), self.model.flow.noise_size)), self.generator)
        drawn = self.model.flow.decode(noise, given, torch.ones_like(noise[:, 0]))
        busy = places.busy(lately, given, self.model.base.floor) > 0
        picture = self.model.outcome(torch.where(busy, y, drawn), given).frame
        after = after._replace(keys=after.keys.float(), values=after.values.float())
        self.state = self.model.observe(after, to_bytes(picture))

    def _begin_anew(self) -> None:
        """Another episode where one has ended."""
        over = [row for row, played in enumerate(self.played) if self.at[row] == len(played[0])]
        if not over:
            return
        for row in over:
            self.played[row] = self._draw()
        self.at[over] = 0
        rows = torch.tensor(over, device=self.device)
        first = self._frames(over)
        self.recorded[rows] = first[:, None]
        begun = self.model.first_state(first)
        self.state = StreamState(
            *(old.index_copy(0, rows, new) for old, new in zip(self.state, begun, strict=True))
        )

    def _draw(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Actions `(T,)` and frames `(T+1, H, W, 3)` of an episode, the likelier the longer."""
        number = self.random.choice(len(self.lengths), p=self.lengths / self.lengths.sum())
        episode = self.dataset.episodes[number]
        return episode.actions(), episode.frames()

    def _frames(self, rows: Sequence[int]) -> Tensor:
        frames = np.stack([self.played[row][1][self.at[row]] for row in rows])
        return torch.from_numpy(frames).to(self.device)
