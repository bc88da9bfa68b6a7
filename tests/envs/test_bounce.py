"""Bounce knows the truth about itself: its draws, frames, rewards and state all agree."""

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, product

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from worldflow.envs.bounce import (
    CEILING_ROW,
    CLOCK,
    CONTACT_ROW,
    MISS_ROW,
    PADDLE,
    BounceGame,
    BounceState,
    Outcome,
    draw,
    outcomes,
)
from worldflow.envs.sign import read_sign
from worldflow.envs.source import make_source
from worldflow.errors import InputError

NOOP, LEFT, RIGHT = range(3)
FLYING = BounceState(ball_x=30, ball_y=31, velocity_x=1, velocity_y=2, paddle_x=29, lamp=0, clock=4)
ON_PADDLE = replace(FLYING, ball_y=CONTACT_ROW)


def follow_ball(state: BounceState) -> int:
    """The action that brings the paddle's middle under the ball."""
    offset = state.ball_x + 1 - (state.paddle_x + PADDLE // 2)
    return NOOP if abs(offset) < 3 else LEFT if offset < 0 else RIGHT


def game_at(state: BounceState, seed: int = 0) -> BounceGame:
    game = BounceGame()
    game.reset(seed=seed)
    game.set_state(state)
    return game


def play(steps: int, seed: int) -> Iterator[tuple[list[NDArray[np.uint8]], int, BounceState]]:
    """(last 4 frames, action, state) of play that is now random, now aimed, by turns of episodes.

    Before an episode's first frame the window is filled with it.
    """
    game, random, skill = BounceGame(), np.random.default_rng(seed), 0.0
    frame, _ = game.reset(seed=seed)
    window = [frame] * 4
    for _ in range(steps):
        aimed = random.random() < skill
        action = follow_ball(game.state()) if aimed else int(random.integers(3))
        yield window, action, game.state()
        frame, _, terminated, _, _ = game.step(action)
        window = [*window[1:], frame]
        if terminated:
            window = [game.reset()[0]] * 4
            skill = random.choice([0.0, 0.5, 0.9, 1.0])


def future(state: BounceState, action: int) -> frozenset[tuple[bytes, float, float, bool]]:
    """All that a model may have to predict: frame, probability, reward, termination."""
    return frozenset(
        (draw(o.state).tobytes(), round(o.probability, 12), o.reward, o.terminated)
        for o in outcomes(state, action)
    )


def ball_states() -> Iterator[BounceState]:
    """Every place and velocity that the ball can have, at rest included.

    Paddle, lamp and clock go with the place, so that two balls in one place look the same.
    """
    game = BounceGame()
    velocities = [(x, y) for x in (-3, -1, 1, 3) for y in (-2, 2)]
    for ball_x, ball_y in product(range(2, 60), range(CEILING_ROW, MISS_ROW, 2)):
        number = 24 * ball_x + ball_y // 2
        paddles = range(2, 51, 3) if ball_y == CONTACT_ROW else [2 + 3 * (number % 17)]
        clock = CLOCK - 1 - number % 2  # the lamp is drawn in the next step or in the one after
        for velocity, paddle_x in product([(0, 0), *velocities], paddles):
            state = BounceState(ball_x, ball_y, *velocity, paddle_x, number % 3, clock)
            try:
                game.set_state(state)
            except InputError:
                continue
            yield state


def surroundings() -> Iterator[BounceState]:
    """Every paddle, lamp and clock, with a ball at rest and with one about to reach the top."""
    for paddle_x, lamp, clock in product(range(2, 51, 3), range(3), range(CLOCK)):
        yield BounceState(30, CEILING_ROW + 2, 1, -2, paddle_x, lamp, clock)
        yield BounceState(paddle_x + 5, CONTACT_ROW, 0, 0, paddle_x, lamp, clock)


def check_function_of_frames(cases: Iterator[tuple[bytes, BounceState, int]]) -> int:
    """Fail where the same history and action have two futures; the number of histories."""
    known: dict[tuple[int, int], tuple[BounceState, frozenset[tuple[bytes, float, float, bool]]]]
    known = {}
    for history, state, action in cases:
        key = (hash(history), action)
        if key not in known:
            known[key] = (state, future(state, action))
        elif known[key][0] != state:  # the same state has the same future: nothing to compare
            assert known[key][1] == future(state, action), (known[key][0], state, action)
    return len(known)


def test_check_env_without_warnings() -> None:
    spec = EnvSpec("worldflow/BounceGame-v0", entry_point="worldflow.envs.bounce:BounceGame")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(spec, render_mode="rgb_array").unwrapped)


def test_future_is_a_function_of_the_last_4_frames_in_play() -> None:
    cases = (
        (b"".join(frame.tobytes() for frame in window), state, action)
        for window, action, state in play(12_000, seed=5)
    )
    assert check_function_of_frames(cases) > 8_000


def test_future_is_a_function_of_the_last_2_frames_everywhere() -> None:
    def cases() -> Iterator[tuple[bytes, BounceState, int]]:
        for before in chain(ball_states(), surroundings()):
            picture = draw(before).tobytes()
            if before.velocity_y == 0:  # an episode's first frame, before which there is none
                yield picture, before, NOOP
            for outcome in outcomes(before, NOOP):
                if not outcome.terminated:
                    yield picture + draw(outcome.state).tobytes(), outcome.state, RIGHT

    assert check_function_of_frames(cases()) > 10_000


def test_next_frames_is_a_distribution_over_distinct_frames() -> None:
    for number, state in enumerate(ball_states()):
        if number % 7:
            continue
        frames, probabilities = game_at(state).next_frames(number % 3)
        assert frames.dtype == np.uint8
        assert probabilities.dtype == np.float64
        assert frames.shape == (len(probabilities), 64, 64, 3)
        assert len({frame.tobytes() for frame in frames}) == len(frames)
        assert probabilities.min() > 0.0
        assert probabilities.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("state", "modes"),
    [
        (FLYING, 1),
        (ON_PADDLE, 4),
        (replace(FLYING, clock=CLOCK - 1), 3),
        (replace(ON_PADDLE, clock=CLOCK - 1), 12),
        (replace(ON_PADDLE, ball_x=59, paddle_x=50), 2),  # both launches to the right are mirrored
        (replace(ON_PADDLE, ball_x=4, paddle_x=2), 3),  # -3 becomes +3, -1 still fits
    ],
)
def test_step_draws_with_the_frequencies_of_next_frames(state: BounceState, modes: int) -> None:
    game, draws = game_at(state, seed=11), 6_000
    frames, probabilities = game.next_frames(NOOP)
    seen: Counter[bytes] = Counter()
    for _ in range(draws):
        game.set_state(state)
        seen[game.step(NOOP)[0].tobytes()] += 1
    assert len(frames) == modes
    counts = np.array([seen[frame.tobytes()] for frame in frames])
    assert counts.sum() == draws  # nothing but the listed frames was ever drawn
    chi_square = ((counts - draws * probabilities) ** 2 / (draws * probabilities)).sum()
    assert chi_square < modes - 1 + 4 * np.sqrt(2 * modes)  # mean + 4 standard deviations


def test_probabilities_are_those_of_the_card() -> None:
    launches = {o.state.velocity_x: o.probability for o in outcomes(ON_PADDLE, NOOP)}
    assert launches == {-3: 0.15, -1: 0.35, 1: 0.3, 3: 0.2}
    lamps = {o.state.lamp: o.probability for o in outcomes(replace(FLYING, clock=15), NOOP)}
    assert lamps == {0: 0.5, 1: 0.3, 2: 0.2}


def only(state: BounceState, action: int = NOOP) -> Outcome:
    (outcome,) = outcomes(state, action)
    return outcome


def test_launch_is_judged_by_the_paddle_that_is_shown() -> None:
    just_beside = replace(ON_PADDLE, paddle_x=32, ball_x=29)
    assert just_beside.ball_x + 3 == just_beside.paddle_x
    assert only(just_beside, LEFT).state.ball_y == CONTACT_ROW + 2  # moving under it: too late
    touching = replace(just_beside, ball_x=30)
    assert {o.state.ball_y for o in outcomes(touching, RIGHT)} == {CONTACT_ROW - 2}


def test_rewards() -> None:
    assert {o.reward for o in outcomes(ON_PADDLE, NOOP)} == {1.0}
    assert only(FLYING).reward == 0.0
    at_ceiling = replace(FLYING, ball_y=CEILING_ROW, velocity_y=-2)
    assert [only(replace(at_ceiling, lamp=lamp)).reward for lamp in range(3)] == [0.0, 0.0, 2.0]
    assert only(at_ceiling).state.ball_y == CEILING_ROW + 2


def test_a_missed_ball_falls_to_the_bottom_and_ends_the_episode() -> None:
    game = game_at(replace(ON_PADDLE, ball_x=50, paddle_x=2))
    steps = [game.step(NOOP) for _ in range(3)]
    assert [(reward, terminated) for _, reward, terminated, _, _ in steps] == [
        (0.0, False),
        (0.0, False),
        (-1.0, True),
    ]
    assert [info["life_lost"] for *_, info in steps] == [False, False, True]
    state = game.state()
    yellow = steps[-1][0][61:, state.ball_x : state.ball_x + 3]
    assert (yellow == (255, 205, 40)).all()  # the last frame shows the ball, whole
    with pytest.raises(ResetNeeded):
        game.step(NOOP)
    with pytest.raises(ResetNeeded):
        game.next_frames(NOOP)


def test_aimed_play_never_misses_and_earns_all_rewards() -> None:
    game, rewards = BounceGame(), Counter[float]()
    game.reset(seed=3)
    for _ in range(2_000):
        _, reward, terminated, _, _ = game.step(follow_ball(game.state()))
        rewards[reward] += 1
        assert not terminated
    assert set(rewards) == {0.0, 1.0, 2.0}
    assert rewards[1.0] == 2_000 // 42 + 1  # up and down takes 42 steps


def test_paddle_moves_3_pixels_and_stops_at_the_walls() -> None:
    assert [only(FLYING, action).state.paddle_x for action in range(3)] == [29, 26, 32]
    assert only(replace(FLYING, paddle_x=2), LEFT).state.paddle_x == 2
    assert only(replace(FLYING, paddle_x=50), RIGHT).state.paddle_x == 50


def test_same_seed_and_actions_give_the_same_episode() -> None:
    def episode(seed: int) -> list[bytes]:
        game, frames = BounceGame(), []
        frames.append(game.reset(seed=seed)[0].tobytes())
        for _ in range(300):
            frames.append(game.step(follow_ball(game.state()))[0].tobytes())
        return frames

    assert episode(1) == episode(1)
    assert episode(1) != episode(2)


def test_every_episode_starts_with_a_launch() -> None:
    game = BounceGame()
    starts = set()
    for seed in range(200):
        starts.add(game.reset(seed=seed)[0].tobytes())
        assert game.state().on_paddle
    assert len(starts) > 150


def test_truth_rebuilds_the_state() -> None:
    for window, _, state in play(500, seed=9):
        game = game_at(state)
        truth = game.truth()
        assert sum(array.nbytes for array in truth.values()) < 16
        assert BounceGame.from_truth(truth) == state
        np.testing.assert_array_equal(draw(state), window[-1])


def test_what_was_handed_out_is_not_written_again() -> None:
    game = BounceGame(render_mode="rgb_array")
    frame, _ = game.reset(seed=0)
    kept = frame.copy()
    shown = game.render()
    assert shown is not None
    shown[:] = 0
    game.step(LEFT)
    np.testing.assert_array_equal(frame, kept)


@pytest.mark.parametrize("action", [3, -1, 1.5])
def test_unknown_action_is_named(action: int) -> None:
    with pytest.raises(InputError, match=rf"action={action}"):
        game_at(FLYING).step(action)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ball_x": 60}, "ball_x=60"),
        ({"ball_y": 30}, "ball_y=30"),
        ({"lamp": 3}, "lamp=3"),
        ({"velocity_x": 0, "velocity_y": 0}, "velocity"),  # at rest in the air
        ({"ball_x": 3, "velocity_x": 3}, "velocity"),  # came out of the wall
    ],
)
def test_impossible_state_is_refused(change: dict[str, int], message: str) -> None:
    game = game_at(FLYING)
    with pytest.raises(InputError, match=message):
        game.set_state(replace(FLYING, **change))
    assert game.state() == FLYING
    with pytest.raises(InputError, match="bounce"):
        BounceGame.from_truth({"ram": np.zeros(128, np.uint8)})


def memory_play(steps: int, seed: int) -> Iterator[tuple[NDArray[np.uint8], BounceGame]]:
    """Frames of aimed play with the memory option, and the game in that state."""
    game = BounceGame(memory=True)
    frame, _ = game.reset(seed=seed)
    for _ in range(steps):
        yield frame, game
        frame, *_ = game.step(follow_ball(game.state()))


def test_a_covered_sign_comes_back_after_20_frames() -> None:
    for seed in range(5):
        signs = read_sign(np.stack([frame for frame, _ in memory_play(160, seed)]))
        assert signs[0] >= 0  # what was never shown could not be remembered
        lids = "".join("_" if sign < 0 else "x" for sign in signs)
        lengths = [len(lid) for lid in lids.strip("_").replace("x", " ").split()]
        assert set(lengths) == {20}
        openings = [t for t in range(25, 160) if signs[t] >= 0 and signs[t - 1] < 0]
        assert len(openings) >= 3
        assert all(signs[t] == signs[t - 21] for t in openings)


def test_the_next_sign_is_drawn_and_nothing_else_is_hidden() -> None:
    drawn, opened = Counter[int](), 0
    for _, game in memory_play(3_000, seed=1):
        state = game.state()
        frames, probabilities = game.next_frames(NOOP)
        assert len({frame.tobytes() for frame in frames}) == len(frames)
        assert probabilities.sum() == pytest.approx(1.0)
        signs = {outcome.state.sign for outcome in outcomes(state, NOOP)}
        assert len(signs) == (3 if state.half == 1 and state.clock == CLOCK - 1 else 1)
        if state.uncovers:
            opened += 1
            others = {future(replace(state, sign=sign), NOOP) for sign in range(3)}
            assert len(others) == 3  # the same frame now, three futures
            assert len({draw(replace(state, sign=sign)).tobytes() for sign in range(3)}) == 1
        drawn[state.sign] += 1
    assert opened > 80
    assert min(drawn.values()) > 600


def test_a_smaller_one_is_the_same_game_with_each_pixel_an_average() -> None:
    game, small = BounceGame(), make_source("bounce", size=32)
    assert isinstance(small, BounceGame)
    assert small.card.settings == {"size": 32}
    for step in range(30):
        if step == 0:
            frame, seen = game.reset(seed=5)[0], small.reset(seed=5)[0]
        else:
            futures, _ = small.next_frames(step % 3)
            frame, seen = game.step(step % 3)[0], small.step(step % 3)[0]
            assert any(np.array_equal(future, seen) for future in futures)
        blocks = frame.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
        assert seen.shape == small.observation_space.shape == (32, 32, 3)
        assert np.abs(blocks - seen).max() <= 0.5
    for size in (8, 65):
        with pytest.raises(InputError, match=f"size={size}"):
            BounceGame(size=size)


def test_the_memory_option_is_kept_in_the_card_and_the_truth() -> None:
    game = BounceGame(memory=True)
    frame, _ = game.reset(seed=4)
    assert game.card.settings == {"size": 64, "memory": True}
    assert BounceGame.from_truth(game.truth()) == game.state()
    np.testing.assert_array_equal(draw(game.state()), frame)
    assert "memory" not in BounceGame().card.settings
    assert BounceGame().reset(seed=4)[0].tobytes() != frame.tobytes()
    with pytest.raises(InputError, match="memory"):
        make_source("CartPole-v1", memory=True)


def test_made_by_gymnasium_it_is_truncated_where_its_card_says() -> None:
    env = gymnasium.make("worldflow/BounceGame-v0")
    assert env.spec is not None
    assert env.spec.max_episode_steps == BounceGame().card.max_episode_steps
