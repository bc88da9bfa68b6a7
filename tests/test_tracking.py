"""What moves keeps its course: things followed back, and put right in the mean."""

import pytest
import torch
from torch import Tensor

from worldflow.tracking import CELL, Tracker, standing, unlike

SIZE, HISTORY, SIGMA = 32, 4, 0.05
BACK = -0.5


def tracker(comes: tuple[float, float] = (0.0, 0.0)) -> Tracker:
    """A new one, which guesses that everything `comes` so far in a step."""
    one = Tracker(HISTORY, SIZE, SIGMA, hidden=16)
    with torch.no_grad():
        one.displacement[-1].bias.copy_(torch.tensor(comes))  # type: ignore[union-attr, operator]
    return one


def scene(places: Tensor, striped: bool = False) -> Tensor:
    """A ball two pixels wide at each of `places` `(T, 2)`: frames `(1, T, 3, H, W)`."""
    pixels = torch.arange(SIZE)
    rows, columns = (
        (1.5 - (pixels - place[:, None]).abs()).clamp(0, 1) for place in places.unbind(dim=1)
    )
    ball = rows[:, :, None] * columns[:, None]  # (T, H, W)
    back = torch.full((SIZE,), BACK)
    back[::6] += 0.7 * striped
    frames = back + ball * (1 - back)
    return frames[:, None].repeat(1, 3, 1, 1)[None]


def flight(speed: tuple[float, float], at: tuple[float, float] = (16.0, 14.0)) -> Tensor:
    """Places of a ball in L frames and the next `(L+1, 2)`; in the next it is `at`."""
    ages = torch.arange(-HISTORY, 1.0)[:, None]
    return torch.tensor(at) + ages * torch.tensor(speed)


def cell_of(place: Tensor) -> tuple[int, int]:
    row, column = (int(axis) // CELL for axis in place)
    return row, column


@pytest.mark.parametrize("speed", [(1.5, 2.2), (-3.6, 1.3), (0.0, -2.7), (2.9, 0.4)])
@pytest.mark.parametrize("guess", [(0.0, 0.0), (1.0, -0.8)])
def test_a_ball_is_found_where_it_was(
    speed: tuple[float, float], guess: tuple[float, float]
) -> None:
    comes = speed[0] + guess[0], speed[1] + guess[1]
    places = flight(speed)
    pictures = scene(places)
    still = standing(pictures[:, :-1], SIGMA)
    with torch.no_grad():
        track = tracker(comes).track(unlike(pictures, still))
    row, column = cell_of(places[-1])
    assert torch.allclose(track.places[0, :, :, row, column], places, atol=0.1)
    assert (track.masses[0, :, row, column] > 1).all()


def test_two_balls_have_their_own_tracks() -> None:
    one, other = flight((1.0, 2.4), at=(9.0, 12.0)), flight((2.4, 1.2), at=(23.0, 18.0))
    pictures = torch.maximum(scene(one), scene(other))
    with torch.no_grad():
        track = tracker((1.5, 2.0)).track(unlike(pictures, standing(pictures[:, :-1], SIGMA)))
    for places in (one, other):
        row, column = cell_of(places[-1])
        assert torch.allclose(track.places[0, :, :, row, column], places, atol=0.1)


def test_what_stands_still_is_without_what_moves() -> None:
    pictures = scene(flight((1.5, 2.0)), striped=True)[:, :-1]
    empty = scene(torch.full((1, 2), -9.0), striped=True)[:, 0]
    assert torch.allclose(standing(pictures, SIGMA), empty, atol=0.01)


def test_what_has_changed_for_good_stands_still_as_it_is_now() -> None:
    past = torch.full((1, HISTORY, 3, SIZE, SIZE), BACK)
    past[:, 2:, :, 5:9] = 1.0  # in the last two of four
    assert standing(past, SIGMA)[0, 0, 6, 6] > 0.5


def test_a_new_tracker_leaves_the_mean_as_it_is() -> None:
    pictures = scene(flight((1.5, 2.0)))
    with torch.no_grad():
        after = tracker()(pictures[:, -1], pictures[:, :-1])
    assert torch.allclose(after, pictures[:, -1], atol=1e-4)


@pytest.mark.parametrize("by", [(0.4, 0.0), (-0.7, 0.6)])
def test_a_thing_is_moved_and_its_surroundings_are_not(by: tuple[float, float]) -> None:
    places = flight((1.5, 2.0))
    pictures = scene(places, striped=True)
    mean, still = pictures[:, -1], standing(pictures[:, :-1], SIGMA)
    one = tracker()
    _, mass, _ = one.there(unlike(pictures, still)[:, -1])
    field = torch.tensor(by).view(1, 2, 1, 1).expand(1, 2, one.grid, one.grid)
    with torch.no_grad():
        moved = one.moved(mean, still, mass[:, None], field)
        place, _, _ = one.there(unlike(moved[:, None], still)[:, 0])
    row, column = cell_of(places[-1])
    assert torch.allclose(place[0, :, row, column] - places[-1], torch.tensor(by), atol=0.1)
    far = torch.ones(SIZE, SIZE, dtype=torch.bool)
    far[10:23, 8:21] = False
    assert torch.allclose(moved[..., far], mean[..., far], atol=1e-4)


def test_a_ball_that_is_too_far_ahead_is_put_back() -> None:
    one = tracker((1.5, 2.0))
    with torch.no_grad():  # it says: where the straight line leads
        one.course[-1].bias[:2] = 1.0  # type: ignore[union-attr, index]
    places = flight((1.5, 2.0))
    led = places.clone()
    led[-1] += torch.tensor([0.3, -0.3])
    past, mean = scene(places)[:, :-1], scene(led)[:, -1]
    row, column = cell_of(places[-1])
    with torch.no_grad():
        after = one(mean, past)
        place, _, _ = one.there(unlike(after[:, None], standing(past, SIGMA))[:, 0])
    before, now = (led[-1] - places[-1]).norm(), (place[0, :, row, column] - places[-1]).norm()
    assert now < 0.5 * before


def test_what_has_turned_and_what_is_new_is_left_alone() -> None:
    one = tracker((1.5, 2.0))
    with torch.no_grad():
        one.course[-1].bias[:2] = 1.0  # type: ignore[union-attr, index]
        places = flight((1.5, 2.0))
        turned = places.clone()
        turned[-1] += torch.tensor([-3.0, 0.0])
        past, mean = scene(places)[:, :-1], scene(turned)[:, -1]
        assert torch.allclose(one(mean, past), mean, atol=1e-4)
        nothing = past[:, :1].repeat(1, HISTORY, 1, 1, 1) * 0 + BACK
        assert torch.allclose(one(mean, nothing), mean, atol=1e-4)


def test_what_goes_on_beyond_its_window_is_left_alone() -> None:
    one = tracker((3.0, 0.0))
    with torch.no_grad():
        one.course[-1].bias[:2] = 1.0  # type: ignore[union-attr, index]
        pictures = torch.full((1, HISTORY + 1, 3, SIZE, SIZE), BACK)
        for t in range(HISTORY + 1):
            pictures[0, t, :, 3 * t + 2 : 3 * t + 4, 8:22] = 1.0  # a bar
        mean = pictures[:, -1].roll(1, dims=-1)
        assert torch.allclose(one(mean, pictures[:, :-1]), mean, atol=1e-4)


def test_gradients_reach_every_parameter() -> None:
    one = tracker((1.5, 2.0))
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    pictures = scene(flight((1.5, 2.0)))
    (one(pictures[:, -1], pictures[:, :-1]) - 0.9 * pictures[:, -1]).square().sum().backward()
    assert not [name for name, p in one.named_parameters() if p.grad is None or not p.grad.any()]
