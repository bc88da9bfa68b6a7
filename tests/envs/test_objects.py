"""The ball of a game is found where the game says that it is, and nothing else is."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from worldflow.agents.policy import make_policy
from worldflow.envs.bounce import BounceState, draw
from worldflow.envs.objects import LOOKS, OBJECTS, object_of
from worldflow.envs.source import SourceGame, make_source
from worldflow.model import to_signed
from worldflow.small_objects import WHOLE, Blob, find_blobs
from worldflow.track import tell_look
from worldflow.tracking import CERTAIN, Tracker

PIXEL = (210 / 64, 160 / 64)  # screen pixels to one of a frame, down and across


def found(game: str, frame: NDArray[np.uint8]) -> list[Blob]:
    """The objects in a frame that are more than a glimpse."""
    blobs = find_blobs(OBJECTS[game].strength(frame))
    return [blob for blob in blobs if blob.mass >= WHOLE * OBJECTS[game].mass]


def play(game: SourceGame, steps: int) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Frames of a good player's game, and the console's memory in each."""
    policy = make_policy("scripted", game.card)
    frame, _ = game.reset(seed=5)
    policy.reset(0)
    shown = []
    for _ in range(steps):
        truth = game.truth()
        shown.append((frame, truth["ram"]))
        frame, *_ = game.step(np.int64(policy.act(frame, truth)))
    return shown


def test_the_ball_of_bounce_is_exact() -> None:
    for x, y, paddle in ((2, 13, 2), (30, 31, 29), (59, 61, 50), (30, 55, 29)):
        frame = draw(BounceState(x, y, 1, 2, paddle, lamp=0, clock=5))
        (ball,) = found("bounce", frame)
        assert ball == pytest.approx((y + 1, x + 1, 9.0))


def test_a_ball_of_bounce_that_fades_is_weaker() -> None:
    state = BounceState(30, 31, 1, 2, 29, lamp=0, clock=5)
    gone = draw(BounceState(50, 31, 1, 2, 29, lamp=0, clock=5))
    half = (draw(state)[:, :45].astype(float) + gone[:, :45]) / 2
    frame = gone.copy()
    frame[:, :45] = half
    masses = sorted(blob.mass for blob in found("bounce", frame))
    assert masses == pytest.approx([4.5, 9.0], abs=0.1)


def test_the_ball_of_breakout_is_where_the_memory_says() -> None:
    pytest.importorskip("ale_py")
    seen = judged = above = 0
    for frame, ram in play(make_source("ALE/Breakout-v5"), 1600):
        y, x = (int(ram[101]) + 11) / PIXEL[0] - 0.5, (int(ram[99]) - 48) / PIXEL[1] - 0.5
        balls = found("ALE/Breakout-v5", frame)
        assert len(balls) <= 1
        for ball in balls:
            assert ram[101] > 0
            assert np.hypot(ball.y - y, ball.x - x) < 2
        # Well between the ceiling, the wall and the paddle.
        if ram[101] and (11 < y < 15 or 31 < y < 55):
            above += y < 15
            judged += 1
            seen += len(balls)
    # A ball that is served within the step shows in fewer screens, and is weak once.
    assert judged > 100
    assert seen >= 0.99 * judged


def test_the_ball_of_breakout_is_found_among_bricks_by_what_has_come() -> None:
    pytest.importorskip("ale_py")
    tracker = Tracker(4, 64, 4, 8)
    tell_look(tracker, LOOKS["ALE/Breakout-v5"][0])
    frames, rams = zip(*play(make_source("ALE/Breakout-v5"), 1600), strict=True)
    shown = to_signed(torch.from_numpy(np.stack(frames)))
    with torch.no_grad():
        strength = tracker.strength(shown.unfold(0, 4, 1).movedim(-1, 1))
        places, masses = tracker.greatest(strength[:, -1])
    off = []
    for place, mass, ram in zip(places.numpy(), masses, rams[3:], strict=True):
        y, x = (int(ram[101]) + 11) / PIXEL[0] - 0.5, (int(ram[99]) - 48) / PIXEL[1] - 0.5
        if ram[101] and 17 < y < 28:
            off.append(np.hypot(place[0] - y, place[1] - x) if mass > CERTAIN[1] else np.inf)
    seen = np.isfinite(off)
    assert len(off) > 100
    assert seen.mean() > 0.85  # not where a brick is before it
    assert np.mean(np.array(off)[seen] < 2) > 0.98


def test_the_ball_of_pong_is_where_the_memory_says() -> None:
    pytest.importorskip("ale_py")
    seen = judged = 0
    for frame, ram in play(make_source("ALE/Pong-v5"), 400):
        y, x = (int(ram[54]) - 12) / PIXEL[0] - 0.5, (int(ram[49]) - 48) / PIXEL[1] - 0.5
        balls = found("ALE/Pong-v5", frame)
        assert len(balls) <= 1
        for ball in balls:
            assert ram[54] > 0
            assert np.hypot(ball.y - y, ball.x - x) < 2
        if ram[54] and 14 < y < 56 and 11 < x < 54:
            judged += 1
            seen += len(balls)
    # A ball that is served within the step shows in fewer screens, and is weak once.
    assert judged > 100
    assert seen >= 0.99 * judged


@pytest.mark.parametrize(("index", "place"), [(1, 50), (2, 51)])
def test_the_paddles_of_pong_are_where_the_memory_says(index: int, place: int) -> None:
    pytest.importorskip("ale_py")
    look = LOOKS["ALE/Pong-v5"][index]
    judged = 0
    for frame, ram in play(make_source("ALE/Pong-v5"), 400):
        y = (int(ram[place]) - 8) / PIXEL[0]
        pieces = find_blobs(look.strength(frame))
        if ram[place] and 14 < y < 55:  # whole, and not on its way in
            judged += 1
            assert len(pieces) == 1
            assert abs(pieces[0].y - y) < 1
            assert 7 < pieces[0].mass < 9
    assert judged > 100


def test_the_hen_of_freeway_is_where_the_memory_says() -> None:
    pytest.importorskip("ale_py")
    places, right, more = [], [], 0
    for frame, ram in play(make_source("ALE/Freeway-v5"), 800):
        y = (196 - int(ram[14])) / PIXEL[0]
        hens = found("ALE/Freeway-v5", frame)
        near = [hen for hen in hens if np.hypot(hen.y - y, hen.x - 18.4) < 0.8]
        assert len(near) <= 1
        places.append(y)
        right.append(len(near) == 1)
        if not 49 < y < 58:
            assert all(0.7 < hen.mass < 4 for hen in near)  # 2.7, less over a blue car
            # A yellow car that moves while the screen is taken is a glimpse, and now and then more.
            assert all(51 < hen.y < 56 and hen.mass < 2.2 for hen in hens if hen not in near)
            more += len(hens) - len(near)
    away = np.array([not 49 < y < 58 for y in places])
    assert np.histogram(places, bins=[4, 13, 30, 49, 58])[0].min() > 30  # everywhere
    assert np.array(right)[away].mean() > 0.98
    assert np.array(right)[~away].mean() > 0.95
    assert more < 0.05 * away.sum()


def test_only_known_games_at_their_size_define_an_object() -> None:
    assert object_of("ALE/Breakout-v5", (64, 64, 3)) is OBJECTS["ALE/Breakout-v5"]
    assert object_of("ALE/Breakout-v5", (84, 84, 3)) is None
    assert object_of("ALE/Boxing-v5", (64, 64, 3)) is None
