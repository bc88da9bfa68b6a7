"""Peers: any next-frame model behind the adapter, judged like a world."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from worldflow.dataset import open_dataset
from worldflow.episode import EpisodeWriter, Header, StepRecord
from worldflow.errors import InputError
from worldflow.figures import METRICS
from worldflow.peers import PeerEngine, adapt, evaluate_peer

ROOT = Path(__file__).parents[1]
SIZE, STEPS = 16, 120
QUICK = {"clips": 4, "samples": 1, "horizon": 8, "one_step": 64}


def picture(column):
    frame = np.full((SIZE, SIZE, 3), 40, np.uint8)
    frame[:, column % SIZE] = 220
    return frame


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A bar that the actions move: 0 stays, 1 right, 2 left."""
    folder, random = tmp_path_factory.mktemp("bars"), np.random.default_rng(0)
    header = Header("bars", {}, 15, ("stay", "right", "left"), {"": 0}, seed=0)
    column = 0
    with EpisodeWriter(folder / "0.episode", header, picture(0)[None], np.zeros(0, int)) as writer:
        for _ in range(STEPS):
            action = int(random.integers(3))
            column += (0, 1, -1)[action]
            frame = picture(column)
            writer.append(StepRecord(action, frame, 1.0, False, False, False, "real", "random"))
    return folder


class Mover:
    """Knows the rule: moves the newest frame as the newest action says."""

    name, history = "mover", 3

    def next_frame(self, frames, actions):
        assert frames.shape[1] == actions.shape[1] == self.history
        shifts = [(0, 1, -1)[action] for action in actions[:, -1]]
        return np.stack(
            [np.roll(frame[-1], s, axis=1) for frame, s in zip(frames, shifts, strict=True)]
        )


class Frozen(Mover):
    name, history = "frozen", 1

    def next_frame(self, frames, actions):
        return frames[:, -1]


def test_who_knows_the_rule_gets_full_marks(data, tmp_path):
    mover = evaluate_peer(Mover(), data, tmp_path / "mover", **QUICK)
    frozen = evaluate_peer(Frozen(), data, tmp_path / "frozen", **QUICK)
    assert mover["psnr_8"] == pytest.approx(66.02, abs=0.01)
    assert frozen["psnr_8"] == pytest.approx(frozen["copy_psnr_8"])
    assert frozen["psnr_8"] < 30
    assert mover["copy_psnr_8"] == frozen["copy_psnr_8"]  # the same clips


def test_what_a_peer_does_not_tell_is_null(data, tmp_path):
    evaluate_peer(Mover(), data, tmp_path / "out", **QUICK)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert tuple(metrics) == METRICS
    for key in ("nll_excess_nats", "nll_gap_shuffled", "reward_f1", "termination_f1"):
        assert metrics[key] is None
    for key in ("parameters", "gflop_per_frame", "world_hash"):
        assert metrics[key] is None
    assert "# mover" in (tmp_path / "out" / "report.md").read_text()


class Recorder:
    """Shows black, and keeps what it was given."""

    name = "recorder"

    def __init__(self, history):
        self.history, self.given = history, []

    def next_frame(self, frames, actions):
        self.given.append((frames[0, :, 0, 0, 0].tolist(), actions[0].tolist()))
        return np.zeros_like(frames[:, -1])


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (1, [([12], [7]), ([50], [8])]),
        (2, [([11, 12], [2, 7]), ([12, 50], [7, 8])]),
        (4, [([10, 10, 11, 12], [9, 1, 2, 7]), ([10, 11, 12, 50], [1, 2, 7, 8])]),
    ],
)
def test_frames_and_actions_belong_together(history, expected):
    """Frames 10, 11, 12 with actions 1, 2 between them; of 9 actions, so that 9 is none."""
    recorder = Recorder(history)
    engine = PeerEngine(recorder, (4, 4, 3), action_count=9)
    frames = np.broadcast_to(
        np.array([10, 11, 12], np.uint8)[None, :, None, None, None], (1, 3, 4, 4, 3)
    )
    one = np.ones(1, np.float32)
    state = engine.start(frames, np.array([[1, 2]]))
    state = engine.step(state, np.array([7]), one[None], one).state
    state = engine.observe(state, np.full((1, 4, 4, 3), 50, np.uint8))
    engine.step(state, np.array([8]), one[None], one)
    assert recorder.given == expected


def test_a_peer_that_returns_something_else_is_told_so(data):
    class Grey(Mover):
        name = "grey"

        def next_frame(self, frames, actions):
            return frames[:, -1, :, :, 0]

    engine = adapt(Grey(), open_dataset(data)).engine
    state = engine.start(np.zeros((2, 1, SIZE, SIZE, 3), np.uint8), np.zeros((2, 0), np.int64))
    one = np.ones(2, np.float32)
    with pytest.raises(InputError, match=r"grey returned frames \(2, 16, 16\)"):
        engine.step(state, np.array([0, 1]), one[:, None], one)


def test_bad_settings_are_named(data, tmp_path):
    with pytest.raises(InputError, match="clips=0"):
        evaluate_peer(Mover(), data, tmp_path / "out", clips=0)
    with pytest.raises(InputError, match="history=0 of recorder"):
        evaluate_peer(Recorder(0), data, tmp_path / "out")


def test_the_example_of_the_documentation_runs(data, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "evaluation.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "held-out").symlink_to(data)
    exec(compile(example, "docs/evaluation.md", "exec"), {})
    assert (tmp_path / "report-linear" / "report.md").exists()
