"""Dreams that run free: played by policies, restarted where a game ends."""

import numpy as np
import pytest
from fake_engine import make_playable

from worldflow.episode import Episode, EpisodeWriter, Header, StepRecord
from worldflow.free_run import FreeRunConfig, run_free

SHAPE = (16, 16, 3)
MOTION, ENDS = 5, 8  # columns of a frame's features: what moved, and whether the game ended


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "0.episode"
    header = Header("fake", {}, 30, ("noop", "right", "left"), {"": 0}, seed=0)
    frame = np.full(SHAPE, 7, np.uint8)
    with EpisodeWriter(path, header, frame[None], np.zeros(0, int)) as writer:
        for _ in range(40):
            writer.append(StepRecord(0, frame, 0.0, False, False, False, "real", "noop"))
    return [Episode.open(path)]


class Counter:
    """Keeps what it is shown."""

    def __init__(self):
        self.shown = []

    def add(self, frames):
        self.shown.append(frames.copy())


def run(episodes, p_terminated=0.0, **settings):
    playable = make_playable(SHAPE, p_terminated=p_terminated)
    watcher = Counter()
    config = FreeRunConfig(steps=12, starts=5, **settings)
    features = run_free(playable, episodes, config, None, watcher)
    return features, np.stack(watcher.shown, axis=1), playable


def test_all_frames_are_shown_and_told(episodes):
    features, shown, playable = run(episodes)
    assert shown.shape == (5, 12, *SHAPE)
    np.testing.assert_allclose(features[..., 0], shown[..., 0].mean(axis=(2, 3)), rtol=1e-5)
    # The count of steps goes on from the 8 real frames.
    assert shown[0, :, 0, 0, 1].tolist() == list(range(8, 20))
    assert playable.engine.batches["start"] == [5]


def test_runs_are_repeatable_and_differ_from_each_other(episodes):
    one, again, other = (run(episodes, seed=seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])


def test_where_a_game_ends_another_one_begins(episodes):
    features, shown, playable = run(episodes, p_terminated=0.3)
    ended = features[..., ENDS] > 0
    assert ended.sum() > 5
    counts = shown[:, :, 0, 0, 1]
    begun = np.zeros_like(ended)
    begun[:, 1:] = ended[:, :-1]
    # A start of the fake world has 3 frames: its first step is the third.
    assert (counts[begun] == 3).all()
    assert (counts[~begun][1:] > 3).all()
    # What moved is told from the start's newest frame on, not from the end of the game before.
    newest = playable.start_frames[:, -1, 0, 0, 0].astype(float)
    moved = np.abs(shown[begun][:, None] - newest[:, None, None, None]).mean(axis=(2, 3, 4))
    told = features[begun][:, MOTION]
    np.testing.assert_allclose(np.abs(moved - told[:, None]).min(axis=1), 0, atol=1e-3)
    assert len(playable.engine.batches["start"]) == 1 + ended[:, :].any(axis=0).sum()
