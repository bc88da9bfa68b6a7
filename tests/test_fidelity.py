"""Action fidelity, on a game whose actions are plain to see."""

import numpy as np
import pytest

from worldflow.episode import Episode, EpisodeWriter, Header, StepRecord
from worldflow.fidelity import accuracy, group_actions, judge_fidelity, judged_clips
from worldflow.rollouts import RolloutConfig, draw_clips, read_clips

SIZE, CONTEXT, HORIZON = 16, 8, 16
MOVES = (0, 1, -1, 0)  # the last one does what the first one does


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    """A bar that moves right or left, or stays, under random actions."""
    folder, random = tmp_path_factory.mktemp("moves"), np.random.default_rng(0)
    header = Header("bars", {}, 15, ("stay", "right", "left", "fire"), {"": 0}, seed=0)
    for index in range(2):
        column = 0
        with EpisodeWriter(
            folder / f"{index}.episode", header, bar(column)[None], np.zeros(0, int)
        ) as writer:
            for _ in range(500):
                action = int(random.integers(len(MOVES)))
                column += MOVES[action]
                writer.append(
                    StepRecord(action, bar(column), 0.0, False, False, False, "real", "random")
                )
    return [Episode.open(path) for path in sorted(folder.iterdir())]


def bar(column):
    frame = np.full((SIZE, SIZE, 3), 40, np.uint8)
    frame[:, column % SIZE] = 220
    return frame


@pytest.fixture(scope="module")
def clips(episodes):
    return draw_clips(episodes, RolloutConfig(clips=40, context=CONTEXT, horizon=HORIZON))


def fidelity(episodes, clips, dream):
    """Of a world whose rollout of a clip is `dream(real frames ahead, number)`."""
    chosen = judged_clips(episodes, clips)
    frames, _ = read_clips([clips[number] for number in chosen], CONTEXT + HORIZON)
    dreams = {
        number: dream(ahead, index)[None]
        for index, (number, ahead) in enumerate(zip(chosen, frames[:, CONTEXT:], strict=True))
    }
    return judge_fidelity(episodes, clips, dreams, CONTEXT, seed=0)


def test_an_obedient_dream_has_full_fidelity_and_a_frozen_one_has_not(episodes, clips, monkeypatch):
    monkeypatch.setattr("worldflow.inverse_dynamics.UPDATES", 120)  # enough for bars
    faithful = fidelity(episodes, clips, lambda ahead, index: ahead)
    assert faithful.effects == [[0, 3], [1], [2]]  # stay and fire look alike
    assert faithful.dream == faithful.real > 0.95
    frozen = fidelity(episodes, clips, lambda ahead, index: ahead[:1].repeat(HORIZON, axis=0))
    assert frozen.real == faithful.real
    assert frozen.dream < 0.5
    mirrored = fidelity(episodes, clips, lambda ahead, index: ahead[:, :, ::-1])
    assert mirrored.dream < 0.5  # left is not right


def test_the_action_is_read_off_the_frame_that_it_leads_to(episodes, monkeypatch):
    monkeypatch.setattr("worldflow.inverse_dynamics.UPDATES", 120)
    monkeypatch.setattr("worldflow.fidelity.ENOUGH", 5)  # of each action in 64 transitions
    clips = draw_clips(episodes, RolloutConfig(clips=400, context=CONTEXT, horizon=1))
    chosen = judged_clips(episodes, clips)
    frames, _ = read_clips([clips[number] for number in chosen], CONTEXT + 1)
    still = {
        number: film[None, CONTEXT - 1 : CONTEXT]
        for number, film in zip(chosen, frames, strict=True)
    }
    frozen = judge_fidelity(episodes, clips, still, CONTEXT, seed=0)
    assert frozen.real > 0.9
    assert frozen.dream < 0.5  # though all the frames before the dreamed one are real


def test_dreams_are_judged_apart_from_what_was_learned_from(episodes, clips):
    chosen = judged_clips(episodes, clips)
    assert 5 < len(chosen) < len(clips)
    assert all(clips[number].episode is episodes[1] for number in chosen)


def test_without_dreams_or_effects_nothing_is_told(episodes, clips):
    assert judge_fidelity(episodes, clips, {}, CONTEXT, seed=0) is None


def test_actions_that_cannot_be_told_apart_are_one_effect():
    true = np.repeat([0, 1, 2, 3], 100)
    told = true.copy()
    told[0:50], told[100:150] = 1, 0  # 0 and 1 are guessed
    assert group_actions(told, true) == [[0, 1], [2], [3]]
    told[200:290] = 3  # 2 is taken for 3, and 3 never for 2: right in 55 %
    assert group_actions(told, true) == [[0, 1], [2, 3]]
    assert group_actions(told[:310], true[:310]) == [[0, 1], [2]]  # 3 is too rare


def test_each_effect_weighs_the_same():
    true = np.array([0] * 90 + [1] * 10)
    assert accuracy(np.zeros(100, int), true, [[0], [1]]) == 0.5
    assert accuracy(np.zeros(100, int), true, [[0, 1]]) == 1.0
