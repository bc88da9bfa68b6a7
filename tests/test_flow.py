"""Exactness of the multiscale flow, on a small world."""

import math

import numpy as np
import pytest
import torch
from tiny_world import SIZE, some_conditions, tiny_model
from torch import Tensor

from worldflow import haar, mixture
from worldflow.base import Conditions, gaussian_log_prob
from worldflow.coarse import LEVELS
from worldflow.evidence import BEND, Evidence
from worldflow.flow import MultiscaleFlow
from worldflow.mixture import Mixture
from worldflow.mixture_head import MixtureHead, Told
from worldflow.ways import GAIN

ROWS = 4


def draw(flow: MultiscaleFlow, given: Conditions, seed: int = 0) -> Tensor:
    noise = torch.randn(
        (len(given.mean), flow.noise_size),
        generator=torch.Generator().manual_seed(seed),
        dtype=given.mean.dtype,
    )
    return flow.decode(noise, given, torch.ones(len(noise), dtype=noise.dtype))


@pytest.mark.parametrize("off", [0.0, 1.5])
def test_decode_gives_back_what_was_encoded(off: float) -> None:
    """For the model's own samples, and for frames 30 sigma away from them."""
    model = tiny_model()
    given = some_conditions(model, ROWS)
    with torch.no_grad():
        y = draw(model.flow, given) + off
        noise = model.flow.encode(y, given, torch.Generator().manual_seed(1))
        again = model.flow.decode(noise, given, torch.ones(ROWS))
    assert noise.shape == (ROWS, model.flow.noise_size)
    torch.testing.assert_close(again, y, atol=1e-4, rtol=0)


def test_a_redrawn_frame_is_of_the_same_future() -> None:
    """With noise of its own: apart by some sigma, where another draw is apart by dozens."""
    model = tiny_model()
    given, flow, sigma = some_conditions(model, ROWS), model.flow, model.config.sigma
    with torch.no_grad():
        for head in (step.head for step in (flow.coarse, *flow.details)):
            assert isinstance(head, MixtureHead)
            for layer, bias in ((head.gap, -20.0), (head.spread, -2.0), (head.weigh, 0.0)):
                torch.nn.init.zeros_(layer.weight)
                torch.nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]
        y = draw(flow, given)
        noise = torch.randn(ROWS, flow.noise_size, generator=torch.Generator().manual_seed(1))
        again = flow.redraw(y, given, noise)
        other = draw(flow, given, seed=2)
    assert 0.5 * sigma < float((again - y).square().mean().sqrt()) < 4 * sigma
    assert float((other - y).square().mean().sqrt()) > 12 * sigma


def monotone_map(parts: Mixture, value: Tensor) -> Tensor:
    """Conditional mixture CDFs, one coefficient after the other, to N(0, 1)."""
    log_weights, z = parts.log_weights, []
    for i in range(value.shape[1]):
        u = (value[:, None, i] - parts.mean[:, :, i]) * torch.exp(-parts.log_scale[:, :, i])
        cdf = (log_weights.exp() * torch.special.ndtr(u)).sum(dim=1)
        z.append(torch.special.ndtri(cdf))
        log_weights = log_weights - 0.5 * u.square() - parts.log_scale[:, :, i]
        log_weights = log_weights - torch.logsumexp(log_weights, dim=1, keepdim=True)
    return torch.stack(z, dim=1)


def of_all_ways(flow: MultiscaleFlow, y: Tensor, given: Conditions) -> list[Tensor]:
    """What the ways decide, as a map to noise, cell by cell, with components of all ways."""
    assert flow.ways is not None
    pictures, details = haar.pyramid(y, LEVELS)
    means, step = haar.pyramid(given.mean, LEVELS), flow.coarse
    features, mean = flow.informed(given).features.coarse, means.pictures[0]
    context = step.context(features, mean)
    fork = flow.ways(context)
    sets: list[tuple[list[Mixture], Tensor]] = []  # of cells: the mixture of each way, and values
    for index in range(len(step.GROUPS)):
        ways = [step.group(index, pictures[0], context, mean, way[0]) for way in fork.ways()]
        mixtures = [step.head(Told(*(step.cells(each, index) for each in way))) for way in ways]
        sets.append((mixtures, step.cells(pictures[0], index)))
    first = flow.details[0]
    known = features, pictures[0], mean, means.details[0]
    sets.append(
        ([first.head(first.conditioned(*known, way[1])) for way in fork.ways()], details[0])
    )
    likely, z = fork.odds.flatten(), []  # of each way, given the cells before
    for mixtures, values in sets:
        for row, column in np.ndindex(*values.shape[2:]):
            here = (..., slice(row, row + 1), slice(column, column + 1))
            value, ways = values[here], [Mixture(*(part[here] for part in way)) for way in mixtures]
            weighed = [
                way._replace(log_weights=way.log_weights + of_way)
                for way, of_way in zip(ways, likely, strict=True)
            ]
            together = (torch.cat(parts, dim=1) for parts in zip(*weighed, strict=True))
            z.append(monotone_map(Mixture(*together), value))
            likely = likely + torch.stack([mixture.log_prob(way, value).sum() for way in ways])
            likely = likely - torch.logsumexp(likely, dim=0)
    return z


def oracle(flow: MultiscaleFlow, y: Tensor, given: Conditions) -> Tensor:
    """The flow as one triangular monotone map y -> z, `(3*H*W,)` for one row, in float64."""
    pictures, details = haar.pyramid(y, LEVELS)
    means = haar.pyramid(given.mean, LEVELS)
    z = of_all_ways(flow, y, given)
    for i, step in list(enumerate(flow.details))[1:]:
        known = given.features[2 - i], pictures[i], means.pictures[i], means.details[i]
        z.append(monotone_map(step.head(step.conditioned(*known)), details[i]))
    return torch.cat([part.flatten() for part in z])


def test_log_prob_is_the_change_of_variables() -> None:
    """log p(y) = log N(z) + log|det dz/dy|, the Jacobian of the whole map by autograd."""
    model = tiny_model().double()
    given = some_conditions(model, 1)
    with torch.no_grad():
        y = draw(model.flow, given)

    def flat(values: Tensor) -> Tensor:
        return oracle(model.flow, values.view(1, 3, SIZE, SIZE), given)

    jacobian = torch.autograd.functional.jacobian(flat, y.flatten(), vectorize=True)
    z = flat(y.flatten())
    normal = -0.5 * z.square().sum() - 0.5 * len(z) * math.log(2 * math.pi)
    expected = normal + torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(
        model.flow.log_prob(y, given)[0], expected, atol=1e-6 * len(z), rtol=0
    )


def test_the_mixtures_weights_and_scales_matter_to_the_oracle() -> None:
    """The density of the oracle's mixtures at one site, against `mixture.log_prob`."""
    torch.manual_seed(0)
    parts = Mixture(
        mixture.floored_log_weights(torch.randn(1, 3, 1, 1, dtype=torch.float64)),
        torch.randn(1, 3, 4, 1, 1, dtype=torch.float64),
        0.3 * torch.randn(1, 3, 4, 1, 1, dtype=torch.float64),
    )
    value = torch.randn(4, dtype=torch.float64)

    def flat(values: Tensor) -> Tensor:
        return monotone_map(parts, values.view(1, 4, 1, 1)).flatten()

    z, jacobian = flat(value), torch.autograd.functional.jacobian(flat, value)
    assert torch.equal(jacobian, jacobian.tril())
    expected = -0.5 * z.square().sum() - 2 * math.log(2 * math.pi) + jacobian.diagonal().log().sum()
    torch.testing.assert_close(mixture.log_prob(parts, value.view(1, 4, 1, 1))[0, 0, 0], expected)


def test_samples_come_from_the_density_that_scores_them() -> None:
    """Gibbs: frames of any other distribution score worse on average than the density's own."""
    model = tiny_model()
    given = some_conditions(model, 1)
    many = Conditions(
        type(given.features)(*(f.expand(256, -1, -1, -1) for f in given.features)),
        *(part.expand(256, *part.shape[1:]) for part in given[1:]),
    )
    with torch.no_grad():
        y = draw(model.flow, many)
        own = -model.flow.log_prob(y, many)
        off = -model.flow.log_prob(y + 0.02 * torch.randn_like(y), many)
    assert float(own.mean()) < float(off.mean())


def test_the_base_is_a_gaussian() -> None:
    model = tiny_model()
    given = some_conditions(model, ROWS)
    y = torch.randn(given.mean.shape)
    gaussian = torch.distributions.Normal(given.mean, given.log_scale.exp())
    torch.testing.assert_close(gaussian_log_prob(y, given), gaussian.log_prob(y).sum(dim=1))
    assert float(given.log_scale.exp().min()) >= 0.9 * model.config.sigma * (1 - 1e-5)


def test_coarse_groups_see_only_those_before() -> None:
    """The mixtures of a group move with the cells drawn before it, and with no others."""
    torch.manual_seed(0)
    step = tiny_model().flow.coarse
    grid = SIZE // 2**LEVELS
    features, mean = torch.randn(1, 16, grid, grid), torch.randn(1, 3, grid, grid)
    drawn = torch.randn(1, 3, grid, grid)
    context = step.context(features, mean)
    for index in range(len(step.GROUPS)):
        before = step.group(index, drawn, context, mean, None)
        for other, (y, x) in enumerate(step.GROUPS):
            changed = drawn.clone()
            changed[:, :, y::2, x::2] += 1
            after = step.group(index, changed, context, mean, None)
            for now, then in zip(before[:2], after[:2], strict=True):
                same = torch.equal(step.cells(now, index), step.cells(then, index))
                assert same == (other >= index)


def test_a_thing_that_may_come_at_either_of_two_places_comes_at_one() -> None:
    """Two cells of one group, drawn together: half of the frames have the left, half the right."""
    torch.manual_seed(0)
    bright, columns, rows = 4.0, (1, 5), 400
    flow = MultiscaleFlow(
        size=64, features=(4, 4, 4), hidden=(8,) * 4, components=(2,) * 4, sigma=0.05, ways=2
    )
    assert flow.ways is not None
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.zero_()
        for step in (flow.coarse, flow.details[0]):
            step.head.spread.bias.fill_(-20.0)  # all narrow
        flow.coarse.head.shift.bias[3:] = bright / 0.05  # component 1: something is there
        here = flow.ways.here
        here[:, 1] = -30.0 / GAIN
        for way, column in enumerate(columns):
            here[way, 1, 3, column] = 30.0 / GAIN
        features, mean = torch.zeros(rows, 4, 8, 8), torch.zeros(rows, 3, 16, 16)
        drawn = flow.choosing_draw(torch.randn(rows, flow.noise_size), features, mean)
        there = haar.analyse(drawn)[0][:, 0] > bright / 2
        one, both = (torch.zeros(1, 3, 8, 8) for _ in range(2))
        one[..., 3, columns[0]] = bright
        both[..., 3, columns] = bright
        log_prob_of_one, of_both = (
            flow.choosing_sites(
                haar.synthesise(each, torch.zeros(1, 9, 8, 8)), features[:1], mean[:1]
            )[0].log_prob.sum()
            for each in (one, both)
        )
    assert torch.equal(there.sum(dim=(1, 2)), torch.ones(rows, dtype=torch.int64))
    assert 0.4 < float(there[:, 3, columns[0]].float().mean()) < 0.6
    assert float(log_prob_of_one - of_both) > 10.0  # nats: all that WEIGHT_FLOOR leaves


def test_noise_is_used_whole() -> None:
    """Every entry of the noise is in exactly one place."""
    flow = tiny_model().flow
    noise = torch.arange(flow.noise_size, dtype=torch.float64)[None]
    eps, selectors = flow.split_noise(noise)
    pieces = torch.cat([piece.flatten() for piece in (*eps, *selectors)])
    assert torch.equal(pieces.sort().values, noise[0])
    assert sum(piece.numel() for piece in eps) == flow.eps_size == 3 * SIZE * SIZE


def test_evidence_is_for_the_component_that_takes_the_cell_for_what_it_is() -> None:
    """Of what each of three expects of a cell, the second is drawn; one sigma off is half a nat."""
    sigma, reach = 0.05, 8.0
    evidence = Evidence(4, 3, sigma, reach)
    hidden, cells = torch.randn(2, 4, 1, 1), torch.tensor([[1.0, 0, 2], [-1, 0.5, 0], [0, 0, 0]])
    drawn = (cells[1] + torch.tensor([sigma, 0, 0])).view(1, 3, 1, 1).expand(2, -1, -1, -1)
    with torch.no_grad():
        at_first = evidence(hidden, drawn)
        torch.testing.assert_close(at_first, at_first[:, :1].expand(-1, 3, -1, -1))
        evidence.expected.bias[:9] = cells.T.flatten() / reach
        evidence.expected.bias[9:] = 100.0
        found = evidence(hidden, drawn)
    assert found.shape == (2, 3, 1, 1)
    assert float(found[0, 1, 0, 0]) == pytest.approx(-0.5 * BEND * math.log1p(1 / BEND))
    assert float(found[:, [0, 2]].max()) < -5


def test_no_component_is_wider_than_twice_its_reach() -> None:
    """Else one strange state gives an infinite frame, and all after it are not numbers."""
    flow = tiny_model().flow
    head = flow.coarse.head
    with torch.no_grad():
        head.spread.bias.fill_(500.0)
    hidden, centre = torch.zeros(1, 8, 2, 2), torch.zeros(1, 3, 2, 2)
    widest = head(Told(hidden, centre)).log_scale.exp()
    torch.testing.assert_close(widest, torch.full_like(widest, 2 * 2.0**LEVELS))
