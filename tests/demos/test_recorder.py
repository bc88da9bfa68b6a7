"""Recorded play: what a file holds, where it goes on from, and that it replays bit for bit."""

import gc
import re
import signal
import subprocess
import sys
import textwrap
import weakref
from dataclasses import replace
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image
from sessions import bounce_playable, make_session, play

from worldflow.dataset import ClipSampler, open_dataset
from worldflow.demos import recorder as recorder_module
from worldflow.demos.reality import make_reality
from worldflow.demos.recorder import Recorder
from worldflow.demos.replay import difference_of, regenerate
from worldflow.episode import Episode, EpisodeWriter, StepRecord
from worldflow.errors import InputError


def episodes(folder):
    return [Episode.open(path) for path in sorted(folder.glob("*.episode"))]


def replays(episode):
    """Whether a fresh engine and a fresh game give all of it again."""
    reality = make_reality("bounce", {"size": 64}, 3) if "real" in episode.origin() else None
    outcomes = list(regenerate(episode, bounce_playable(), reality))
    assert len(outcomes) == len(episode)
    return not any(difference_of(episode, step, told) for step, told in enumerate(outcomes))


def eventful(session):
    """Reality, dream, another temperature, a takeover, a rewind, back to reality."""
    session.toggle_recording()
    play(session, 7)
    session.switch("dream")
    play(session, 6)
    session.temperature = 0.3
    play(session, 3)
    session.cast.hand_over(0)
    play(session, 5)
    session.rewind(4)
    play(session, 9)
    session.rewind(2, same_luck=True)
    play(session, 4)
    session.switch("real")
    play(session, 6)
    session.close()


def test_play_replays_bit_for_bit_through_all_that_can_happen(tmp_path):
    eventful(make_session(tmp_path, source="real"))
    recorded = episodes(tmp_path)
    assert [len(episode) for episode in recorded] == [21, 9, 4, 6]
    assert all(replays(episode) for episode in recorded)
    assert recorded[0].origin() == ["real"] * 7 + ["dream"] * 14
    assert recorded[0].controller() == ["human"] * 16 + ["scripted"] * 5
    assert set(recorded[0].steps().rows["temperature"]) == {1.0, 0.3}


def test_a_branch_goes_on_from_the_frame_of_its_parent_that_it_names(tmp_path):
    eventful(make_session(tmp_path, source="real"))
    recorded = {episode.path.name: episode for episode in episodes(tmp_path)}
    parents = [(episode.header.parent, episode.header.parent_step) for episode in recorded.values()]
    names = list(recorded)
    # The last goes on from where the real game was left, in the first.
    assert parents == [(None, None), (names[0], 17), (names[1], 7), (names[0], 7)]
    for episode in list(recorded.values())[1:]:
        parent = recorded[episode.header.parent]
        step = episode.header.parent_step
        assert np.array_equal(episode.frames(0, 1), parent.frames(step, step + 1))


@pytest.mark.parametrize(("source", "steps"), [("real", 12), ("dream", 60), ("split", 60)])
def test_a_recording_may_begin_in_the_middle(tmp_path, source, steps):
    session = make_session(tmp_path, source=source)
    undisturbed = play(make_session(tmp_path / "other", source=source), steps + 9)
    before = play(session, steps)
    session.toggle_recording()
    after = play(session, 9, first=steps)
    session.close()
    (episode,) = episodes(tmp_path)
    assert replays(episode)
    assert np.array_equal(episode.frames(1), np.stack(after))
    assert np.array_equal(episode.start_frames[1:], np.stack(before)[-39:][-steps:])
    if source == "real":
        assert np.array_equal(np.stack(before + after), np.stack(undisturbed))


def test_each_game_is_an_episode_of_its_own(tmp_path):
    session = make_session(tmp_path)
    session.toggle_recording()
    play(session, 5)
    session.restart()
    play(session, 3)
    session.close()
    recorded = episodes(tmp_path)
    assert [len(episode) for episode in recorded] == [5, 3]
    assert [episode.header.seed for episode in recorded] == [3, 4]
    assert all(map(replays, recorded))


def test_the_way_back_keeps_no_encoder_of_recordings_that_have_ended(tmp_path, monkeypatch):
    films = []

    class Watched(recorder_module.Mp4Writer):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            films.append(weakref.ref(self))

    monkeypatch.setattr(recorder_module, "Mp4Writer", Watched)
    session = make_session(tmp_path)
    session.recorder = Recorder(tmp_path)
    session.toggle_recording()
    play(session, 3)
    session.restart()
    play(session, 3)
    session.toggle_recording()
    gc.collect()
    assert [film() for film in films] == [None, None]
    session.rewind(4)  # their marks are still there
    session.close()


def test_where_nothing_was_played_there_is_no_file(tmp_path):
    session = make_session(tmp_path / "new")
    session.toggle_recording()
    session.rewind(5)
    session.restart()
    session.toggle_recording()
    session.close()
    assert not (tmp_path / "new").exists()


def test_a_branch_of_a_recording_without_steps_has_the_parent_of_that(tmp_path):
    session = make_session(tmp_path)
    session.toggle_recording()
    play(session, 8)
    session.rewind(3)
    session.rewind(0)
    play(session, 2)
    session.close()
    first, second = episodes(tmp_path)
    assert (second.header.parent, second.header.parent_step) == (first.path.name, 5)


def test_what_is_played_between_two_recordings_is_in_neither(tmp_path):
    session = make_session(tmp_path)
    for _ in range(2):
        session.toggle_recording()
        play(session, 4)
        session.toggle_recording()
        play(session, 4)
    session.rewind(2)
    session.toggle_recording()
    play(session, 1)
    session.close()
    recorded = episodes(tmp_path)
    assert [len(episode) for episode in recorded] == [4, 4, 1]
    assert [episode.header.parent for episode in recorded] == [None, None, None]


def test_what_was_played_beside_a_dream_has_no_parent_on_tape(tmp_path):
    session = make_session(tmp_path, source="real")
    session.toggle_recording()
    play(session, 4)
    session.switch("split")
    play(session, 3)
    session.switch("real")
    play(session, 2)
    session.close()
    first, second = episodes(tmp_path)
    assert first.origin() == ["real"] * 4 + ["dream"] * 3
    assert (second.header.parent, len(second.header.game_actions)) == (None, 7)
    assert replays(second)


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "fake-0001.mp4").write_bytes(b"dear to me")
    eventful(make_session(tmp_path, source="real"))
    eventful(make_session(tmp_path, source="real"))
    assert len(episodes(tmp_path)) == 8
    assert (tmp_path / "fake-0001.mp4").read_bytes() == b"dear to me"


def test_recordings_are_trained_on_as_they_are(tmp_path):
    eventful(make_session(tmp_path, source="real"))
    dataset = open_dataset(tmp_path, strict=True)
    assert dataset.steps == 40
    clips = ClipSampler(dataset, batch=4, horizon=5, seed=0).clips(0)
    assert clips.frames.shape == (4, 6, 64, 64, 3)


def test_films_beside_the_episode(tmp_path):
    session = make_session(tmp_path)
    session.recorder = Recorder(tmp_path, ("mp4", "gif", "webp"))
    session.toggle_recording()
    play(session, 12)
    session.close()
    with av.open(str(tmp_path / "fake-0001.mp4")) as film:
        shown = sum(1 for _ in film.decode(video=0))
    assert shown == 13
    for kind in ("gif", "webp"):
        with Image.open(tmp_path / f"fake-0001.{kind}") as picture:
            assert picture.n_frames == 13


def test_an_unknown_film_and_a_folder_that_is_a_file_are_bad_input(tmp_path):
    with pytest.raises(InputError, match="films=avi"):
        Recorder(tmp_path, ("avi",))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        Recorder(tmp_path / "file")


def test_play_goes_on_when_the_disk_fails(tmp_path):
    session = make_session(tmp_path)
    session.toggle_recording()
    play(session, 3)

    def full(*_):
        raise OSError(28, "No space left on device")

    session.recorder.tape._writer._write = full
    play(session, 10)
    assert "No space left" in str(session.failure)
    assert session.recorder.tape is None
    assert session.figures.step == 13


def test_slow_play_reaches_the_disk_as_fast_as_fast_play(tmp_path, monkeypatch):
    """A block holds five steps: at a step every two seconds none may wait for it to fill."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(recorder_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    session = make_session(tmp_path)
    session.toggle_recording()
    for step in range(3):
        clock.now += 2.0
        play(session, 1, first=step)
        assert len(episodes(tmp_path)[0]) == step + 1


def test_at_rest_nothing_is_pending(tmp_path):
    session = make_session(tmp_path)
    session.toggle_recording()
    session.step(1)  # not even appraised
    session.rest()
    assert len(episodes(tmp_path)[0]) == 1


def test_killed_it_has_lost_a_second_at_most(tmp_path):
    """Frame rate 5: of 33 steps the newest 5 may be missing, in the episode and in the film."""
    code = f"""
        import sys, time
        sys.path[:0] = {["tests", *sys.path]!r}
        from sessions import make_session, play
        from worldflow.demos.recorder import Recorder
        from pathlib import Path
        session = make_session(Path())
        session.recorder = Recorder(Path({str(tmp_path)!r}))
        session.toggle_recording()
        play(session, 33)
        print("ready", flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
    (episode,) = episodes(tmp_path)
    assert not episode.complete
    assert len(episode) >= 28
    assert replays(episode)
    with av.open(str(tmp_path / "fake-0001.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) >= 28


def copied(episode, path, **change):
    """A copy with step 6 changed."""
    rows = episode.steps().rows
    frames = episode.frames()
    with EpisodeWriter(path, episode.header, episode.start_frames, episode.start_actions) as writer:
        for step, row in enumerate(rows):
            record = StepRecord(
                action=int(row["action"]),
                frame=frames[step + 1],
                reward=float(row["reward"]),
                terminated=False,
                truncated=False,
                life_lost=False,
                origin="dream",
                controller="human",
                noise_seed=int(row["noise_seed"]),
                noise_row=int(row["noise_row"]),
                noise_counter=int(row["noise_counter"]),
                temperature=float(row["temperature"]),
            )
            writer.append(replace(record, **change) if step == 6 else record)
    return Episode.open(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"reward": 7.0}, "reward is .*, was 7.0"),
        ({"frame": np.zeros((64, 64, 3), np.uint8)}, "4096 pixels of its frame"),
        ({"noise_counter": 99}, "pixels of its frame"),
        ({"temperature": 0.5}, "pixels of its frame"),
    ],
)
def test_a_replay_tells_the_first_step_that_differs(tmp_path, change, told):
    session = make_session(tmp_path)
    session.toggle_recording()
    play(session, 10)
    session.close()
    altered = copied(episodes(tmp_path)[0], tmp_path / "altered.episode", **change)
    differences = [
        difference_of(altered, step, outcome)
        for step, outcome in enumerate(regenerate(altered, bounce_playable(), None))
    ]
    assert not any(differences[:6])
    assert re.search(told, differences[6])
