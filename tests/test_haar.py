import torch

from worldflow import haar


def test_synthesise_inverts_analyse() -> None:
    picture = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(haar.synthesise(*haar.analyse(picture)), picture)


def test_the_pyramid_is_orthonormal() -> None:
    """Its Jacobian J has J J^T = 1: no log-determinant, and white noise stays white."""

    def flat(values: torch.Tensor) -> torch.Tensor:
        pictures, details = haar.pyramid(values.view(1, 3, 8, 8), 3)
        return torch.cat([part.flatten() for part in (pictures[0], *details)])

    jacobian = torch.autograd.functional.jacobian(flat, torch.randn(192, dtype=torch.float64))
    torch.testing.assert_close(jacobian @ jacobian.T, torch.eye(192, dtype=torch.float64))


def test_a_flat_picture_has_no_details() -> None:
    pictures, details = haar.pyramid(torch.ones(1, 3, 8, 8), 3)
    for picture, level in zip(pictures, (2.0, 4.0, 8.0)[::-1], strict=True):
        torch.testing.assert_close(picture, torch.full_like(picture, level))
    assert all(float(detail.abs().max()) == 0 for detail in details)
