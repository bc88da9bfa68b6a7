"""What is drawn of a cell already, as evidence for the components of what comes next."""

import torch
from torch import Tensor, nn

from worldflow.trunk import full_precision, zeroed

VAGUE = -3.0  # before sigmoid: what a component takes a cell for hardly counts, to begin with
BEND = 4.0  # squared distance, in units of the noise, from which on it counts for less


class Evidence(nn.Module):
    """How well what was drawn of a cell goes with each of its components, nats.

    The mixture of details is that of whole cells, coarse coefficients and details together, once
    the coarse ones are known: a component weighs the less, the further they are from what it takes
    the cell for (Bayes). A network of sums would have to learn all of these parabolas by itself,
    and what a wrong one weighs costs so little likelihood that it hardly does. Bent, so that no
    distance is without bounds.
    """

    def __init__(self, hidden: int, components: int, sigma: float, reach: float) -> None:
        super().__init__()
        self.components, self.sigma, self.reach = components, sigma, reach
        self.expected = zeroed(nn.Conv2d(hidden, 4 * components, 1))
        far = torch.tensor([0.0, 0.0, 0.0, VAGUE]).repeat_interleave(components)
        self.expected.bias = nn.Parameter(far)

    def forward(self, hidden: Tensor, apart: Tensor) -> Tensor:
        """`(N, C, h, w)` and what is drawn less the mean's, `(N, 3, h, w)` -> `(N, K, h, w)`."""
        expected = full_precision(self.expected(hidden))
        where, clear = expected.split((3 * self.components, self.components), dim=1)
        off = (apart[:, :, None] - where.unflatten(1, (3, -1)) * self.reach) / self.sigma
        distance = off.square().sum(dim=1)
        return -0.5 * BEND * torch.log1p(torch.sigmoid(clear) * distance / BEND)
