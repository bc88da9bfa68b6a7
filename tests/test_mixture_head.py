"""The heads of the flow's conditioners: where their components lie, and that they part."""

import torch

from worldflow import mixture
from worldflow.mixture import Mixture
from worldflow.mixture_head import LINE, SCALE_FLOOR, MixtureHead, Told

SIGMA, REACH = 0.05, 8.0
UPDATES = 400


def some_head(components: int, size: int) -> MixtureHead:
    torch.manual_seed(0)
    return MixtureHead(6, size, components, SIGMA, REACH)


def scrambled(head: MixtureHead) -> MixtureHead:
    """With weights as if it had learned something."""
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return head


def test_it_starts_with_a_line_across_the_reach_and_one_narrow_component() -> None:
    centre = torch.randn(2, 3, 1, 1)
    parts: Mixture = some_head(5, 3)(Told(torch.randn(2, 6, 1, 1), centre))
    ends = parts.mean[:, 1:] - centre[:, None]
    torch.testing.assert_close(ends[:, 0], torch.full_like(centre, -LINE * REACH))
    torch.testing.assert_close(ends[:, -1], torch.full_like(centre, LINE * REACH))
    torch.testing.assert_close(parts.mean[:, 0], centre)
    scale = parts.log_scale.detach().exp()
    assert float(scale[:, 0].max()) < 1.2 * SIGMA
    assert float(scale[:, 1:].min()) > 10 * SIGMA
    assert bool((parts.log_weights.argmax(dim=1) == 0).all())


def test_no_component_is_narrower_than_the_floor() -> None:
    head = some_head(4, 3)
    with torch.no_grad():
        assert head.spread.bias is not None
        assert head.line.bias is not None
        head.spread.bias.fill_(-100.0)
        head.line.bias.fill_(0.0)
    scale = head(Told(torch.zeros(1, 6, 1, 1), torch.zeros(1, 3, 1, 1))).log_scale.exp()
    torch.testing.assert_close(scale, torch.full_like(scale, SCALE_FLOOR * SIGMA))


def test_evidence_weighs_the_components_as_bayes_does() -> None:
    head = scrambled(some_head(5, 3))
    hidden, centre, evidence = (torch.randn(2, size, 4, 4) for size in (6, 3, 5))
    with torch.no_grad():
        prior, posterior = (
            head(Told(hidden, centre, each)).log_weights.exp() for each in (None, evidence)
        )
    weighed = prior * evidence.exp()
    expected = weighed / weighed.sum(dim=1, keepdim=True)
    torch.testing.assert_close(posterior, expected, atol=1e-5, rtol=1e-4)


def test_decode_draws_from_the_mixture_that_forward_tells() -> None:
    head = scrambled(some_head(5, 3))
    told = Told(torch.randn(3, 6, 4, 4), torch.randn(3, 3, 4, 4), torch.randn(3, 5, 4, 4))
    eps, selector, warm = torch.randn(3, 3, 4, 4), torch.randn(3, 4, 4), torch.ones(3)
    with torch.no_grad():
        parts = head(told)
        expected = mixture.decode(parts.log_weights, parts.component, eps, selector, warm, SIGMA)
        drawn = head.decode(told, eps, selector, warm)
    picked = (mixture.boundaries(parts.log_weights, warm) <= 0.5).sum(dim=1)
    assert len(picked.unique()) > 1
    torch.testing.assert_close(drawn, expected)


def test_three_futures_are_told_apart_within_a_few_hundred_updates() -> None:
    """As far apart as a ball's places, in 4 of 9 coefficients; the others are determined.

    Components that all begin at the centre are 9 nats above the ideal even after 1,000 updates.
    """
    futures = torch.zeros(3, 9)
    futures[:, [0, 1, 6, 7]] = torch.tensor([[2.1], [-0.7], [-2.1]]) * torch.tensor(
        [1.0, 0.8, -1.0, -0.8]
    )
    odds = torch.tensor([0.5, 0.3, 0.2])
    head, generator = some_head(8, 9), torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.01)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, UPDATES)
    hidden, centre = torch.ones(32, 6, 1, 1), torch.zeros(32, 9, 1, 1)

    def excess() -> torch.Tensor:
        mode = torch.multinomial(odds, 32, replacement=True, generator=generator)
        value = futures[mode] + SIGMA * torch.randn(32, 9, generator=generator)
        log_prob = mixture.log_prob(head(Told(hidden, centre)), value[:, :, None, None])
        entropy = 9 * 0.5 * torch.log(torch.tensor(2 * torch.pi * torch.e * SIGMA**2))
        return -log_prob.mean() - entropy

    for _ in range(UPDATES):
        optimizer.zero_grad()
        excess().backward()
        optimizer.step()
        decay.step()
    with torch.no_grad():
        ideal = -(odds * odds.log()).sum()
        assert float(torch.stack([excess() for _ in range(20)]).mean()) < float(ideal) + 1.0
