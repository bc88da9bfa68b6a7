"""The memory figure: who remembers, who guesses."""

import numpy as np
import pytest

from worldflow.engine import Step
from worldflow.envs.bounce import BounceGame
from worldflow.envs.sign import covered, draw_sign, read_sign
from worldflow.episode import Episode, EpisodeWriter, Header, StepRecord
from worldflow.memory import has_memory, judge_memory
from worldflow.rollouts import RolloutConfig

STEPS = 200


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    path = tmp_path_factory.mktemp("memory") / "0.episode"
    game = BounceGame(memory=True)
    frame, _ = game.reset(seed=2)
    header = Header("bounce", game.card.settings, 15, ("noop", "left", "right"), {"": 0}, seed=2)
    with EpisodeWriter(path, header, frame[None], np.zeros(0, int)) as writer:
        for _ in range(STEPS):
            state, truth = game.state(), game.truth()
            lag = state.ball_x + 1 - (state.paddle_x + 6)
            action = 0 if abs(lag) < 3 else (2 if lag > 0 else 1)
            frame, reward, terminated, _, info = game.step(action)
            writer.append(
                StepRecord(
                    action=action,
                    frame=frame,
                    reward=reward,
                    terminated=terminated,
                    truncated=False,
                    life_lost=info["life_lost"],
                    origin="real",
                    controller="keeper",
                    truth=truth,
                )
            )
    return Episode.open(path)


class Rememberer:
    """Shows the sign that it saw in the frames `span` of those given; else always the first."""

    noise_size = 4

    def __init__(self, span):
        self.span = span

    def start(self, frames, actions):
        assert actions.shape[1] == frames.shape[1] - 1
        seen = read_sign(frames[:, self.span])
        return {"frame": frames[:, -1], "sign": seen.max(axis=1)}

    def step(self, state, action, noise, temperature):
        drawn = state["frame"].copy()
        for frame, sign in zip(drawn, state["sign"], strict=True):
            draw_sign(frame, max(int(sign), 0), half=1, clock=8)
        none = np.zeros(len(drawn), np.float32)
        return Step(drawn, none, none, none > 0, state)


def recall(episode, span, **settings):
    return judge_memory(Rememberer(span), [episode], RolloutConfig(**settings))


def test_the_whole_cycle_is_given_and_the_right_sign_counts(episode):
    whole = recall(episode, slice(0, 24))
    assert whole == (1.0, whole.steps)
    assert whole.steps >= STEPS // 32 - 1
    assert recall(episode, slice(0, 4)).share == 1.0  # it is shown in the first four frames
    assert recall(episode, slice(4, 24)).share < 1.0  # there is but the lid


@pytest.mark.parametrize("size", [16, 32, 48])
def test_signs_are_read_in_smaller_frames_too(size):
    game = BounceGame(memory=True, size=size)
    frame, _ = game.reset(seed=3)
    shown = []
    for _ in range(64):
        state = game.state()
        sign = -1 if covered(state.half, state.clock) else state.sign
        shown.append((int(read_sign(frame)), sign))
        frame, _, terminated, *_ = game.step(0)
        if terminated:
            frame, _ = game.reset()
    assert {read for read, _ in shown} > {-1}
    assert all(read == true for read, true in shown)


def test_no_more_places_than_asked_for(episode):
    assert recall(episode, slice(0, 24), clips=2, batch=1).steps == 2


def test_only_bounce_with_its_option_has_a_memory():
    def header(source, **settings):
        return Header(source, settings, 15, ("noop",), {"": 0}, seed=0)

    assert has_memory(header("bounce", memory=True))
    assert not has_memory(header("bounce", size=64))
    assert not has_memory(header("ALE/Breakout-v5", memory=True))
