"""`collect`: what it leaves, whoever stops it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from worldflow.agents.collect import CollectConfig, collect
from worldflow.envs.source import make_source
from worldflow.episode import Episode
from worldflow.errors import InputError

CALL = """
import resource, signal, sys
from pathlib import Path
from worldflow.agents.collect import CollectConfig, collect
from worldflow.errors import WorkError
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
try:
    collect(CollectConfig(env="bounce", out=Path({out!r}), steps=10**9, workers=2))
except WorkError as error:
    print(error)
    sys.exit(1)
"""


def episodes(folder: Path) -> list[Episode]:
    return [Episode.open(path) for path in sorted(folder.glob("*.episode"))]


def steps(folder: Path) -> int:
    return sum(len(episode) for episode in episodes(folder))


def start(out: Path, limit: int = -1) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", CALL.format(out=str(out), limit=limit)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as a shell does, so that Ctrl-C can go to all its processes
    )


def wait_for_play(out: Path) -> None:
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.episode"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("collected") / "bounce"
    collect(CollectConfig(env="bounce", out=out, steps=600, workers=2, seed=3))
    return out


def test_exactly_the_steps_asked_for_are_recorded(collected: Path) -> None:
    assert steps(collected) == 600
    assert all(episode.complete for episode in episodes(collected))


def test_an_episode_can_be_played_again_from_its_file(collected: Path) -> None:
    game = make_source("bounce")
    for episode in episodes(collected)[:2]:
        frame, _ = game.reset(seed=episode.header.seed)
        frames, truth = [frame], []
        rewards, ends = [], []
        for action in episode.actions():
            truth.append(game.truth()["bounce"])
            frame, reward, terminated, *_ = game.step(action)
            frames.append(frame)
            rewards.append(reward)
            ends.append(terminated)
        assert np.array_equal(episode.frames(), np.stack(frames))
        assert np.array_equal(episode.rewards(), rewards)
        assert np.array_equal(episode.terminated(), ends)
        assert np.array_equal(episode.truth()["bounce"], truth)


def test_more_steps_go_on_where_it_stopped(collected: Path, tmp_path: Path) -> None:
    out = tmp_path / "more"
    collect(CollectConfig(env="bounce", out=out, steps=300, seed=3))
    before = {path: path.read_bytes() for path in out.iterdir()}
    collect(CollectConfig(env="bounce", out=out, steps=700, seed=3))
    assert steps(out) == 700
    assert all(path.read_bytes() == content for path, content in before.items())
    # One worker or two: an episode has the same seed, and is the same as far as it goes.
    for one, two in zip(episodes(out), episodes(collected), strict=False):
        length = min(len(one), len(two))
        assert one.header.seed == two.header.seed
        assert np.array_equal(one.frames(0, length), two.frames(0, length))
        assert one.controller(0, 1) == two.controller(0, 1)


def test_a_folder_of_others_is_left_alone(collected: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="collected with seed=3, not seed=4"):
        collect(CollectConfig(env="bounce", out=collected, steps=900, seed=4))
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="not empty"):
        collect(CollectConfig(env="bounce", out=tmp_path))
    with pytest.raises(InputError, match="cannot be a folder"):
        collect(CollectConfig(env="bounce", out=tmp_path / "letter.txt"))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"workers": 0}, {"seed": -1}, {"policy": "x"}, {"env": "x"}]
)
def test_bad_settings_make_no_folder(wrong: dict[str, object], tmp_path: Path) -> None:
    settings = {"env": "bounce", "out": tmp_path / "out"} | wrong
    with pytest.raises(InputError):
        collect(CollectConfig(**settings))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_kill_at_any_instant_leaves_readable_episodes(tmp_path: Path) -> None:
    process = start(tmp_path / "out")
    wait_for_play(tmp_path / "out")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    found = steps(tmp_path / "out")
    for episode in episodes(tmp_path / "out"):
        assert len(episode.frames()) == len(episode) + 1
    collect(CollectConfig(env="bounce", out=tmp_path / "out", steps=found + 50))
    assert steps(tmp_path / "out") == found + 50


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_workers_end_when_their_collector_is_killed(tmp_path: Path) -> None:
    process = start(tmp_path / "out")
    wait_for_play(tmp_path / "out")
    process.kill()
    process.communicate(timeout=120)  # returns once no worker holds its output any more
    assert all(episode.complete for episode in episodes(tmp_path / "out"))


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_closes_every_episode(tmp_path: Path) -> None:
    process = start(tmp_path / "out")
    wait_for_play(tmp_path / "out")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert errors.count("KeyboardInterrupt") == 1
    assert all(episode.complete for episode in episodes(tmp_path / "out"))


@pytest.mark.skipif(os.name != "posix", reason="file size limits")
def test_a_full_disk_is_one_line_and_the_work_is_kept(tmp_path: Path) -> None:
    output, _ = (process := start(tmp_path / "out", limit=6000)).communicate(timeout=60)
    assert process.returncode == 1
    line = output.splitlines()[-1]
    assert "cannot be written" in line
    assert steps(tmp_path / "out") > 0


def test_a_folder_of_an_older_worldflow_has_no_memory(tmp_path: Path) -> None:
    out = tmp_path / "older"
    collect(CollectConfig(env="bounce", out=out, steps=30))
    manifest = out / "collect.json"
    settings = json.loads(manifest.read_text())
    del settings["memory"]
    manifest.write_text(json.dumps(settings))
    collect(CollectConfig(env="bounce", out=out, steps=60))
    assert steps(out) == 60
    with pytest.raises(InputError, match="memory=False, not memory=True"):
        collect(CollectConfig(env="bounce", out=out, steps=90, memory=True))
