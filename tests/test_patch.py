"""A patch is the picture's own pixels, and nothing beyond its edge."""

import pytest
import torch

from worldflow.patch import patch_about

SIZE, RIM = 16, 3


@pytest.mark.parametrize("place", [(7.6, 5.2), (0.3, 14.9), (-9.0, 30.0)])
def test_what_is_cut_out_is_put_back_where_it_was(place: tuple[float, float]) -> None:
    picture = torch.rand(SIZE, SIZE)
    patch = patch_about(torch.tensor([place]), RIM, SIZE)
    near = (torch.arange(SIZE)[:, None] - torch.tensor(place).round()).abs() <= RIM
    inside = near[:, :1] & near[:, 1]
    assert torch.equal(patch.put(patch.of(picture))[0], picture * inside)


def test_its_points_are_those_of_its_values() -> None:
    places = torch.tensor([[7.6, 5.2], [3.4, 12.0]])
    patch = patch_about(places, RIM, SIZE)
    rows = torch.arange(float(SIZE))[:, None].expand(SIZE, SIZE)
    inside = ((patch.points >= 0) & (patch.points < SIZE)).all(dim=-1)
    told = torch.stack((patch.of(rows), patch.of(rows.T)), dim=-1)
    assert torch.equal(told[inside], patch.points[inside])
    assert inside.sum(dim=1).tolist() == [49, 49]
    assert (patch.points - places[:, None]).abs().max() <= RIM + 0.5
