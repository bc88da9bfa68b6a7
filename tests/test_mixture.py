import math

import pytest
import torch
from torch import Tensor

from worldflow import mixture
from worldflow.mixture import RARE, WEIGHT_FLOOR, Mixture

SIGMA = 0.05


def far_apart(sites: int = 64, weight: float = 1e-3) -> Mixture:
    """Components 20 sigma apart, one of them with a weight of `weight`."""
    logits = torch.tensor([weight, (1 - weight) * 0.6, (1 - weight) * 0.4]).log()
    logits = logits[None, :, None, None].expand(1, 3, sites, sites)
    places = 20 * SIGMA * torch.tensor([-1.0, 0.0, 1.0])[None, :, None, None, None]
    mean = places.expand(1, 3, 9, sites, sites).clone()
    return Mixture(
        mixture.floored_log_weights(logits), mean, torch.full_like(mean, math.log(SIGMA))
    )


def noise(parts: Mixture, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    n, _, d, h, w = parts.mean.shape
    return (
        torch.randn((n, d, h, w), generator=generator),
        torch.randn((n, h, w), generator=generator),
    )


def decode(parts: Mixture, eps: Tensor, selector: Tensor, temperature: float = 1.0) -> Tensor:
    heat = torch.tensor([temperature])
    return mixture.decode(parts.log_weights, parts.component, eps, selector, heat, SIGMA)


def test_the_density_integrates_to_one() -> None:
    parts = Mixture(
        mixture.floored_log_weights(torch.tensor([0.3, -0.5]).view(1, 2, 1, 1)),
        torch.tensor([-1.0, 2.0]).view(1, 2, 1, 1, 1),
        torch.tensor([0.2, -0.7]).view(1, 2, 1, 1, 1),
    )
    grid = torch.linspace(-15, 15, 6001)
    density = [float(mixture.log_prob(parts, y.view(1, 1, 1, 1)).exp()) for y in grid]
    assert sum(density) * float(grid[1] - grid[0]) == pytest.approx(1, abs=1e-4)


def test_samples_have_the_component_frequencies() -> None:
    parts = far_apart(weight=0.1)
    drawn = decode(parts, *noise(parts))[0, 0]
    frequencies = [((drawn - place).abs() < 10 * SIGMA).float().mean() for place in (-1, 0, 1)]
    torch.testing.assert_close(
        torch.tensor(frequencies), torch.tensor([0.1, 0.54, 0.36]), atol=0.025, rtol=0
    )


@pytest.mark.parametrize("weight", [0.1, 1e-3, 0.0])
@pytest.mark.parametrize("shift", [0.0, 30 * SIGMA, -30 * SIGMA])
def test_decode_gives_back_what_was_encoded(shift: float, weight: float) -> None:
    """Also where components are 20 sigma apart and rare, and the value 30 sigma off."""
    parts = far_apart(weight=weight)
    value = decode(parts, *noise(parts)) + shift
    again = decode(parts, *mixture.encode(parts, value, torch.Generator().manual_seed(1)))
    torch.testing.assert_close(again, value, atol=1e-5, rtol=0)


def test_what_is_rare_is_not_drawn_but_has_its_density() -> None:
    parts = far_apart(weight=0.9 * RARE)
    drawn = decode(parts, *noise(parts))
    assert float(drawn.min()) > -10 * SIGMA
    never = parts.mean[:, 0]
    log_prob = mixture.log_prob(parts, never).mean()
    likeliest = mixture.log_prob(parts, parts.mean[:, 1]).mean()
    assert float(likeliest - log_prob) == pytest.approx(math.log(0.6 / (0.9 * RARE)), abs=0.1)
    again = decode(parts, *mixture.encode(parts, never, torch.Generator().manual_seed(1)))
    torch.testing.assert_close(again, never, atol=1e-5, rtol=0)


def test_the_noise_of_a_sample_is_standard_normal() -> None:
    parts = far_apart(weight=0.2)
    value = decode(parts, *noise(parts))
    eps, selector = mixture.encode(parts, value, torch.Generator().manual_seed(1))
    for z in (eps, selector):
        assert float(z.mean()) == pytest.approx(0, abs=0.05)
        assert float(z.std()) == pytest.approx(1, abs=0.05)


def test_no_weight_is_below_the_floor() -> None:
    weights = mixture.floored_log_weights(torch.tensor([0.0, 50.0, -50.0]).view(1, 3, 1, 1)).exp()
    assert float(weights.min()) >= 0.9 * WEIGHT_FLOOR
    assert float(weights.sum()) == pytest.approx(1)


def test_greedy_takes_the_mean_of_the_likeliest_component() -> None:
    parts = far_apart()
    eps, selector = noise(parts)
    drawn = decode(parts, torch.zeros_like(eps), selector, temperature=0.0)
    torch.testing.assert_close(drawn, torch.zeros_like(drawn), atol=1e-6, rtol=0)


def test_temperature_keeps_the_noise_that_a_denoiser_expects() -> None:
    """Components wider than sigma shrink with the temperature, but not below sigma."""
    parts = far_apart()._replace(log_scale=torch.full((1, 3, 9, 64, 64), math.log(4 * SIGMA)))
    eps, selector = noise(parts)
    for temperature, expected in ((1.0, 4 * SIGMA), (0.5, 2 * SIGMA), (0.01, SIGMA)):
        mean = decode(parts, torch.zeros_like(eps), selector, temperature)
        spread = (decode(parts, eps, selector, temperature) - mean).std()
        assert float(spread) == pytest.approx(expected, rel=0.05)


def test_variance_is_what_samples_are_off_by() -> None:
    parts = far_apart(weight=0.2)
    centre = 0.3 * torch.ones_like(parts.mean[:, 0])
    eps, selector = noise(parts)
    drawn = decode(parts, eps, selector)
    sampled = (drawn - centre).square().mean()
    squares = mixture.squares_about(parts, centre)
    variance = mixture.expected(parts.log_weights, squares)
    assert float(variance.mean()) == pytest.approx(float(sampled), rel=0.05)
