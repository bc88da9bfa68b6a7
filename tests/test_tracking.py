"""The game's objects keep their courses: found, followed back, and put where they will be."""

import numpy as np
import pytest
import torch
from torch import Tensor

from worldflow.course import Track, line
from worldflow.envs.objects import LOOKS, Look
from worldflow.model import to_signed
from worldflow.small_objects import FAINT
from worldflow.track import tell_look
from worldflow.tracking import AROUND, CLOSE, Stride, Tracker

SIZE, HISTORY, ACTIONS = 32, 4, 3
BACK = -0.5


def tracker(
    sure: float = 9.0, in_sight: float = 9.0, company: int = 0, striped: bool = False
) -> Tracker:
    """Told to go straight on, with log-odds of `sure` for it; the object is white on grey."""
    one = Tracker(HISTORY, SIZE, ACTIONS, 16, company, striped)
    with torch.no_grad():
        one.channels.view(3, -1).copy_(torch.tensor([[1.0], [0.0], [0.0]]) / (1 - BACK))
        one.bias.fill_(-BACK / (1 - BACK))
        one.seen.fill_(1)
        one.usual.fill_(4)
        one.colours.fill_(1 - BACK)
        one.says.bias[-2] = sure
        one.says.bias[-1] = in_sight
    return one


def scene(places: Tensor, shape: tuple[float, float] = (2.0, 2.0)) -> Tensor:
    """A ball of so many rows and columns at each of `places` `(T, 2)`: `(1, T, 3, H, W)`."""
    pixels = torch.arange(SIZE)
    rows, columns = (
        ((side + 1) / 2 - (pixels - place[:, None]).abs()).clamp(0, 1)
        for side, place in zip(shape, places.unbind(dim=1), strict=True)
    )
    frames = BACK + rows[:, :, None] * columns[:, None] * (1 - BACK)  # (T, H, W)
    return frames[:, None].repeat(1, 3, 1, 1)[None]


def flight(speed: tuple[float, float], at: tuple[float, float] = (16.0, 14.0)) -> Tensor:
    """Places of a ball in L frames and the next `(L+1, 2)`; in the next it is `at`."""
    ages = torch.arange(-HISTORY, 1.0)[:, None]
    return torch.tensor(at) + ages * torch.tensor(speed)


def place_in(one: Tracker, picture: Tensor, near: Tensor) -> Tensor:
    """Where the object of `picture` `(1, 3, H, W)` is `(2,)`."""
    place, _ = one.near_by(one.strength(picture[None])[:, 0], near[None])
    return place[0]


NOTHING = torch.zeros((1, HISTORY), dtype=torch.int64)


@pytest.mark.parametrize("speed", [(1.5, 2.2), (-3.6, 1.3), (0.0, -2.7), (2.9, 0.4), (0.0, 0.0)])
def test_a_ball_is_followed_back(speed: tuple[float, float]) -> None:
    places = flight(speed)
    one = tracker()
    with torch.no_grad():
        track = one.track(one.strength(scene(places)[:, :-1]))
    assert torch.allclose(track.places[0], places[:-1], atol=0.05)
    assert torch.allclose(track.here[0], places[-2], atol=0.05)
    assert (track.known[0] == 1).all()


def test_of_two_balls_the_greater_is_followed_and_the_other_taken_out() -> None:
    one, places = tracker(), flight((1.0, 0.4), at=(7.0, 8.0))
    other = BACK + 0.6 * (scene(flight((1.4, 1.2), at=(25.0, 24.0))) - BACK)
    pictures = torch.maximum(scene(places), other)
    with torch.no_grad():
        track = one.track(one.strength(pictures[:, :-1]))
        after, _ = one(pictures[:, -1], pictures[:, :-1], NOTHING)
    assert torch.allclose(track.places[0], places[:-1], atol=0.05)
    assert torch.allclose(after, scene(places)[:, -1], atol=0.1)


def test_among_things_like_it_only_what_is_near_is_taken_out() -> None:
    """Where rows differ in their colours, one that is alike may pass elsewhere."""
    one, places = tracker(striped=True), flight((1.0, 0.4), at=(7.0, 8.0))
    passing = BACK + 0.6 * (scene(flight((1.4, 1.2), at=(25.0, 24.0))) - BACK)
    astray = places + torch.tensor([2.0, 0.0])
    past = torch.maximum(scene(places), passing)[:, :-1]
    with torch.no_grad():
        after, _ = one(torch.maximum(scene(astray), passing)[:, -1], past, NOTHING)
    wanted = torch.maximum(scene(places), passing)[:, -1]
    assert torch.allclose(after, wanted, atol=0.1)


def test_a_ball_that_has_just_come_is_known_no_further_back() -> None:
    one, places = tracker(), flight((1.5, 2.0))
    pictures = scene(places)[:, :-1]
    pictures[:, :2] = BACK
    with torch.no_grad():
        track = one.track(one.strength(pictures))
    assert track.known[0].tolist() == [0, 0, 1, 1]
    straight = line(track)
    assert torch.allclose(straight.leads[0], places[-1], atol=0.1)


def test_where_a_ball_was_is_remembered_while_it_is_hidden() -> None:
    one, places = tracker(), flight((1.5, 2.0))
    pictures = scene(places)[:, :-1]
    pictures[:, 2:] = BACK
    with torch.no_grad():
        track = one.track(one.strength(pictures))
    assert track.seen[0].tolist() == [1, 1, 0, 0]
    assert torch.allclose(track.here[0], places[1], atol=0.05)
    straight = line(track)
    assert torch.allclose(straight.leads, track.here)
    assert not straight.speed.any()


def test_a_hidden_ball_is_drawn_as_it_was_when_it_comes_in_sight() -> None:
    one, places = tracker(), flight((0.0, 0.0))
    pictures = scene(places, (1.0, 4.0))
    pictures[:, -2] = BACK
    with torch.no_grad():
        after, _ = one(pictures[:, -2], pictures[:, :-1], NOTHING)
    assert torch.allclose(after, pictures[:, -1], atol=0.05)


@pytest.mark.parametrize(("in_sight", "kept"), [(-9.0, 0.0), (9.0, 1.0)])
def test_what_will_not_be_in_sight_is_taken_out(in_sight: float, kept: float) -> None:
    places = flight((1.5, 2.0))
    pictures = scene(places)
    with torch.no_grad():
        after, _ = tracker(-9.0, in_sight)(pictures[:, -1], pictures[:, :-1], NOTHING)
    assert torch.allclose(after, BACK + kept * (pictures[:, -1] - BACK), atol=1e-4)


def test_among_things_like_it_what_comes_is_the_object() -> None:
    """A brick that stands or breaks is none; one flies between them."""
    one, places = tracker(), flight((1.5, 2.0))
    one.among.fill_(1)
    pictures = scene(places)
    bricks = torch.full((SIZE, SIZE), BACK)
    bricks[3:6, 2:30] = bricks[22:24, 2:9] = 1.0
    pictures = torch.maximum(pictures, bricks)
    pictures[:, 2:, :, 22:24, 2:5] = BACK  # it breaks
    with torch.no_grad():
        strength = one.strength(pictures)
        track = one.track(strength[:, :-1])
    assert not strength[:, 0].any()
    assert not strength[..., 22:24, 2:9].any()
    assert not strength[..., 3:6, :].any()
    assert track.seen[0].tolist() == [0, 1, 1, 1]
    assert torch.allclose(track.places[0, 1:], places[1:-1], atol=0.15)


def test_what_is_too_far_away_is_another() -> None:
    one, places = tracker(), flight((1.0, 0.5))
    pictures = scene(places)[:, :-1]
    pictures[:, 1] = scene(torch.tensor([[2.0, 30.0]]).expand(HISTORY, 2))[:, 0]
    with torch.no_grad():
        track = one.track(one.strength(pictures))
    assert track.seen[0].tolist() == [1, 0, 1, 1]


def test_a_line_goes_through_all_places_that_are_known() -> None:
    places = flight((1.5, 2.0))[:-1].clone()
    places[-1] += 0.4  # each place counts
    track = Track(places[None], torch.ones(1, HISTORY))
    straight = line(track)
    slope, offset = np.polyfit(range(HISTORY), places.numpy(), 1)
    assert np.allclose(straight.speed[0], slope, atol=1e-5)
    assert np.allclose(straight.leads[0], slope * HISTORY + offset, atol=1e-5)


@pytest.mark.parametrize("off", [(0.4, -0.3), (-3.0, 2.0), (90.0, 0.0)])
def test_the_object_of_the_mean_is_put_where_it_will_be(off: tuple[float, float]) -> None:
    """Wherever the mean has it, and if it has none."""
    one, places = tracker(), flight((1.5, 2.2))
    past, truth = scene(places)[:, :-1], scene(places)[:, -1]
    mean = scene(places + torch.tensor(off))[:, -1]
    with torch.no_grad():
        after, _ = one(mean, past, NOTHING)
    assert torch.allclose(place_in(one, after, places[-1]), places[-1], atol=0.1)
    assert one.strength(after[None]).sum() == pytest.approx(4, abs=0.3)
    assert (after - truth).abs().sum() < 0.35 * (mean - truth).abs().sum() or off[0] == 0.4


@pytest.mark.parametrize("at", [(15.3, 14.2), (14.7, 15.9), (15.1, 14.6), (14.4, 15.5)])
@pytest.mark.parametrize("off", [(0.3, -0.4), (-0.45, 0.1), (0.2, 0.5)])
def test_it_is_put_there_to_a_fortieth_of_a_pixel(
    at: tuple[float, float], off: tuple[float, float]
) -> None:
    """Though what is moved by a part of a pixel loses some of its faint edge."""
    one, places = tracker(), flight((1.5, 2.2), at=at)
    mean = scene(places + torch.tensor(off))[:, -1]
    with torch.no_grad():
        after, _ = one(mean, scene(places)[:, :-1], NOTHING)
    assert torch.allclose(place_in(one, after, places[-1]), places[-1], atol=0.025)


def test_a_pale_ball_gets_its_mass_back() -> None:
    one, places = tracker(), flight((1.5, 2.0))
    pictures = BACK + 0.6 * (scene(places) - BACK)
    with torch.no_grad():
        after, _ = one(pictures[:, -1], pictures[:, :-1], NOTHING)
    assert torch.allclose(after, scene(places)[:, -1], atol=0.15)
    assert one.strength(after[None]).sum() == pytest.approx(4, abs=0.1)


def test_what_is_around_it_is_not_carried_on() -> None:
    """Neither haze nor the blur of being moved, step by step: it is as sharp after twelve."""
    one, places = tracker(), flight((0.45, 0.3), at=(10.0, 10.0))
    pictures = scene(places)[:, :-1] + 0.02 * (1 - BACK)
    with torch.no_grad():
        for _ in range(12):
            after, _ = one(torch.full_like(pictures[:, 0], BACK), pictures, NOTHING)
            pictures = torch.cat((pictures[:, 1:], after[:, None]), dim=1)
    strength = one.strength(after[None])
    assert strength[strength >= FAINT].sum() > 3.6  # of 4


@pytest.mark.parametrize(("off", "kept"), [(0.3, True), (2.5, False)])
def test_it_has_the_shape_that_the_mean_gives_it_near_by(off: float, kept: bool) -> None:
    one, places = tracker(), flight((1.5, 2.0))
    long = (1.0, 4.0)
    mean = scene(places + torch.tensor([0.0, off]), long)[:, -1]
    with torch.no_grad():
        after, _ = one(mean, scene(places)[:, :-1], NOTHING)
    of_mean, of_newest = (
        (after - scene(places, shape)[:, -1]).abs().sum() for shape in (long, (2.0, 2.0))
    )
    assert (of_mean < 0.5 * of_newest) if kept else (of_newest < 0.5 * of_mean)


def test_what_is_not_the_object_stays() -> None:
    one, places = tracker(), flight((1.5, 2.2))
    with torch.no_grad():
        one.seen[25:] = 0
    past, mean = scene(places)[:, :-1], scene(places)[:, -1]
    past[..., 27:30, 4:20] = mean[..., 27:30, 6:22] = 1.0  # a paddle
    with torch.no_grad():
        after, _ = one(mean, past, NOTHING)
    assert torch.equal(after[..., 25:, :], mean[..., 25:, :])
    far = torch.ones(SIZE, SIZE, dtype=torch.bool)
    far[10:23, 8:21] = False
    assert torch.allclose(after[..., far], mean[..., far], atol=1e-5)


def test_a_mean_stays_as_it_is_unless_the_network_is_sure() -> None:
    places = flight((1.5, 2.2))
    past, mean = scene(places)[:, :-1], scene(places + 1.0)[:, -1]
    with torch.no_grad():
        assert torch.equal(tracker(sure=-2.0)(mean, past, NOTHING)[0], mean)
        assert not torch.equal(tracker(sure=2.0)(mean, past, NOTHING)[0], mean)
        empty = torch.full_like(past, BACK)
        assert torch.equal(tracker()(mean, empty, NOTHING)[0], mean)
        assert torch.equal(Tracker(HISTORY, SIZE, ACTIONS, 16)(mean, past, NOTHING)[0], mean)


@pytest.mark.parametrize("look", [look for looks in LOOKS.values() for look in looks])
def test_an_object_looks_as_its_game_defines_it(look: Look) -> None:
    one = Tracker(HISTORY, 64, ACTIONS, hidden=16, striped=look.striped)
    tell_look(one, look)
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    strength = one.strength(to_signed(torch.from_numpy(frames))[:, None])[:, 0]
    assert np.allclose(strength, look.strength(frames), atol=1e-5)


@pytest.mark.parametrize(("channel", "ahead", "met"), [(3, 2, True), (3, 3, False), (0, 2, False)])
def test_before_each_stride_it_looks_where_it_is_by_then(
    channel: int, ahead: int, met: bool
) -> None:
    """In the newest frame: what is between two looks, or was there before, changes nothing."""
    one, places = tracker(), flight((0.0, 4.0))
    track = Track(places[None, :-1], torch.ones(1, HISTORY))
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.zero_()
        for stride in one.strides:
            assert isinstance(stride, Stride)
            stride.close.weight[0, (2 * CLOSE + 1) ** 2 // 2] = 1  # red, in the middle
            stride.learned.weight[0, 0] = 1
            stride.turn.weight[0, 0] = 1
    views = torch.zeros(1, 6, 2 * AROUND + 1, 2 * AROUND + 1)
    views[0, channel, AROUND, AROUND + ahead] = 1
    straight = one.foretold(torch.zeros_like(views), track, NOTHING).place[0]
    assert torch.allclose(straight, places[-1], atol=1e-4)
    place = one.foretold(views, track, NOTHING).place[0]
    assert place[1] == straight[1]
    assert (place[0] > straight[0] + 0.1) == met


OTHER = Track(torch.zeros(1, HISTORY, 2), torch.zeros(1, HISTORY))


@pytest.mark.parametrize(
    ("has", "kept"),
    [
        ([(0.05, -0.03, 1.0)], True),  # where it will be, or nearly
        ([(0.6, -0.5, 1.0)], False),
        ([(0.0, 9.0, 1.0)], True),  # whole and alone, at another place
        ([(0.0, 9.0, 0.6)], False),  # pale
        ([(0.0, 0.0, 0.6), (0.0, 9.0, 0.6)], False),  # two
        ([(0.0, 0.0, 1.0), (0.0, 9.0, 1.0)], False),
    ],
)
def test_a_solid_object_stays_as_the_mean_has_it_where_that_may_be_right(
    has: list[tuple[float, float, float]], kept: bool
) -> None:
    one, places = tracker(company=1), flight((1.5, 2.0), at=(16.2, 12.0))
    past = scene(places)[:, :-1]
    pieces = [share * (scene(places[-1:] + torch.tensor(off))[:, 0] - BACK) for *off, share in has]
    mean = BACK + torch.stack(pieces).sum(dim=0)
    with torch.no_grad():
        after, _ = one(mean, past, NOTHING, [OTHER])
    if kept:
        assert torch.allclose(after, mean, atol=0.03)
    else:
        assert torch.allclose(place_in(one, after, places[-1]), places[-1], atol=0.1)
        assert one.strength(after[None]).sum() == pytest.approx(4, abs=0.5)


def test_what_is_solid_is_moved_as_it_is() -> None:
    """And a ball is made as massive as it should be."""
    places, bar = flight((1.5, 2.0)), (5.0, 2.0)
    mean = BACK + 0.9 * (scene(places + torch.tensor([0.5, 0.0]), bar)[:, -1] - BACK)
    masses = []
    for one in (tracker(company=1), tracker(striped=True), tracker()):
        one.usual.fill_(10)
        with torch.no_grad():
            after, _ = one(mean, scene(places, bar)[:, :-1], NOTHING, [OTHER])
        assert torch.allclose(place_in(one, after, places[-1]), places[-1], atol=0.1)
        masses.append(float(one.strength(after[None]).sum()))
    assert masses == pytest.approx([0.9 * 10, 0.9 * 10, 10], abs=0.3)


def test_it_is_told_where_another_object_is_from_where_it_is() -> None:
    torch.manual_seed(0)
    one = Tracker(HISTORY, SIZE, ACTIONS, hidden=16, company=1)
    with torch.no_grad():
        for stride in one.strides:
            assert isinstance(stride, Stride)
            stride.turn.weight.normal_()

    def goes(places: Tensor, others: Tensor, seen: float = 1.0) -> Tensor:
        """How far, with another object at these places."""
        track, other = (
            Track(part[None, :-1], torch.full((1, HISTORY), shown))
            for part, shown in ((places, 1.0), (others, seen))
        )
        views = torch.zeros(1, 6, 2 * AROUND + 1, 2 * AROUND + 1)
        return one.foretold(views, track, NOTHING, [other]).place[0] - places[-2]

    places, others = flight((0.0, 0.0)), flight((1.0, -0.5), at=(20.0, 25.0))
    gone = goes(places, others)
    assert (goes(places, others + torch.tensor([0.3, 0.0])) - gone).abs().max() > 1e-3
    assert torch.equal(goes(places, others, seen=0.0), goes(places, others + 9, seen=0.0))


@pytest.mark.parametrize("slot", range(HISTORY))
def test_it_is_told_each_of_the_last_actions(slot: int) -> None:
    torch.manual_seed(0)
    one, places = tracker(), flight((0.0, 0.0))
    with torch.no_grad():
        for stride in one.strides:
            assert isinstance(stride, Stride)
            stride.turn.weight.normal_()
        track = Track(places[None, :-1], torch.ones(1, HISTORY))
        views = torch.zeros(1, 6, 2 * AROUND + 1, 2 * AROUND + 1)
        actions = ACTIONS * torch.eye(HISTORY, dtype=torch.int64)[slot][None]  # none there
        gone = [one.foretold(views, track, each).place for each in (NOTHING, actions)]
    assert (gone[0] - gone[1]).abs().max() > 1e-2


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    one, places = Tracker(HISTORY, SIZE, ACTIONS, hidden=16, company=1), flight((1.5, 2.0))
    one.load_state_dict(one.state_dict() | tracker(sure=-0.2).state_dict())
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    pictures = scene(places)
    other = Track(places[None, :-1] + 3, torch.ones(1, HISTORY))
    after, _ = one(pictures[:, -1], pictures[:, :-1], NOTHING, [other])
    (after - pictures[:, -1]).square().sum().backward()
    assert not [name for name, p in one.named_parameters() if p.grad is None or not p.grad.any()]
