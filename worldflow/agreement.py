"""Do two engines draw the same? From the same states, step by step, and running free.

They agree up to rounding, but where a selector lies next to a boundary between two components:
there rounding decides which one is drawn. So such near ties are counted, and nothing else is
excused.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldflow import mixture
from worldflow.card import Playable
from worldflow.engine import Engine, State, put_rows, take_rows
from worldflow.envs.objects import object_of
from worldflow.rollouts import noise_rows
from worldflow.small_objects import FAINT
from worldflow.timing import first_state

NEAR_TIE = 1e-5  # between a selector's probability and a component's boundary


@dataclass(frozen=True)
class Agreement:
    """Of many steps, each drawn by both engines from the same state."""

    tolerance: int  # levels of 255 by which a colour of a pixel may differ
    frames: int = 0
    near_ties: int = 0  # frames in which some selector is within NEAR_TIE of a boundary
    flipped: int = 0  # of those: frames that differ by more than the tolerance somewhere
    unexplained: int = 0  # frames without a near tie that do so
    colours: int = 0  # all colours of all pixels
    colours_within: int = 0  # those that agree within the tolerance
    worst: int = 0  # the greatest difference in frames without a near tie, levels
    object_colours: int = 0  # on the pixels of the game's small object
    object_colours_within: int = 0
    outcomes_differing: int = 0  # rewards and terminations

    @property
    def share_within(self) -> float:
        """Of all colours."""
        return self.colours_within / max(1, self.colours)

    @property
    def object_share_within(self) -> float | None:
        """Of the object's colours; None if none was seen."""
        return self.object_colours_within / self.object_colours if self.object_colours else None


@dataclass(frozen=True)
class Watched:
    """What `watched_selectors` saw in one step."""

    distances: list[Tensor]  # (N,), how near the nearest boundary was, of each mixture
    picks: list[Tensor]  # (N, h, w), the components drawn


@contextlib.contextmanager
def watched_selectors() -> Iterator[Watched]:
    """Sees each choice of a component that PyTorch makes inside."""
    picked, seen = mixture.picked, Watched([], [])

    def watched(log_weights: Tensor, selector: Tensor, temperature: Tensor) -> Tensor:
        below = mixture.boundaries(log_weights, temperature)
        place = mixture.standard_normal_cdf(selector)[:, None]
        seen.distances.append((below - place).abs().amin(dim=(1, 2, 3)))
        seen.picks.append(picked(log_weights, selector, temperature))
        return seen.picks[-1]

    mixture.picked = watched
    try:
        yield seen
    finally:
        mixture.picked = picked


def compare(
    ours: Playable, reference: Engine, *, rows: int, steps: int, tolerance: int, seed: int = 0
) -> Agreement:
    """Draw `steps` of `rows` rollouts by both, always from the state that `ours` is in.

    Args:
        ours: the engine to be judged, with the world's starts.
        reference: a `TorchEngine`, whose selectors are watched.
        tolerance: levels of 255.
    """
    engine, found = ours.engine, Agreement(tolerance)
    start = state = first_state(ours, rows)
    random, temperature = np.random.default_rng(seed), np.ones(rows, np.float32)
    small = object_of(ours.card.game, engine.frame_shape)
    for index in range(steps):
        action = random.integers(engine.action_count, size=rows)
        noise = noise_rows(seed, np.arange(rows), index, engine.noise_size)
        told = engine.step(state, action, noise, temperature)
        with watched_selectors() as seen:
            expected = reference.step(as_torch(state, reference.device), action, noise, temperature)
        nearest = torch.stack(seen.distances).amin(dim=0).cpu().numpy()
        masks = np.zeros(told.frame.shape[:3], np.bool_)
        if small is not None:
            masks = np.maximum(*map(small.strength, (told.frame, expected.frame))) >= FAINT
        found = counted(found, told.frame, expected.frame, nearest < NEAR_TIE, masks)
        differing = (told.reward != expected.reward) | (told.terminated != expected.terminated)
        found = replace(found, outcomes_differing=found.outcomes_differing + int(differing.sum()))
        state = told.state
        if ended := np.flatnonzero(told.terminated).tolist():
            state = put_rows(state, np.array(ended), take_rows(start, np.array(ended)))
    return found


def counted(
    found: Agreement,
    frames: NDArray[np.uint8],
    expected: NDArray[np.uint8],
    tied: NDArray[np.bool_],
    masks: NDArray[np.bool_],
) -> Agreement:
    """`found` with N more frames `(N, H, W, 3)`; `tied` `(N,)`, `masks` `(N, H, W)`."""
    levels = np.abs(frames.astype(np.int64) - expected)
    within = levels <= found.tolerance
    off = ~within.all(axis=(1, 2, 3))
    return replace(
        found,
        frames=found.frames + len(frames),
        near_ties=found.near_ties + int(tied.sum()),
        flipped=found.flipped + int((off & tied).sum()),
        unexplained=found.unexplained + int((off & ~tied).sum()),
        colours=found.colours + within.size,
        colours_within=found.colours_within + int(within.sum()),
        worst=max(found.worst, int(levels[~tied].max(initial=0))),
        object_colours=found.object_colours + within[masks].size,
        object_colours_within=found.object_colours_within + int(within[masks].sum()),
    )


def free_run(
    ours: Playable, reference: Engine, *, rows: int, steps: int, tolerance: int, seed: int = 0
) -> list[int]:
    """How many frames each of `rows` dreams with the same luck has before both engines part.

    A dream that stays together for all `steps` counts as that many.
    """
    engine = ours.engine
    state = first_state(ours, rows)
    other = as_torch(state, reference.device)
    random, temperature = np.random.default_rng(seed), np.ones(rows, np.float32)
    together = np.full(rows, steps)
    for index in range(steps):
        action = random.integers(engine.action_count, size=rows)
        noise = noise_rows(seed, np.arange(rows), index, engine.noise_size)
        told = engine.step(state, action, noise, temperature)
        expected = reference.step(other, action, noise, temperature)
        levels = np.abs(told.frame.astype(np.int64) - expected.frame).max(axis=(1, 2, 3))
        together = np.where(levels > tolerance, np.minimum(together, index), together)
        state, other = told.state, expected.state
    return [int(count) for count in together]


def as_torch(state: State, device: str) -> State:
    """A state of any engine as PyTorch has it."""
    return {name: torch.tensor(np.asarray(value), device=device) for name, value in state.items()}
