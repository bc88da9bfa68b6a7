"""A learned world as a Gymnasium env."""

import sys
import types
import warnings

import gymnasium
import numpy as np
import pytest
from dreams import FRAME, SMALL, play, same, small_env
from fake_engine import FakeEngine, make_playable
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from worldflow.envs import register_worlds
from worldflow.envs.world_env import WorldEnv
from worldflow.episode import EpisodeWriter, Header, StepRecord
from worldflow.errors import InputError
from worldflow.noise import standard_normal


@pytest.fixture
def loader(monkeypatch):
    """`load_playable`, replaced by one that knows the world "some/run" only."""

    def load_playable(what, *, engine="auto", device="auto"):
        if what != "some/run":
            raise InputError(f"world {what!r} not found")
        return make_playable(SMALL, p_terminated=0.02)

    module = types.ModuleType("worldflow.playable")
    module.load_playable = load_playable
    monkeypatch.setitem(sys.modules, "worldflow.playable", module)
    register_worlds()


@pytest.mark.parametrize("surprise", [False, True])
def test_gymnasium_finds_nothing_to_warn_of(loader, monkeypatch, surprise):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make("worldflow/World-v0", world="some/run", surprise=surprise)
        check_env(env.unwrapped, skip_render_check=False)


def test_ids_are_registered_once_and_name_their_worlds(loader):
    before = dict(gymnasium.registry)
    register_worlds()
    assert gymnasium.registry == before
    for world in ("bounce", "breakout", "freeway", "pong"):
        assert gymnasium.spec(f"worldflow/{world.title()}-v0").kwargs == {"world": world}
    assert (
        gymnasium.spec("worldflow/BounceGame-v0").entry_point == "worldflow.envs.bounce:BounceGame"
    )
    with pytest.raises(InputError, match="'breakout' not found"):
        gymnasium.make("worldflow/Breakout-v0")


def test_spaces_names_and_frame_rate_are_the_worlds():
    env = small_env()
    assert env.observation_space == gymnasium.spaces.Box(0, 255, SMALL, np.uint8)
    assert env.action_space == gymnasium.spaces.Discrete(3)
    assert env.action_names == ("noop", "right", "left")
    assert env.metadata["render_fps"] == 30
    assert type(env.metadata["render_fps"]) is int


def test_the_same_seed_and_actions_give_the_same_bytes_in_all_episodes():
    runs = []
    for seed in (5, 5, 6):
        env = small_env(p_terminated=0.1, surprise=True)
        env.reset(seed=seed)
        runs.append(play(env, 80))
    assert sum(end for _, _, end, _, _ in runs[0]) > 3
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_a_reset_without_seed_goes_on_with_the_generator():
    env = small_env()
    _, told = env.reset(seed=1)
    seeds = {env.reset()[1]["noise_seed"] for _ in range(5)} | {told["noise_seed"]}
    assert len(seeds) == 6
    starts = {env.reset()[0].flat[0] for _ in range(30)}
    assert starts == {2, 12, 22, 32}  # the last frames of all four


def test_a_step_can_be_drawn_again_from_its_info():
    env = small_env(temperature=0.5)
    env.reset(seed=3)
    play(env, 4, reset=False)
    before = env.get_state().rows.engine
    frame, _, _, _, info = env.step(2)
    assert info["noise_counter"] == 4
    engine = env.dream.engine
    key = info["noise_seed"], info["noise_row"], info["noise_counter"]
    noise = standard_normal(*key, engine.noise_size)[None]
    again = engine.step(before, np.array([2]), noise, np.array([info["temperature"]], np.float32))
    np.testing.assert_array_equal(again.frame[0], frame)


def test_the_frame_after_an_action_is_that_of_this_action():
    env = small_env()
    env.reset(seed=0)
    for action in (2, 0, 1, 1):
        frame, reward, *_ = env.step(action)
        assert (frame[0, 0, 0], reward) == (action, action)


def test_surprise_scores_the_shown_frame_with_noise_of_its_own():
    env = small_env(surprise=True)
    env.reset(seed=0)
    before = env.get_state().rows.engine
    frame, _, _, _, info = env.step(1)
    noise = standard_normal(info["noise_seed"], 2**63, 0, env.dream.engine.noise_size)[None]
    scored = FakeEngine.score(env.dream.engine, before, np.array([1]), frame[None], noise)
    assert info["nll_excess"] == float(scored[0])
    plain = small_env()
    plain.reset(seed=0)
    assert "nll_excess" not in plain.step(1)[4]
    assert plain.dream.engine.batches["score"] == []


def ends_of(env, count):
    env.reset(seed=0)
    return [step for step in range(1, count + 1) if env.step(0)[3]]


def test_an_episode_is_truncated_once_whoever_sets_the_limit(loader):
    make = gymnasium.make
    for env, limit in (
        (small_env(), 100),
        (small_env(max_episode_steps=7), 7),
        (small_env(max_episode_steps=150), 150),
        (make("worldflow/World-v0", world=make_playable(SMALL)), 100),
        (make("worldflow/World-v0", world=make_playable(SMALL), max_episode_steps=50), 50),
        (make("worldflow/World-v0", world=make_playable(SMALL), max_episode_steps=-1), 100),
    ):
        assert ends_of(env, limit) == [limit]


def test_an_ended_episode_must_be_reset():
    env = small_env(max_episode_steps=2)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(0)
    env.reset()
    play(env, 2, reset=False)
    with pytest.raises(ResetNeeded, match="ended"):
        env.step(0)
    env.reset()
    env.step(0)


@pytest.mark.parametrize("action", [3, -1, 1.0, "left", None])
def test_a_wrong_action_is_named(action):
    env = small_env()
    env.reset()
    with pytest.raises(InputError, match=r"expected an integer from 0 to 2") as raised:
        env.step(action)
    assert repr(action) in str(raised.value)


def test_what_is_returned_belongs_to_the_user():
    told = []
    for spoil in (False, True):
        env = small_env(render_mode="rgb_array")
        frame, _ = env.reset(seed=0)
        kept = [frame.copy()]
        for action in (1, 2, 0, 1, 2, 0, 1):  # more than the state remembers
            if spoil:
                frame[:] = 77
                env.render()[:] = 78
            frame, *_ = env.step(action)
            kept.append(frame.copy())
        told.append(kept)
    np.testing.assert_array_equal(told[0], told[1])


def test_rgb_array_renders_the_newest_frame_and_no_mode_none():
    env = small_env(render_mode="rgb_array")
    frame, _ = env.reset(seed=0)
    np.testing.assert_array_equal(env.render(), frame)
    frame, *_ = env.step(1)
    np.testing.assert_array_equal(env.render(), frame)
    with pytest.raises(InputError, match="did you mean 'rgb_array'"):
        small_env(render_mode="rgb_aray")


def test_human_shows_each_frame_in_a_window(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    import pygame

    env = small_env(render_mode="human")
    env.reset(seed=0)
    frame, *_ = env.step(1)
    assert env.render() is None
    window = pygame.surfarray.array3d(pygame.display.get_surface())
    scale = window.shape[0] // SMALL[1]
    assert scale > 10
    np.testing.assert_array_equal(window[::scale, ::scale].swapaxes(0, 1), frame)
    env.close()
    env.close()
    assert pygame.display.get_surface() is None


def test_own_frames_begin_an_episode():
    env = small_env()
    frames = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones(SMALL, np.uint8)
    frame, _ = env.reset(seed=0, options={"frames": frames, "actions": [1, 2, 1, 2]})
    np.testing.assert_array_equal(frame, frames[-1])
    assert (env.step(1)[0][:, 7] == 255).all()  # the bar has moved by all of the actions
    frame, _ = env.reset(options={"frames": frames[3]})
    np.testing.assert_array_equal(frame, frames[3])
    assert (env.step(1)[0][:, 1] == 255).all()


@pytest.fixture
def recording(tmp_path):
    """Three start frames of levels 0 to 2, then 12 steps to levels 3 to 14, by action t % 3."""
    path = tmp_path / "a.episode"
    frames = np.arange(15, dtype=np.uint8)[:, None, None, None] * np.ones(SMALL, np.uint8)
    header = Header("fake", {}, 30, ("noop", "right", "left"), {"": 0}, seed=0)
    with EpisodeWriter(path, header, frames[:3], np.array([2, 2])) as writer:
        for t, frame in enumerate(frames[3:]):
            step = StepRecord(t % 3, frame, 0.0, False, False, False, "real", "random")
            writer.append(step)
    return path


@pytest.mark.parametrize(
    ("step", "levels", "column"),
    [(0, (0, 2), 4), (2, (0, 4), 5), (7, (2, 9), 6), (9, (4, 11), 8), (12, (7, 14), 8)],
)
def test_an_episode_is_taken_up_at_a_step(recording, step, levels, column):
    env = small_env()
    seen = []
    start = env.dream.engine.start
    env.dream.engine.start = lambda frames, actions: seen.append(frames) or start(frames, actions)
    frame, _ = env.reset(seed=0, options={"episode": recording, "step": step})
    first, last = levels
    assert seen[0][0, :, 0, 0, 0].tolist() == list(range(first, last + 1))
    assert frame.flat[0] == last
    assert (env.step(0)[0][:, column] == 255).all()  # moved by the actions between them


def test_an_episode_that_does_not_fit_is_refused(recording, tmp_path):
    with pytest.raises(InputError, match=r"step=13: expected an integer from 0 to 12"):
        small_env().reset(options={"episode": recording, "step": 13})
    with pytest.raises(InputError, match="nowhere"):
        small_env().reset(options={"episode": tmp_path / "nowhere.episode", "step": 0})
    other = WorldEnv(make_playable(SMALL, action_count=5))
    with pytest.raises(InputError, match=r"3 actions: world 'fake' has 5"):
        other.reset(options={"episode": recording, "step": 0})
    larger = WorldEnv(make_playable((16, 16, 3)))
    with pytest.raises(InputError, match=r"expected uint8 \(T, 16, 16, 3\)"):
        larger.reset(options={"episode": recording, "step": 0})


def test_a_start_and_a_temperature_can_be_asked_for():
    env = small_env(temperature=0.25)
    frame, info = env.reset(seed=0, options={"start": 3, "temperature": 0})
    assert frame.flat[0] == 32
    assert info["temperature"] == 0.0
    assert len(np.unique(env.step(0)[0][1:, 1:])) == 1  # no noise in the ground
    assert env.reset()[1]["temperature"] == 0.25


def test_options_alter_neither_luck_nor_later_episodes():
    plain, asked = small_env(), small_env()
    seeds = []
    for env, options in ((plain, None), (asked, {"start": 1, "temperature": 2.0})):
        first = env.reset(seed=4, options=options)[1]["noise_seed"]
        frame, info = env.reset()
        seeds.append((first, info["noise_seed"], frame.tobytes()))
    assert seeds[0] == seeds[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temprature": 1}, "'temprature' is unknown: did you mean 'temperature'"),
        ({"temperature": -0.5}, "temperature=-0.5"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"temperature": "hot"}, "temperature='hot'"),
        ({"start": 4}, "start=4: expected an integer from 0 to 3"),
        ({"frames": FRAME, "start": 1}, "give one of them"),
        ({"actions": [1]}, "'actions' needs 'frames'"),
        ({"step": 1}, "'step' needs 'episode'"),
        ({"episode": "a.episode"}, "'episode' needs 'step'"),
        ({"episode": 7, "step": 1}, "'episode' is 7"),
        ({"frames": FRAME[:5]}, r"shape \(1, 5, 16, 3\): expected uint8 \(T, 12, 16, 3\)"),
        ({"frames": FRAME[None][:0]}, r"shape \(0, 12, 16, 3\)"),
        ({"frames": FRAME.astype(float)}, "'frames' is float64"),
        ({"frames": [[1, 2], [3]]}, "'frames' is no array"),
        ({"frames": np.stack([FRAME, FRAME])}, r"expected integers, shape \(1,\)"),
        ({"frames": np.stack([FRAME, FRAME]), "actions": [0.5]}, "'actions' is float64"),
        ({"frames": np.stack([FRAME, FRAME]), "actions": [3]}, "from 0 to 2"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(InputError, match=message):
        small_env().reset(options=options)


@pytest.mark.parametrize(
    "settings", [{"max_episode_steps": 0}, {"max_episode_steps": 1.5}, {"temperature": -1}]
)
def test_a_wrong_setting_is_named(settings):
    ((name, value),) = settings.items()
    with pytest.raises(InputError, match=f"{name}={value}"):
        small_env(**settings)
