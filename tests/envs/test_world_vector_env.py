"""Many rollouts of a learned world as one VectorEnv."""

import gymnasium
import numpy as np
import pytest
from fake_engine import make_playable
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from worldflow.envs import register_worlds
from worldflow.envs.world_env import WorldEnv
from worldflow.envs.world_vector_env import WorldVectorEnv
from worldflow.errors import InputError

SMALL = (6, 8, 3)
MODES = list(AutoresetMode)


def small_envs(num_envs=3, p_terminated=0.0, **settings):
    return WorldVectorEnv(make_playable(SMALL, p_terminated=p_terminated), num_envs, **settings)


def steps(envs, count):
    """What `count` steps give; the actions are those of a fixed generator."""
    actions = np.random.default_rng(0).integers(3, size=(count, envs.num_envs))
    return [envs.step(row) for row in actions]


def same(told, others):
    return all(
        all(np.array_equal(x, y) for x, y in zip(a[:4], b[:4], strict=True))
        for a, b in zip(told, others, strict=True)
    )


def told_values(info, row):
    """The info that `row` has, by the masks."""
    return {
        name: told_values(value, row)
        if isinstance(value, dict)
        else np.asarray(value[row]).tolist()
        for name, value in info.items()
        if not name.startswith("_") and info[f"_{name}"][row]
    }


@pytest.mark.parametrize("mode", MODES)
def test_it_does_what_gymnasium_makes_of_single_envs(mode):
    """Same bytes and same info as a SyncVectorEnv of WorldEnvs, autoresets included."""
    settings = {"max_episode_steps": 12, "surprise": True}

    def single():
        return WorldEnv(make_playable(SMALL, p_terminated=0.1), **settings)

    sync = SyncVectorEnv([single] * 4, autoreset_mode=mode)
    envs = small_envs(4, p_terminated=0.1, autoreset_mode=mode, **settings)
    assert envs.metadata["autoreset_mode"] is mode
    compared = [(sync.reset(seed=9), envs.reset(seed=9))]
    ended = 0
    for actions in np.random.default_rng(0).integers(3, size=(60, 4)):
        compared.append((sync.step(actions), envs.step(actions)))
        done = compared[-1][1][2] | compared[-1][1][3]
        ended += done.sum()
        if mode is AutoresetMode.DISABLED and done.any():
            reset = [each.reset(options={"reset_mask": done.copy()}) for each in (sync, envs)]
            compared.append(tuple(reset))
    assert ended > 10
    for theirs, ours in compared:
        for their_array, our_array in zip(theirs[:-1], ours[:-1], strict=True):
            np.testing.assert_array_equal(our_array, their_array)
            assert our_array.dtype == their_array.dtype
        for row in range(4):
            assert told_values(ours[-1], row) == told_values(theirs[-1], row)


@pytest.mark.parametrize("mode", MODES[:2])
def test_the_same_seed_and_actions_give_the_same_bytes(mode):
    runs = []
    for seed in (5, 5, 6):
        envs = small_envs(p_terminated=0.1, autoreset_mode=mode)
        envs.reset(seed=seed)
        runs.append(steps(envs, 40))
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_all_rows_take_one_step_of_the_engine():
    envs = small_envs(5, p_terminated=0.2)
    envs.reset(seed=0)
    steps(envs, 20)
    assert envs.dream.engine.batches["step"] == [5] * 20


def test_next_step_ignores_the_action_of_a_row_to_be_reset():
    envs = small_envs(2, max_episode_steps=3)
    envs.reset(seed=0)
    steps(envs, 2)
    _, _, _, truncated, _ = envs.step(np.array([2, 2]))
    assert truncated.all()
    frames, reward, terminated, truncated, info = envs.step(np.array([2, 2]))
    assert reward.tolist() == [0, 0]
    assert not (terminated | truncated).any()
    assert set(frames[:, 0, 0, 0].tolist()) <= {2, 12, 22, 32}
    assert not info["_p_terminated"].any()


def test_disabled_needs_the_rows_that_ended_to_be_reset():
    envs = small_envs(3, max_episode_steps=2, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    steps(envs, 1)
    mask = np.array([False, True, False])
    _, info = envs.reset(options={"reset_mask": mask})
    assert info["_noise_seed"].tolist() == mask.tolist()
    after = envs.step(np.zeros(3, np.int64))
    assert after[3].tolist() == [True, False, True]
    with pytest.raises(ResetNeeded, match=r"rows \[0, 2\] have ended"):
        steps(envs, 1)
    envs.reset(options={"reset_mask": ~mask})
    steps(envs, 1)


def test_a_masked_reset_leaves_the_other_rows_alone():
    plain, masked = small_envs(), small_envs()
    for envs in (plain, masked):
        envs.reset(seed=0)
        steps(envs, 3)
    masked.reset(seed=50, options={"reset_mask": np.array([True, False, False]), "start": 2})
    theirs, ours = steps(plain, 5), steps(masked, 5)
    for (a, *_), (b, *_) in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(a[1:], b[1:])
        assert not np.array_equal(a[0], b[0])


def test_options_hold_for_all_rows():
    envs = small_envs(2)
    frames = np.stack([np.full(SMALL, 7, np.uint8), np.full(SMALL, 8, np.uint8)])
    options = {"frames": frames, "actions": [2], "temperature": 0.5}
    seen, info = envs.reset(seed=0, options=options)
    assert (seen == 8).all()
    assert info["temperature"].tolist() == [0.5, 0.5]
    assert set(options) == {"frames", "actions", "temperature"}
    after = envs.step(np.array([1, 2]))[0]
    assert (after[0, :, 3] == 255).all()
    assert (after[1, :, 4] == 255).all()


@pytest.mark.parametrize("mask", [[True], [1, 0, 1], [False] * 3, "all"])
def test_a_wrong_mask_is_named(mask):
    with pytest.raises(InputError, match="expected 3 bools"):
        small_envs().reset(options={"reset_mask": mask})


@pytest.mark.parametrize("actions", [[0, 1], [0, 1, 3], [0, -1, 0], [0.0, 1.0, 0.0], 1])
def test_wrong_actions_are_refused(actions):
    envs = small_envs()
    envs.reset()
    with pytest.raises(InputError, match="expected integers"):
        envs.step(actions)


def test_a_step_needs_a_reset():
    with pytest.raises(ResetNeeded, match="call reset"):
        small_envs().step(np.zeros(3, np.int64))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_envs": 0}, "num_envs=0"),
        ({"render_mode": "human"}, "render_mode='human'"),
        ({"autoreset_mode": "SameStap"}, "did you mean 'SameStep'"),
        ({"max_episode_steps": -1}, "max_episode_steps=-1"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(InputError, match=message):
        small_envs(**settings)


def test_make_vec_makes_it_with_all_settings():
    register_worlds()
    envs = gymnasium.make_vec(
        "worldflow/World-v0",
        num_envs=2,
        world=make_playable(SMALL),
        max_episode_steps=150,
        autoreset_mode=AutoresetMode.SAME_STEP,
        render_mode="rgb_array",
    )
    assert isinstance(envs, WorldVectorEnv)
    frames, _ = envs.reset(seed=0)
    assert frames in envs.observation_space
    assert envs.action_space.shape == (2,)
    ends = [step for step, told in enumerate(steps(envs, 400), 1) if told[3].any()]
    assert ends == [150, 300]
    np.testing.assert_array_equal(np.stack(envs.render()), envs.dream.rows.frame)
    envs.close()
    envs.close()


def test_what_is_returned_belongs_to_the_user():
    runs = []
    for spoil in (False, True):
        envs = small_envs(p_terminated=0.1, surprise=True)
        told = [envs.reset(seed=0)[0].copy()]
        for _ in range(12):
            frames, reward, terminated, truncated, info = envs.step(np.array([1, 2, 0]))
            told.append(frames.copy())
            if spoil:
                for array in (frames, reward, terminated, truncated, *info.values()):
                    array[:] = 1
        runs.append(told)
    np.testing.assert_array_equal(runs[0], runs[1])


@pytest.mark.parametrize("mode", MODES[:2])
def test_a_state_brings_back_all_that_follows(mode):
    envs = small_envs(p_terminated=0.1, autoreset_mode=mode)
    envs.reset(seed=0)
    steps(envs, 7)
    state = envs.get_state()
    told = steps(envs, 40)
    envs.set_state(state)
    assert same(told, steps(envs, 40))
    fresh = small_envs(p_terminated=0.1, autoreset_mode=mode)
    fresh.set_state(state)
    assert same(told, steps(fresh, 40))


def test_rows_can_be_set_one_by_one_and_exchanged_with_a_single_env():
    envs = small_envs()
    envs.reset(seed=0)
    steps(envs, 2)
    kept = envs.get_state([2])
    env = WorldEnv(make_playable(SMALL))
    env.set_state(kept)
    expected = [env.step(1)[0] for _ in range(3)]
    steps(envs, 4)
    others = envs.get_state([1, 2])
    envs.set_state(kept, rows=[0])
    frames = [envs.step(np.ones(3, np.int64))[0] for _ in range(3)]
    np.testing.assert_array_equal(np.stack(frames)[:, 0], expected)
    pair = small_envs(2)
    pair.set_state(others)
    again = [pair.step(np.ones(2, np.int64))[0] for _ in range(3)]
    np.testing.assert_array_equal(np.stack(frames)[:, 1:], again)


def test_states_that_do_not_fit_are_refused():
    envs = small_envs()
    envs.reset()
    with pytest.raises(InputError, match="3 rows: expected 2"):
        envs.set_state(envs.get_state(), rows=[0, 1])
    with pytest.raises(InputError, match="expected indices from 0 to 2"):
        envs.get_state([3])


def test_a_row_branches():
    envs = small_envs(autoreset_mode=AutoresetMode.SAME_STEP)
    envs.reset(seed=0)
    steps(envs, 3)
    before = envs.get_state()
    own, shared = envs.branch(1, 4), envs.branch(1, 2, same_luck=True)
    assert own.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    frames = own.step(np.ones(4, np.int64))[0]
    here = envs.step(np.ones(3, np.int64))[0]
    assert len({frame.tobytes() for frame in (*frames, here[1])}) == 5
    for frame in shared.step(np.ones(2, np.int64))[0]:
        np.testing.assert_array_equal(frame, here[1])
    envs.set_state(before)
    np.testing.assert_array_equal(envs.branch(1, 2).step(np.ones(2, np.int64))[0], frames[:2])


def test_branches_of_branches_share_no_luck():
    env = WorldEnv(make_playable(SMALL))
    env.reset(seed=0)
    envs = env.branch(2)
    envs.step(np.array([1, 1]))
    keys = set()
    for each in (envs, envs.branch(0, 2), envs.branch(1, 2)):
        info = each.step(each.action_space.sample() * 0)[4]
        keys |= set(zip(info["noise_seed"].tolist(), info["noise_row"].tolist(), strict=True))
    assert len(keys) == 6
