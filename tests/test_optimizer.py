import pytest
import torch
from tiny_world import tiny_model
from torch import Tensor, nn

from worldflow.optimizer import Muon, make_optimizers, orthogonalised


def test_every_parameter_has_one_optimizer() -> None:
    model = tiny_model()
    muon, adamw = make_optimizers(model, 0.01, torch.float32)
    taken = [p for o in (muon, adamw) for g in o.param_groups for p in g["params"]]
    assert sorted(map(id, taken)) == sorted(map(id, model.parameters()))
    by_muon = {id(p) for p in muon.param_groups[0]["params"]}
    assert id(model.trunk.stem.weight) in by_muon
    assert not by_muon & {id(model.base.out.weight), id(model.flow.coarse.head.spread.weight)}
    assert all(p.ndim == 4 for p in muon.param_groups[0]["params"])
    # What has units of its own is not drawn to zero: vectors, and pictures to remember.
    undecayed = adamw.param_groups[1]["params"]
    assert [p for p in undecayed if p.ndim > 1] == [model.base.backdrops]
    assert adamw.param_groups[1]["weight_decay"] == 0


@pytest.mark.parametrize("quick", [torch.float32, torch.bfloat16])
def test_orthogonalised_keeps_directions_and_evens_sizes(quick: torch.dtype) -> None:
    torch.manual_seed(0)
    for shape in ((8, 30), (30, 8), (16, 16)):
        matrix = torch.randn(shape) @ torch.diag(torch.logspace(0, 2, shape[1]))
        u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
        inside = u.T @ orthogonalised(matrix[None], quick)[0] @ vh.T
        values = inside.diagonal()  # all near one
        assert float((inside - values.diag()).abs().max()) < 0.1
        assert float(values[:-1].min()) > 0.3
        assert float(values.max()) < 1.3
    assert float(orthogonalised(torch.zeros(1, 3, 4), quick).abs().max()) == 0


def test_a_step_is_as_large_as_it_says_whatever_the_gradient() -> None:
    def moved(size: float, rate: float) -> Tensor:
        torch.manual_seed(1)
        weight = nn.Parameter(torch.zeros(16, 8, 3, 3))
        muon = Muon([weight], lr=rate, weight_decay=0.0)
        weight.grad = size * torch.randn(16, 8, 3, 3)
        muon.step()
        return weight.detach()

    torch.testing.assert_close(moved(1e-3, 0.1), moved(1e3, 0.1), rtol=0, atol=3e-3)
    torch.testing.assert_close(moved(1.0, 0.2), 2 * moved(1.0, 0.1))
    rms = float(moved(1.0, 0.1).square().mean().sqrt())
    assert 0.014 < rms < 0.026  # 0.1 x 0.2


def test_weights_decay_apart_from_the_gradient() -> None:
    weight = nn.Parameter(torch.ones(4, 4, 1, 1))
    muon = Muon([weight], lr=0.1, weight_decay=0.5)
    weight.grad = torch.zeros(4, 4, 1, 1)
    muon.step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4, 1, 1), 0.95))


def test_it_finds_a_minimum() -> None:
    torch.manual_seed(2)
    layer, target = nn.Conv2d(4, 6, 3, bias=False), torch.randn(6, 4, 3, 3)
    muon = Muon(layer.parameters(), lr=0.1, weight_decay=0.0)
    for _ in range(300):
        muon.param_groups[0]["lr"] *= 0.985
        loss = (layer.weight - target).square().mean()
        muon.zero_grad()
        loss.backward()
        muon.step()
    assert float((layer.weight - target).square().mean().detach()) < 0.01


def test_matrices_of_one_shape_move_as_each_would_alone() -> None:
    torch.manual_seed(3)
    shapes = ((6, 4, 3, 3), (6, 4, 3, 3), (6, 36, 1, 1), (5, 4, 3, 3))
    together = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    together[1].data = together[1].data.to(memory_format=torch.channels_last)
    alone = [nn.Parameter(p.detach().clone()) for p in together]
    muons = [Muon(together, 0.1, 0.01), *(Muon([p], 0.1, 0.01) for p in alone)]
    for _ in range(3):
        for one, other in zip(together, alone, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        for muon in muons:
            muon.step()
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other)
