"""The verb `evaluate`, on engines whose right figures are known."""

import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from fake_engine import make_playable
from PIL import Image

from worldflow.card import Playable
from worldflow.dataset import open_dataset
from worldflow.engine import Step
from worldflow.envs.bounce import BounceGame
from worldflow.episode import EpisodeWriter, Header, StepRecord
from worldflow.errors import InputError
from worldflow.evaluate import EvaluateConfig, evaluate, judge
from worldflow.figures import METRICS
from worldflow.one_step import OneStepConfig, draw_stretches, judge_steps

PERFECT = 10 * np.log10(4e6)  # dB, the cap of PSNR
SIZE = 16
LENGTHS = (90, 75, 140)  # steps of the recorded episodes

# What docs/evaluation.md promises.
PROMISED = re.findall(
    r"\w+",
    """
    psnr_1 psnr_8 psnr_16 psnr_32 psnr_64 copy_psnr_1 copy_psnr_8 copy_psnr_16 copy_psnr_32
    copy_psnr_64 ssim_1 ssim_8 ssim_16 ssim_32 ssim_64 psnr_1_deterministic nll_excess_nats
    nll_excess_nats_per_dim nll_excess_event nll_excess_ordinary nll_gap_shuffled
    reward_precision reward_recall reward_f1 termination_precision termination_recall
    termination_f1 object_recall_1_8 object_recall_9_32 object_recall_33_64 object_precision_1_8
    object_precision_9_32 object_precision_33_64 object_brightness_1_8 object_brightness_9_32
    object_brightness_33_64 mode_error_max mode_error_by_chance sharp_fraction
    sharp_one_cell sharp_one_block
    sharp_several_blocks lost_fraction doubled_fraction base_mode_error_max base_sharp_fraction
    memory_recall action_fidelity survival_2000 survival_share survival_real survival_real_runs
    gflop_per_frame parameters frames episodes world_hash
    """,
)


@pytest.fixture(autouse=True)
def quick_classifier(monkeypatch):
    """What the classifier of actions learns is tested in test_fidelity.py."""
    monkeypatch.setattr("worldflow.inverse_dynamics.UPDATES", 1)


def picture(column, number):
    """A bar, and the frame's own number, so that no two frames of the data are alike."""
    frame = np.full((SIZE, SIZE, 3), 40, np.uint8)
    frame[:, column % SIZE] = 220
    frame[0, 0] = (number % 200, number // 200, 0)
    return frame


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A folder of three episodes of random play: each tenth step pays 3, the last one ends."""
    folder = tmp_path_factory.mktemp("episodes")
    header = Header("bars", {"sticky": 0.0}, 15, ("stay", "right", "left"), {"": 0}, seed=0)
    random, number = np.random.default_rng(0), 0
    for index, length in enumerate(LENGTHS):
        column = 0
        start = picture(column, number)[None]
        with EpisodeWriter(folder / f"{index}.episode", header, start, np.zeros(0, int)) as writer:
            for step in range(length):
                action = int(random.integers(3))
                column, number = column + (0, 1, -1)[action], number + 1
                writer.append(
                    StepRecord(
                        action=action,
                        frame=picture(column, number),
                        reward=3.0 if step % 10 == 9 else 0.0,
                        terminated=step == length - 1,
                        truncated=False,
                        life_lost=False,
                        origin="real",
                        controller="random",
                    )
                )
        number += 1
    return folder


class ReplayEngine:
    """Knows the recording by heart: what follows its two newest frames under an action.

    Under another action it shows black. `drift`: after a frame of its own it shows the negative
    and pays nothing. `noise`: how many levels of its noise show. `deaf`: takes all actions for 0.
    """

    name, device, dtype, world_hash = "replay", "cpu", "float32", "0123"

    def __init__(self, dataset, drift=False, noise=0.0, deaf=False):
        self.frame_shape = dataset.frame_shape
        self.action_count = len(dataset.header.action_names)
        self.noise_size = int(np.prod(self.frame_shape))
        self.drift, self.noise, self.deaf = drift, noise, deaf
        self.follows = {}
        for episode in dataset.episodes:
            frames, rewards, ends = episode.frames(), episode.rewards(), episode.terminated()
            for step, action in enumerate(episode.actions()):
                key = (frames[max(0, step - 1)].tobytes(), frames[step].tobytes(), int(action))
                self.follows[key] = (frames[step + 1], rewards[step], ends[step])

    def look_up(self, state, action):
        black = (np.zeros(self.frame_shape, np.uint8), 0.0, False)
        return [
            self.follows.get((frames[0].tobytes(), frames[1].tobytes(), int(act)), black)
            for frames, act in zip(state["frames"], action, strict=True)
        ]

    def start(self, frames, actions):
        for step in range(1, actions.shape[1]):  # frames and actions belong together
            told = self.look_up({"frames": frames[:, step - 1 : step + 1]}, actions[:, step])
            assert np.array_equal(np.stack([known[0] for known in told]), frames[:, step + 1])
        newest = frames[:, [max(0, frames.shape[1] - 2), frames.shape[1] - 1]]
        return {"frames": newest.copy(), "unseen": np.zeros(len(frames), int)}

    def step(self, state, action, noise, temperature):
        assert np.all(temperature == 1)
        action = 0 * action if self.deaf else action
        frames, rewards, ends = map(np.array, zip(*self.look_up(state, action), strict=True))
        after = {
            "frames": np.stack([state["frames"][:, 1], frames], axis=1),
            "unseen": state["unseen"] + 1,
        }
        shown = frames.astype(np.float32) + self.noise * noise.reshape(frames.shape)
        shown = shown.clip(0, 255).astype(np.uint8)
        if self.drift:
            wrong = state["unseen"] > 0
            shown[wrong], rewards[wrong] = 255 - shown[wrong], 0.0
        p = np.where(ends, 0.9, 0.1).astype(np.float32)
        return Step(shown, rewards.astype(np.float32), p, p > 0.5, after)

    def observe(self, state, frame):
        frames = np.stack([state["frames"][:, 0], frame], axis=1)
        return {"frames": frames, "unseen": np.zeros(len(frame), int)}

    def score(self, state, action, frame, noise):
        """9 nats for a reward, 2 for another step of the recording, 50 for what is not in it."""
        told = self.look_up(state, 0 * action if self.deaf else action)
        right = [np.array_equal(known[0], shown) for known, shown in zip(told, frame, strict=True)]
        paid = [known[1] != 0 for known in told]
        return np.where(right, np.where(paid, 9.0, 2.0), 50.0).astype(np.float32)


def config_for(folder, **changes):
    return replace(EvaluateConfig("x", str(folder), out=folder / "none", clips=12), **changes)


def figures(folder, changes=None, **engine):
    dataset = open_dataset(folder)
    card = make_playable().card
    start = dataset.episodes[0].frames(0, 1)[None]
    playable = Playable(card, ReplayEngine(dataset, **engine), start, np.zeros((1, 0), np.int64))
    return judge(playable, dataset, config_for(folder, **(changes or {}))).metrics


def test_who_knows_the_recording_gets_full_marks(recording):
    metrics = figures(recording)
    for ahead in (1, 8, 16, 32, 64):
        assert metrics[f"psnr_{ahead}"] == pytest.approx(PERFECT)
        assert metrics[f"ssim_{ahead}"] == pytest.approx(1.0)
        assert metrics[f"copy_psnr_{ahead}"] < 30
    for event in ("reward", "termination"):
        for figure in ("precision", "recall", "f1"):
            assert metrics[f"{event}_{figure}"] == 1.0
    assert metrics["judged_steps"] == metrics["frames"] == sum(LENGTHS)
    assert metrics["termination_steps"] == metrics["episodes"] == len(LENGTHS)
    assert metrics["reward_steps"] == sum(length // 10 for length in LENGTHS)
    assert metrics["world_hash"] == "0123"


def test_all_promised_keys_are_there_and_undefined_ones_are_null(recording):
    metrics = figures(recording, {"horizon": 10, "one_step": 64})
    assert set(PROMISED) <= set(METRICS) == set(metrics)
    assert metrics["psnr_8"] is not None
    assert metrics["psnr_16"] is None
    assert metrics["sharp_fraction"] is None  # nobody knows the truth of this game
    assert metrics["parameters"] is None  # the card does not tell


def test_likelihood_is_split_by_events_and_compared_with_other_actions(recording):
    metrics = figures(recording)
    # Each episode's last step is an event, too; where it pays nothing it costs 2 nats.
    rewards, unpaid_ends = sum(length // 10 for length in LENGTHS), 1
    assert metrics["nll_excess_ordinary"] == pytest.approx(2.0)
    expected = (9 * rewards + 2 * unpaid_ends) / (rewards + unpaid_ends)
    assert metrics["nll_excess_event"] == pytest.approx(expected)
    assert metrics["event_steps"] == rewards + unpaid_ends
    per_dim = metrics["nll_excess_nats"] / (SIZE * SIZE * 3)
    assert metrics["nll_excess_nats_per_dim"] == pytest.approx(per_dim)
    # Two thirds of the shuffled actions are wrong, and cost 48 nats or 41.
    assert metrics["nll_gap_shuffled"] == pytest.approx(2 / 3 * 47, rel=0.15)


def test_the_recorded_actions_are_what_is_fed(recording):
    metrics = figures(recording, deaf=True)
    assert metrics["psnr_1"] < PERFECT - 20
    assert metrics["reward_recall"] < 0.7
    assert metrics["nll_gap_shuffled"] == 0.0


def test_rollouts_see_no_real_frame_but_single_steps_always_do(recording):
    metrics = figures(recording, drift=True)
    assert metrics["psnr_1"] == pytest.approx(PERFECT)
    assert metrics["psnr_8"] < 10
    assert metrics["reward_f1"] == metrics["termination_f1"] == 1.0


def test_figures_are_repeatable_and_do_not_depend_on_the_batch(recording):
    settings = {"samples": 3, "one_step": 100, "horizon": 32}
    first = figures(recording, settings, noise=8.0)
    again = figures(recording, settings | {"batch": 7}, noise=8.0)
    other = figures(recording, settings | {"seed": 1}, noise=8.0)
    del first["nll_gap_shuffled"], again["nll_gap_shuffled"]  # actions change places in a batch
    assert first == pytest.approx(again, nan_ok=True)
    assert first["psnr_8"] != other["psnr_8"]


def test_samples_have_noise_of_their_own(recording):
    one, four = (figures(recording, {"samples": n}, noise=8.0) for n in (1, 4))
    assert one["psnr_1"] != four["psnr_1"]
    assert one["psnr_1"] == pytest.approx(four["psnr_1"], abs=1.0)


def test_stretches_hold_every_step_once_and_stop_at_the_budget(recording):
    episodes = open_dataset(recording).episodes
    whole = draw_stretches(episodes, OneStepConfig(steps=10**6))
    steps = {
        (stretch.episode.path, stretch.start + index)
        for stretch in whole
        for index in range(stretch.length)
    }
    assert len(steps) == sum(stretch.length for stretch in whole) == sum(LENGTHS)
    assert {stretch.context for stretch in whole} == {1, 8}
    some = draw_stretches(episodes, OneStepConfig(steps=100))
    assert 100 <= sum(stretch.length for stretch in some) < 164


def test_bounce_is_held_against_its_truth(tmp_path):
    game, random = BounceGame(), np.random.default_rng(0)
    frame, _ = game.reset(seed=3)
    card = game.card
    header = Header(card.id, card.settings, card.frame_rate, card.action_names, card.key_map, 3)
    with EpisodeWriter(tmp_path / "0.episode", header, frame[None], np.zeros(0, int)) as writer:
        for _ in range(60):
            # Under the ball, as far as random play can be kept alive.
            state = game.state()
            lag = state.ball_x + 1 - (state.paddle_x + 6)
            action = int(random.integers(3)) if abs(lag) < 3 else (2 if lag > 0 else 1)
            truth = game.truth()
            frame, reward, terminated, truncated, info = game.step(action)
            writer.append(
                StepRecord(
                    action,
                    frame,
                    reward,
                    terminated,
                    truncated,
                    info["life_lost"],
                    "real",
                    "keeper",
                    truth=truth,
                )
            )
            if terminated:
                break
    metrics = figures(tmp_path, {"horizon": 16, "clips": 2})
    assert metrics["psnr_1_deterministic"] == pytest.approx(PERFECT)
    assert metrics["sharp_fraction"] == 1.0
    assert metrics["branching_steps"] >= 3
    assert metrics["mode_error_max"] is None  # too few steps for a frequency
    assert metrics["lost_fraction"] == metrics["doubled_fraction"] == 0.0
    assert metrics["object_recall_1_8"] == metrics["object_precision_1_8"] == 1.0
    assert metrics["object_recall_9_32"] is None  # the horizon is shorter
    assert metrics["base_sharp_fraction"] is None  # this engine hides its model
    noisy = figures(tmp_path, {"horizon": 16, "clips": 2}, noise=30.0)
    assert noisy["psnr_1_deterministic"] < 30
    assert noisy["sharp_fraction"] == 0.0


def test_each_draw_of_a_step_has_luck_of_its_own(recording):
    engine = make_playable((SIZE, SIZE, 3)).engine
    lucks = []

    class Judge:
        def see(self, state, action, luck, drawn, hidden):
            rows, ones = np.arange(len(action)), np.ones(len(action), np.float32)
            again = engine.step(state, action, luck(rows, 0), ones).frame
            np.testing.assert_array_equal(again, drawn)
            some = rows[::2]
            np.testing.assert_array_equal(luck(rows, 1)[::2], luck(some, 1))
            lucks.append(np.concatenate([luck(rows, draw)[:, :4] for draw in range(3)]))

    config = OneStepConfig(steps=200, context=4)
    stretches = draw_stretches(open_dataset(recording, strict=False).episodes, config)
    judge_steps(engine, stretches, config, Judge())
    told = np.concatenate(lucks)
    assert len(np.unique(told, axis=0)) == len(told) >= 3 * 200


def loads(playable):
    """A stand-in for the module that loads worlds."""
    return SimpleNamespace(load_playable=lambda what, **settings: playable)


def test_the_verb_leaves_a_report_and_a_table(recording, tmp_path, monkeypatch, capsys):
    playable = make_playable((SIZE, SIZE, 3))
    monkeypatch.setitem(sys.modules, "worldflow.playable", loads(playable))
    out = tmp_path / "new" / "report"
    evaluate(config_for(recording, out=out, clips=2, samples=2, one_step=64))
    metrics = json.loads((out / "metrics.json").read_text())
    assert tuple(metrics) == METRICS
    assert metrics["copy_psnr_64"] < PERFECT
    page = (out / "report.md").read_text()
    assert f"| PSNR, dB | {metrics['psnr_1']:.4g} |" in page
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert pictures == ["psnr.png", "rollouts.png"]
    assert {path.name for path in out.iterdir()} == {"metrics.json", "report.md", *pictures}
    for name in pictures:
        with Image.open(out / name) as image:
            image.load()
            assert min(image.size) > 100
    shown = capsys.readouterr().out
    assert f"{metrics['psnr_1']:.2f}" in shown
    assert str(out) in shown
    with pytest.raises(InputError, match="not empty"):
        evaluate(config_for(recording, out=out))


def test_survival_is_run_when_asked_for(recording, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "worldflow.playable", loads(make_playable((SIZE, SIZE, 3))))
    settings = {"clips": 2, "samples": 1, "one_step": 64, "survival": 140, "starts": 2}
    evaluate(config_for(recording, out=tmp_path / "out", **settings))
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["survival_share"] == 0.0  # the fake world shows noise
    assert metrics["survival_steps"] == 140
    assert metrics["survival_2000"] is None
    page = (tmp_path / "out" / "report.md").read_text()
    for name in ("survival.png", "survival_runs.png", "survival.mp4"):
        assert f"({name})" in page
        assert (tmp_path / "out" / name).stat().st_size > 1000


@pytest.mark.parametrize(
    ("shape", "actions", "message"),
    [
        ((64, 64, 3), 3, "16x16x3 .* 64x64x3"),
        ((SIZE, SIZE, 3), 4, r"3 actions .* 4"),
    ],
)
def test_a_world_of_another_size_is_refused(recording, shape, actions, message):
    playable = make_playable(shape, action_count=actions)
    with pytest.raises(InputError, match=message):
        judge(playable, open_dataset(recording), config_for(recording))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clips": 0}, "clips=0"),
        ({"batch": -1}, "batch=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"survival": -5}, "survival=-5"),
        ({"starts": 0}, "starts=0"),
        ({"holdout": 0.0}, "holdout=0.0"),
        ({"data": "/nowhere"}, "/nowhere"),
    ],
)
def test_bad_values_are_named(recording, changes, message):
    with pytest.raises(InputError, match=message):
        evaluate(config_for(recording, **changes))


def test_too_long_a_horizon_names_one_that_fits(recording):
    with pytest.raises(InputError, match="horizon=133 fits"):
        figures(recording, {"horizon": 200})
    assert figures(recording, {"horizon": 133})["clips"] == 1


def test_holdout_judges_what_training_keeps_apart(recording):
    kept_apart = open_dataset(recording).split(0.4)[1]
    metrics = figures(recording, {"holdout": 0.4})
    assert metrics["episodes"] == len(kept_apart.episodes) < len(LENGTHS)
    assert metrics["frames"] == kept_apart.steps
