"""Where a world is wrong: how far each recorded step lies from its mean.

Most steps of a game are easy and alike; what is left to learn hides in few of them. Clips that
cover these are drawn more often (`rewarded` and `surprising` in `conf/train.yaml`).
"""

import numpy as np
import torch
from numpy.typing import NDArray

from worldflow.dataset import Clips, Dataset, clip_at
from worldflow.model import WorldModel, to_signed

LENGTH, BATCH = 40, 8  # steps of a segment, and segments judged at once
CEILING = 300.0  # nats; a few impossible steps must not be all that is drawn


@torch.no_grad()
def step_errors(model: WorldModel, dataset: Dataset, at_most: int) -> NDArray[np.float32]:
    """Of each step of the data set, nats: half the squared error of the base's mean, in sigmas.

    This is what the step costs a Gaussian of the noise's own width, but for the noise: zero
    where the model knows what comes. About `at_most` steps are judged, spread evenly; the
    others get zero.
    """
    past = model.config.history - 1
    segments, first_step = [], 0
    for number, episode in enumerate(dataset.episodes):
        for first in range(0, len(episode) - LENGTH + 1, LENGTH):
            segments.append((number, first, first_step + first))
        first_step += len(episode)
    errors = np.zeros(first_step, np.float32)
    stride = max(1, -(-len(segments) * LENGTH // at_most))
    chosen = segments[::stride]
    for begin in range(0, len(chosen), BATCH):
        part = chosen[begin : begin + BATCH]
        clips = clip_at(dataset, [(number, first) for number, first, _ in part], LENGTH, past)
        for (_, _, at), error in zip(part, _errors(model, clips), strict=True):
            errors[at : at + LENGTH] = np.minimum(error, CEILING)
    return errors


def _errors(model: WorldModel, clips: Clips) -> NDArray[np.float32]:
    """`(B, T)` nats."""
    device = model.reward_support.device
    frames = to_signed(torch.from_numpy(clips.frames).to(device))
    given = model.conditions(frames[:, :-1], torch.from_numpy(clips.actions).to(device))
    target = frames[:, model.config.history :].flatten(0, 1)
    squared = (given.mean - target).square().sum(dim=(1, 2, 3)) / (2 * model.config.sigma**2)
    errors: NDArray[np.float32] = squared.view(len(frames), -1).float().cpu().numpy()
    return errors
