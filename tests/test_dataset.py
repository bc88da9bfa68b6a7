"""Data sets: what is opened, what is refused, and which clips are drawn."""

import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from recorded import HEADER, game_frame, game_step, record

from worldflow.dataset import Clips, ClipSampler, Dataset, open_dataset
from worldflow.episode import DamagedEpisode, Episode, EpisodeWriter, Header
from worldflow.errors import InputError

LENGTHS = (31, 4, 60, 22)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for number, steps in enumerate(LENGTHS):
        # The third one was stopped, so that it has no termination.
        record(folder / f"worker{number % 2}" / f"{number}.episode", steps, ends=number != 2)
    return folder


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    record(tmp_path / "good.episode", 9)
    record(tmp_path / "bad.episode", 9)
    data = bytearray((tmp_path / "bad.episode").read_bytes())
    data[Episode.open(tmp_path / "bad.episode").index.offsets[1] + 50] ^= 1
    (tmp_path / "bad.episode").write_bytes(data)
    return tmp_path


def test_a_folder_a_file_or_several(folder: Path) -> None:
    dataset = open_dataset(folder)
    assert [len(episode) for episode in dataset.episodes] == [31, 60, 4, 22]  # sorted by path
    assert dataset.steps == sum(LENGTHS)
    assert dataset.header.source == "bounce"
    assert dataset.frame_shape == (16, 16, 3)
    one = open_dataset(str(folder / "worker0" / "0.episode"))
    assert one.steps == 31
    assert open_dataset([folder / "worker1", one.episodes[0].path, folder / "worker1"]).steps == 57


def test_reward_values_are_those_of_all(folder: Path, tmp_path: Path) -> None:
    dataset = open_dataset(folder)
    expected = {value for episode in dataset.episodes for value in episode.rewards().tolist()}
    assert dataset.reward_values == sorted(expected)
    for number in range(2):  # 50 values each, 100 together
        with EpisodeWriter(
            tmp_path / f"{number}.episode", HEADER, game_frame(0)[None], np.zeros(0, np.int64)
        ) as writer:
            for t in range(50):
                writer.append(game_step(t, reward=number * 50 + t))
    assert open_dataset(tmp_path).reward_values is None


def test_a_damaged_file_is_skipped_with_a_warning(damaged: Path) -> None:
    with pytest.warns(UserWarning, match=r"skipped .*bad\.episode: damaged, block 1 "):
        dataset = open_dataset(damaged)
    assert [episode.path.name for episode in dataset.episodes] == ["good.episode"]


def test_a_damaged_file_is_refused_if_strict(damaged: Path) -> None:
    with pytest.raises(DamagedEpisode, match=r"bad\.episode: damaged, block 1 "):
        open_dataset(damaged, strict=True)


def test_a_torn_file_is_no_damage(tmp_path: Path) -> None:
    whole = record(tmp_path / "a.episode", 23)
    data = whole.path.read_bytes()
    whole.path.write_bytes(data[: whole.index.offsets[-1] + 40])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_dataset(tmp_path, strict=True).steps == whole.index.ends[-2]


def test_nothing_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no episode with a step"):
        open_dataset(tmp_path)
    record(tmp_path / "a.episode", 0)
    with pytest.raises(InputError, match="worldflow collect"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("other", "size", "message"),
    [
        (replace(HEADER, source="ALE/Pong-v5"), 16, "mixed game: bounce in .*ALE/Pong-v5 in"),
        (replace(HEADER, action_names=("a", "b", "c", "d")), 16, "mixed actions"),
        (replace(HEADER, frame_rate=60), 16, "mixed frame rate: 5 in .*60 in"),
        (HEADER, 24, r"mixed frame size: \(16, 16, 3\) in .*\(24, 24, 3\) in"),
    ],
)
def test_episodes_that_do_not_fit_are_refused(
    tmp_path: Path, other: Header, size: int, message: str
) -> None:
    record(tmp_path / "a.episode", 5)
    record(tmp_path / "b.episode", 5, other, size=size)
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(tmp_path)
    assert "a.episode" in str(caught.value)
    assert "b.episode" in str(caught.value)


def names(dataset: Dataset) -> list[str]:
    return [episode.path.name for episode in dataset.episodes]


def test_a_split_keeps_its_sides_when_the_data_grows(tmp_path: Path) -> None:
    for number in range(30):
        record(tmp_path / f"{number:02}.episode", 1)
    train, held_out = open_dataset(tmp_path).split(0.3)
    assert sorted(names(train) + names(held_out)) == [f"{n:02}.episode" for n in range(30)]
    assert 3 <= len(held_out.episodes) <= 15
    for number in range(30, 40):
        record(tmp_path / f"{number:02}.episode", 1)
    more_train, more_held_out = open_dataset(tmp_path).split(0.3)
    assert set(names(train)) <= set(names(more_train))
    assert set(names(held_out)) <= set(names(more_held_out))


@pytest.mark.parametrize("holdout", [0.001, 0.999])
def test_a_split_leaves_each_side_one(tmp_path: Path, holdout: float) -> None:
    for number in range(2):
        record(tmp_path / f"{number}.episode", 1)
    train, held_out = open_dataset(tmp_path).split(holdout)
    assert len(train.episodes) == len(held_out.episodes) == 1
    train, held_out = open_dataset(tmp_path / "0.episode").split(holdout)
    assert (len(train.episodes), len(held_out.episodes)) == (1, 0)


@pytest.mark.parametrize("holdout", [0.0, 1.0])
def test_a_split_of_nothing_is_refused(folder: Path, holdout: float) -> None:
    with pytest.raises(InputError, match="holdout"):
        open_dataset(folder).split(holdout)


def same(a: Clips, b: Clips) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Clips))


def test_clips_depend_on_seed_and_step_alone(folder: Path) -> None:
    dataset = open_dataset(folder)
    first, second = (ClipSampler(dataset, 6, 8, seed=5) for _ in range(2))
    later = first.clips(7)
    first.clips(0)
    assert same(later, second.clips(7))
    assert same(later, first.clips(7))
    assert not same(later, first.clips(8))
    assert not same(later, ClipSampler(dataset, 6, 8, seed=6).clips(7))
    np.testing.assert_array_equal(first.clips(7, batch=9).frames[:6], later.frames)
    assert first.clips(7, batch=2, horizon=3).frames.shape == (2, 4, 16, 16, 3)


def test_a_clip_is_what_was_recorded(folder: Path) -> None:
    clips = ClipSampler(open_dataset(folder), 64, 8, seed=0).clips(0)
    assert clips.frames.dtype == torch.uint8
    assert clips.rewards.dtype == np.float32
    starts = set()
    for row in range(64):
        # All episodes show the same frames, so the first one tells where the clip begins.
        first = next(t for t in range(60) if (game_frame(t) == clips.frames[row, 0].numpy()).all())
        starts.add(first)
        for t in np.flatnonzero(clips.valid[row]):
            step = game_step(first + int(t))
            np.testing.assert_array_equal(clips.frames[row, t + 1], step.frame)
            assert clips.actions[row, t] == step.action
            assert clips.rewards[row, t] == np.float32(step.reward)
    assert 0 in starts
    assert len(starts) > 20


def test_a_short_episode_is_padded(folder: Path) -> None:
    short = open_dataset(folder / "worker1" / "1.episode")
    clips = ClipSampler(short, 3, 8, seed=0).clips(0)
    assert clips.valid.tolist() == [[True] * 4 + [False] * 4] * 3
    assert clips.terminated.tolist() == [[False] * 3 + [True] + [False] * 4] * 3
    for t in range(5, 9):
        np.testing.assert_array_equal(clips.frames[:, t], clips.frames[:, 4])
    assert not clips.actions[:, 4:].any()
    assert not clips.rewards[:, 4:].any()


def ends_terminated(clips: Clips) -> NDArray[np.bool_]:
    last = clips.valid.sum(1, keepdims=True) - 1
    return np.take_along_axis(clips.terminated, last, 1)


def test_terminations_are_drawn(folder: Path) -> None:
    dataset = open_dataset(folder)
    none = ClipSampler(dataset, 400, 5, seed=1, terminal_fraction=0.0).clips(0)
    half = ClipSampler(dataset, 400, 5, seed=1, terminal_fraction=0.5).clips(0)
    every = ClipSampler(dataset, 400, 5, seed=1, terminal_fraction=1.0).clips(0)
    by_chance = ends_terminated(none).mean()
    assert by_chance < 0.3
    assert abs(ends_terminated(half).mean() - (0.5 + 0.5 * by_chance)) < 0.1
    assert ends_terminated(every).all()
    # No termination to draw: the sampler still works.
    stopped = open_dataset(folder / "worker0" / "2.episode")
    assert not ClipSampler(stopped, 50, 5, seed=1).clips(0).terminated.any()


def test_single_steps_are_drawn_by_their_weight(folder: Path) -> None:
    dataset = open_dataset(folder)
    weights = np.zeros(dataset.steps, np.float32)
    last = dataset.steps - 1  # of the last episode
    weights[[2, last]] = 1, 3
    clips = ClipSampler(dataset, 1, 1, seed=0, past=3).weighted_steps(5, 400, weights)
    assert set(clips.index.ravel()) == {2, last}
    assert 0.65 < (clips.index == last).mean() < 0.85
    row = int((clips.index == 2).argmax())
    first = dataset.episodes[0]
    np.testing.assert_array_equal(clips.frames[row, 1:], first.frames(0, 4))
    np.testing.assert_array_equal(clips.frames[row, 0], first.frames(0, 1)[0])  # padded
    assert clips.actions[row, 1:].tolist() == first.steps(0, 3).rows["action"].tolist()
    assert clips.rewards[row, 0] == first.steps(2, 3).rows["reward"][0]


def test_clips_know_their_steps(folder: Path) -> None:
    dataset = open_dataset(folder)
    actions = np.concatenate([e.steps(0, len(e)).rows["action"] for e in dataset.episodes])
    clips = ClipSampler(dataset, 50, 6, seed=0, past=2).clips(0)
    assert ((clips.index >= 0) == clips.valid).all()
    np.testing.assert_array_equal(
        actions[clips.index[clips.valid]], clips.actions[:, 2:][clips.valid]
    )


def test_every_step_is_drawn_about_as_often(folder: Path) -> None:
    stopped = open_dataset(folder / "worker0" / "2.episode")  # 60 steps, no termination
    clips = ClipSampler(stopped, 3000, 6, seed=2).clips(0)
    first = [game_frame(t).tobytes() for t in range(61)]
    counts = np.zeros(60)
    for frame in clips.frames[:, 0].numpy():
        start = first.index(frame.tobytes())
        counts[start : start + 6] += 1
    share = counts / counts.mean()
    assert share.min() > 0.4  # the first and last steps too
    assert abs(share[6:-6] - 1).max() < 0.3


def test_a_clip_comes_with_its_past(folder: Path) -> None:
    """Recorded frames where there are any; else the first one again, and no action."""
    clips = ClipSampler(open_dataset(folder), 64, 8, seed=0, past=3).clips(0)
    assert clips.frames.shape[:2] == (64, 12)
    assert clips.actions.shape == (64, 11)
    assert clips.rewards.shape == clips.valid.shape == (64, 8)
    firsts = []
    for row in range(64):
        first = next(t for t in range(60) if (game_frame(t) == clips.frames[row, 3].numpy()).all())
        firsts.append(first)
        for back in range(1, 4):
            known = first >= back
            frame = game_frame(first - back if known else 0)
            np.testing.assert_array_equal(clips.frames[row, 3 - back], frame)
            action = game_step(first - back).action if known else len(HEADER.action_names)
            assert clips.actions[row, 3 - back] == action
        assert clips.actions[row, 3] == game_step(first).action
        assert clips.rewards[row, 0] == np.float32(game_step(first).reward)
    assert min(firsts) < 3 < max(firsts)


def test_some_clips_pretend_to_begin_an_episode(folder: Path) -> None:
    dataset = open_dataset(folder)
    clips = ClipSampler(dataset, 200, 4, seed=0, past=3, fresh=0.5).clips(0)
    plain = ClipSampler(dataset, 200, 4, seed=0, past=3).clips(0)
    none = len(HEADER.action_names)
    fresh = (clips.actions[:, :3] == none).all(axis=1)
    assert (plain.actions[:, :3] == none).all(axis=1).mean() < 0.2
    assert 0.4 < fresh.mean() < 0.7
    np.testing.assert_array_equal(clips.frames[:, 3:], plain.frames[:, 3:])
    np.testing.assert_array_equal(clips.frames[fresh, 0], clips.frames[fresh, 3])


def test_bad_sizes_are_refused(folder: Path) -> None:
    dataset = open_dataset(folder)
    for values in ({"batch": 0}, {"horizon": 0}, {"seed": -1}, {"terminal_fraction": 1.5}):
        with pytest.raises(InputError, match=next(iter(values))):
            ClipSampler(dataset, **{"batch": 2, "horizon": 3, "seed": 0, **values})  # type: ignore[arg-type]
    _, empty = open_dataset(folder / "worker0" / "0.episode").split(0.5)
    with pytest.raises(InputError, match="without episodes"):
        ClipSampler(empty, 2, 3, seed=0)


def test_frames_kept_decoded_give_the_same_clips(folder: Path) -> None:
    dataset = open_dataset(folder)
    kept = dataset.decoded_frames("cpu")
    assert kept.shape == (dataset.steps + len(dataset.episodes), 16, 16, 3)
    weights = np.arange(dataset.steps, dtype=np.float32)
    disk, memory = (
        ClipSampler(dataset, 40, 6, seed=3, past=3, fresh=0.2, frames=frames)
        for frames in (None, kept)
    )
    for step in range(4):
        assert same(disk.clips(step), memory.clips(step))
        assert same(
            disk.weighted_steps(step, 40, weights), memory.weighted_steps(step, 40, weights)
        )
