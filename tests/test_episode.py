"""Episodes: what is written is read, whatever happens to the writer or the file."""

import errno
import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import HEADER, game_frame, game_step, record

from worldflow.episode import DamagedEpisode, Episode, EpisodeWriter
from worldflow.errors import InputError, WorkError

STEPS = 23  # four blocks of a second and a running one; truth ends within a second
NO_ACTIONS = np.zeros(0, np.int64)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    record(tmp_path / "a.episode", STEPS)
    return tmp_path / "a.episode"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Few bytes, for tests that go through all of them."""
    record(tmp_path / "a.episode", 12, size=8)
    return tmp_path / "a.episode"


def test_every_field_comes_back(tmp_path: Path) -> None:
    header = replace(
        HEADER, world_hash="ab", engine="torch", dtype="float32", parent="b.episode", parent_step=7
    )
    start = np.stack([game_frame(200), game_frame(201), game_frame(0)])
    steps = [game_step(t, terminated=t == STEPS - 1) for t in range(STEPS)]
    with EpisodeWriter(tmp_path / "new" / "a.episode", header, start, np.array([2, 1])) as writer:
        for step in steps:
            writer.append(step)
    episode = Episode.open(tmp_path / "new" / "a.episode")

    assert episode.header == header
    assert episode.complete
    assert len(episode) == STEPS
    np.testing.assert_array_equal(episode.start_frames, start)
    np.testing.assert_array_equal(episode.start_actions, [2, 1])
    np.testing.assert_array_equal(
        episode.frames(), np.stack([start[-1], *(step.frame for step in steps)])
    )
    rows = episode.steps().rows
    for name in ("noise_seed", "noise_row", "noise_counter", "temperature"):
        assert rows[name].tolist() == [getattr(step, name) for step in steps], name
    assert episode.actions().tolist() == [step.action for step in steps]
    assert episode.rewards().tolist() == [step.reward for step in steps]
    assert episode.terminated().tolist() == [step.terminated for step in steps]
    assert episode.truncated().tolist() == [step.truncated for step in steps]
    assert episode.life_lost().tolist() == [step.life_lost for step in steps]
    assert episode.origin() == [step.origin for step in steps]
    assert episode.controller() == [step.controller for step in steps]
    truth = episode.truth(0, 8)
    assert truth["ball"].tolist() == [[t, -t] for t in range(8)]
    assert truth["ball"].dtype == np.int16
    assert truth["speed"].tolist() == [np.float32(t / 3) for t in range(8)]
    assert episode.truth(7, 9) == {}  # step 8 has none


def test_the_writer_copies_what_it_is_given(tmp_path: Path) -> None:
    step = game_step(0, truth={"ball": np.zeros(2)})
    with EpisodeWriter(tmp_path / "a.episode", HEADER, step.frame[None], NO_ACTIONS) as writer:
        writer.append(step)
        kept = step.frame.copy()
        step.frame[:] = 0
        step.truth["ball"][:] = 9
    episode = Episode.open(tmp_path / "a.episode")
    np.testing.assert_array_equal(episode.frames(1, 2)[0], kept)
    assert not episode.truth()["ball"].any()


def test_any_range_equals_the_same_range_of_the_whole(path: Path) -> None:
    episode = Episode.open(path)
    frames, actions, controllers = episode.frames(), episode.actions(), episode.controller()
    for first in range(STEPS + 2):
        for stop in range(first, STEPS + 2):
            np.testing.assert_array_equal(episode.frames(first, stop), frames[first:stop])
            if stop <= STEPS:
                assert episode.actions(first, stop).tolist() == actions[first:stop].tolist()
                assert episode.controller(first, stop) == controllers[first:stop]


@pytest.mark.parametrize(("first", "stop"), [(-1, 2), (3, 2), (0, STEPS + 2)])
def test_a_range_outside_is_refused(path: Path, first: int, stop: int) -> None:
    with pytest.raises(InputError, match=f"{first} to {stop}"):
        Episode.open(path).frames(first, stop)


def test_an_episode_without_steps(tmp_path: Path) -> None:
    episode = record(tmp_path / "a.episode", 0)
    assert episode.complete
    assert len(episode) == 0
    assert episode.frames().shape == (1, 16, 16, 3)
    assert episode.truth() == {}


def test_what_a_sampler_looks_for_is_in_the_index(tmp_path: Path) -> None:
    episode = record(tmp_path / "a.episode", STEPS)
    assert episode.terminations == [STEPS - 1]
    assert episode.reward_values == sorted(set(episode.rewards().tolist()))
    with EpisodeWriter(tmp_path / "b.episode", HEADER, game_frame(0)[None], NO_ACTIONS) as writer:
        for t in range(70):
            writer.append(game_step(t, reward=t / 10))
    assert Episode.open(tmp_path / "b.episode").reward_values is None


def test_a_file_cut_anywhere_loses_the_running_block_at_most(small: Path) -> None:
    whole = Episode.open(small)
    frames, actions = whole.frames(), whole.actions()
    data = small.read_bytes()
    footer = int.from_bytes(data[-8:], "little")
    block_ends = [*whole.index.offsets[1:], footer]
    for size in reversed(range(whole.head.end, len(data))):
        os.truncate(small, size)
        torn = Episode.open(small)
        assert len(torn) == [0, *whole.index.ends][sum(end <= size for end in block_ends)]
        assert torn.complete is False
        if size % 40 == 0 or size in block_ends:
            np.testing.assert_array_equal(torn.frames(), frames[: len(torn) + 1])
            assert torn.actions().tolist() == actions[: len(torn)].tolist()
            assert torn.terminations == [t for t in whole.terminations if t < len(torn)]
            torn.verify()


def test_a_file_cut_within_its_header_is_told_so(small: Path) -> None:
    for size in reversed(range(Episode.open(small).head.end)):
        os.truncate(small, size)
        with pytest.raises(InputError, match=r"a\.episode: cut short within its header"):
            Episode.open(small)


def test_a_killed_process_leaves_all_whole_seconds(tmp_path: Path) -> None:
    path = tmp_path / "a.episode"
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np, time
from recorded import *
writer = EpisodeWriter({str(path)!r}, HEADER, game_frame(0)[None], np.zeros(0, np.int64))
for t in range(13): writer.append(game_step(t, truth={{}}))
print("ready", flush=True); time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    episode = Episode.open(path)
    assert (len(episode), episode.complete) == (10, False)
    np.testing.assert_array_equal(episode.frames(10, 11)[0], game_frame(10))


def test_every_flipped_byte_is_found(small: Path) -> None:
    with small.open("r+b", buffering=0) as file:
        for at, byte in enumerate(small.read_bytes()):
            file.seek(at)
            file.write(bytes([byte ^ 0x10]))
            with pytest.raises(InputError, match=r"a\.episode"):
                Episode.open(small).verify()
            file.seek(at)
            file.write(bytes([byte]))
    Episode.open(small).verify()


def test_damage_is_named_when_it_is_read(path: Path) -> None:
    episode = Episode.open(path)
    data = bytearray(path.read_bytes())
    data[episode.index.offsets[3] - 1] ^= 1  # the last byte of the frames of block 2
    path.write_bytes(data)
    episode = Episode.open(path)
    first, stop = episode.index.ends[1], episode.index.ends[2]
    with pytest.raises(DamagedEpisode, match=r"a\.episode: damaged, block 2 "):
        episode.frames(first + 1, first + 2)
    episode.frames(0, first + 1)
    episode.frames(stop + 1, STEPS + 1)
    assert len(episode.actions()) == STEPS  # the steps of the block are checked by themselves


@pytest.mark.parametrize("content", [b"GIF89a, not an episode at all", b"\x89PNG\r\n\x1a\n" * 9])
def test_another_file_is_no_episode(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.episode").write_bytes(content)
    with pytest.raises(InputError, match="not an episode"):
        Episode.open(tmp_path / "a.episode")


def test_the_documented_example_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[1] / "docs" / "episodes.md"
    code = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(path.parent)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["frames"].shape == (9, 16, 16, 3)
    assert names["clips"].frames.shape == (8, 9, 16, 16, 3)


def test_the_file_is_laid_out_as_documented(path: Path) -> None:
    """Frame 3 and step 2, read by docs/episodes.md alone."""
    data = path.read_bytes()
    kind, version, length_1, length_2, crc_1 = struct.unpack_from("<8s4I", data)
    assert (kind, version) == (b"\x89WFEHEAD", 1)
    assert crc_1 == zlib.crc32(data[32 : 32 + length_1])
    assert json.loads(data[32 : 32 + length_1])["frame_shape"] == [16, 16, 3]
    block = 32 + length_1 + length_2
    kind, count, length_1, length_2 = struct.unpack_from("<8s3I", data, block)
    assert (kind, count) == (b"\x89WFESTEP", 5)
    steps = zlib.decompress(data[block + 32 : block + 32 + length_1])
    (meta,) = struct.unpack_from("<I", steps)
    assert json.loads(steps[4 : 4 + meta])["controllers"] == ["random"]
    row = struct.unpack_from("<id4?H3Qd", steps, 4 + meta + 2 * 50)
    assert row == (2, 0.0, False, False, False, False, 0, 2**64 - 3, 2**63 + 2, 2, 1 / 3)
    frames = zlib.decompress(data[block + 32 + length_1 : block + 32 + length_1 + length_2])
    changes = np.frombuffer(frames, np.uint8).reshape(5, 16, 16, 3)
    np.testing.assert_array_equal(changes[:3].sum(0, dtype=np.uint8), game_frame(3))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        Episode.open(tmp_path / "a.episode")
    with pytest.raises(InputError, match="cannot be read"):
        Episode.open(tmp_path)


def test_a_newer_schema_is_refused(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8:12] = (2).to_bytes(4, "little")
    data[28:32] = zlib.crc32(data[:28]).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(InputError, match="schema 2, this worldflow reads 1; update worldflow"):
        Episode.open(path)


class FullDisk:
    """A file that takes `room` more bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def write(self, data: bytes) -> None:
        self._file.write(data[: self._room])
        self._room -= len(data)
        if self._room < 0:
            self._file.flush()
            raise OSError(errno.ENOSPC, "No space left on device")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_kill_within_the_head_leaves_no_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def cut_short(part: Path, data: bytes) -> int:
        with part.open("wb") as file:
            file.write(data[:20])
        raise Killed

    path = tmp_path / "a.episode"
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", cut_short)
        with pytest.raises(Killed):
            EpisodeWriter(path, HEADER, game_frame(0)[None], NO_ACTIONS)
    assert not path.exists()
    EpisodeWriter(path, HEADER, game_frame(0)[None], NO_ACTIONS).close()
    assert Episode.open(path).complete
    assert [each.name for each in tmp_path.iterdir()] == ["a.episode"]


@pytest.mark.parametrize("room", [0, 100, 700])
def test_a_full_disk_keeps_the_blocks_before(tmp_path: Path, room: int) -> None:
    path = tmp_path / "a.episode"
    with (  # noqa: PT012 (leaving the writer must not hide the error)
        pytest.raises(WorkError, match=r"No space left on device; its first 5 steps are kept$"),
        EpisodeWriter(path, HEADER, game_frame(0)[None], NO_ACTIONS) as writer,
    ):
        for t in range(STEPS):
            if t == 5:
                writer._file = FullDisk(writer._file, room)  # type: ignore[assignment]
            writer.append(
                game_step(t, frame=np.random.default_rng(t).integers(0, 256, (16, 16, 3), np.uint8))
            )
    episode = Episode.open(path)
    assert (len(episode), episode.complete) == (5, False)
    episode.verify()


def test_a_disk_full_at_the_end_loses_the_index_only(tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path / "a.episode", HEADER, game_frame(0)[None], NO_ACTIONS)
    for t in range(10):
        writer.append(game_step(t, truth={}))
    writer._file = FullDisk(writer._file, 20)  # type: ignore[assignment]
    with pytest.raises(WorkError, match="its first 10 steps are kept"):
        writer.close()
    assert len(Episode.open(tmp_path / "a.episode")) == 10


def test_a_stop_by_the_user_within_a_write_does_no_harm(tmp_path: Path) -> None:
    class Interrupted(FullDisk):
        def write(self, data: bytes) -> None:
            self._file.write(data[: len(data) // 2])
            writer._file = self._file
            raise KeyboardInterrupt

    path = tmp_path / "a.episode"
    with (  # noqa: PT012 (the writer is closed by the interrupt)
        pytest.raises(KeyboardInterrupt),
        EpisodeWriter(path, HEADER, game_frame(0)[None], NO_ACTIONS) as writer,
    ):
        for t in range(STEPS):
            if t == 14:
                writer._file = Interrupted(writer._file, 0)  # type: ignore[assignment]
            writer.append(game_step(t, truth={}))
    episode = Episode.open(path)
    assert (len(episode), episode.complete) == (15, True)
    episode.verify()


def test_an_existing_file_is_not_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        EpisodeWriter(path, HEADER, game_frame(0)[None], NO_ACTIONS)
    assert path.read_bytes() == before


BAD_STEPS: dict[str, tuple[dict[str, Any], str]] = {
    "frame size": ({"frame": game_frame(0, 8)}, r"\(8, 8, 3\), expected uint8 \(16, 16, 3\)"),
    "frame type": ({"frame": game_frame(0).astype(np.float32)}, "float32"),
    "action": ({"action": 3}, "action 3, expected 0 to 2"),
    "reward": ({"reward": float("nan")}, "reward nan"),
    "origin": ({"origin": "sleep"}, "'sleep'"),
    "noise": ({"noise_row": -1}, "noise key"),
    "truth type": ({"truth": {"ball": np.array(["a"])}}, "'ball'"),
    "truth shape": ({"truth": {"ball": np.zeros(3, np.int16)}}, "'ball'"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_STEPS.values(), ids=BAD_STEPS.keys())
def test_a_step_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.episode"
    with EpisodeWriter(path, HEADER, game_frame(0)[None], NO_ACTIONS) as writer:
        writer.append(game_step(0))
        with pytest.raises(InputError, match=message):
            writer.append(game_step(1, **changes))
        writer.append(game_step(1))
    assert len(Episode.open(path)) == 2


def test_a_start_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.episode"
    with pytest.raises(InputError, match="start frames"):
        EpisodeWriter(path, HEADER, game_frame(0), NO_ACTIONS)
    with pytest.raises(InputError, match="start actions"):
        EpisodeWriter(path, HEADER, game_frame(0)[None], np.zeros(1, np.int64))
    with pytest.raises(InputError, match="JSON"):
        EpisodeWriter(path, replace(HEADER, settings={"a": b""}), game_frame(0)[None], NO_ACTIONS)
    assert not path.exists()
