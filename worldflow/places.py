"""Where things happen in a frame: known before it is drawn."""

import torch
import torch.nn.functional as F
from torch import Tensor

from worldflow.base import Conditions
from worldflow.doubt import in_doubt

CHANGED = 0.1  # of the range of 2, by which a colour moves that counts as moved
NEAR = 4  # pixels


def moved(frames: Tensor, history: int) -> Tensor:
    """Where something changed among the L frames before each of the N next ones `(N, 1, H, W)`.

    `frames` `(B, L+T, 3, H, W)`; N = B*T.
    """
    changes = (frames[:, 1:-1] - frames[:, :-2]).abs().amax(dim=2) > CHANGED
    lately = changes.float().unfold(1, history - 1, 1).amax(dim=-1)
    return lately.flatten(0, 1)[:, None].contiguous()


def busy(lately: Tensor, given: Conditions, floor: float) -> Tensor:
    """1 where things happen, else 0 `(N, 1, H, W)`.

    That is near what moved `lately`, as `moved` has it, or of which the base is in doubt.
    """
    doubtful = in_doubt(given, floor).amax(dim=1, keepdim=True) > 0
    here = torch.maximum(lately, doubtful.float())
    return F.max_pool2d(here, 2 * NEAR + 1, stride=1, padding=NEAR)


def weights(lately: Tensor, given: Conditions, floor: float, focus: float) -> Tensor:
    """What each pixel of the next frames counts `(N, 1, H, W)`: `focus` where things happen, or 1.

    A negative log-likelihood weighted so is still least where the model is right: each of its
    terms is that of some pixels given the history, and so is its weight.
    """
    return 1 + (focus - 1) * busy(lately, given, floor)
