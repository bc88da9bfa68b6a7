"""Dreams for a learner: the same steps as the engine's, new starts where they end."""

import numpy as np
import pytest
import torch
from recorded import HEADER, record
from tiny_world import ACTIONS, SIZE, tiny_world

from worldflow.agents.dreams import Context, Dreams, Limits, Starts, calibrated, replayed
from worldflow.agents.network import newest
from worldflow.dataset import open_dataset
from worldflow.errors import InputError
from worldflow.torch_engine import TorchEngine
from worldflow.world import World

ENVS = 6


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dreams(world: World | None = None, **changes) -> Dreams:
    world = world or tiny_world()
    settings = {"envs": ENVS, "stack": 2, "horizon": 5} | changes
    return Dreams(world, Starts(world, None), **settings)


def never_ending(world: World) -> World:
    """The termination head says no."""
    with torch.no_grad():
        world.model.outcome.verdict.bias[-1] = -100.0
    return world


def test_a_step_is_that_of_the_engine() -> None:
    world = never_ending(tiny_world())
    engine, stage = TorchEngine(world), dreams(world, horizon=100)
    stage.restart(generator())
    before = {name: value.clone() for name, value in stage.state._asdict().items()}
    action = torch.arange(ENVS) % ACTIONS
    step = stage.step(action, generator(7))
    noise = torch.randn((ENVS, engine.noise_size), generator=generator(7)).numpy()
    expected = engine.step(before, action.numpy(), noise, np.ones(ENVS, np.float32))
    assert np.array_equal(newest(step.observation).numpy(), expected.frame)
    assert np.array_equal(step.reward.numpy(), expected.reward)


def test_the_same_generator_dreams_the_same() -> None:
    told = []
    for _ in range(2):
        stage, luck = dreams(), generator(3)
        stage.restart(luck)
        told.append([stage.step(torch.zeros(ENVS).long(), luck) for _ in range(8)])
    for one, other in zip(*told, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_dreams_are_cut_off_at_the_horizon_and_begin_anew_at_a_start() -> None:
    world = never_ending(tiny_world())
    stage, luck = dreams(world, horizon=4), generator()
    stage.restart(luck)
    ages = stage.age.clone()
    starts = {frame.tobytes() for frames in world.start_frames for frame in frames[[0, -1]]}
    for count in range(1, 9):
        step = stage.step(torch.zeros(ENVS).long(), luck)
        assert torch.equal(step.truncated, (ages + count) % 4 == 0)
        assert not step.terminated.any()
        for row in range(ENVS):
            begun = newest(step.observation)[row].numpy().tobytes() in starts
            assert begun == bool(step.truncated[row])
            assert torch.equal(step.last[row], step.observation[row]) == (not begun)


def test_a_row_that_began_anew_goes_on_as_if_alone() -> None:
    """Its next frame is that of its start, not of the dream before."""
    world = never_ending(tiny_world())
    engine, stage, luck = TorchEngine(world), dreams(world, horizon=3), generator()
    stage.restart(luck)
    actions = torch.ones(ENVS).long()
    for _ in range(3):
        step = stage.step(actions, luck)
    again = stage.step(actions, generator(9))
    noise = torch.randn((ENVS, engine.noise_size), generator=generator(9)).numpy()
    seen = 0
    for row in step.truncated.nonzero()[:, 0].tolist():
        seen_last = newest(step.observation)[row].numpy()
        for frames, between in zip(world.start_frames, world.start_actions, strict=True):
            for length in (1, len(frames)):  # from the first frame, or from the midst
                if np.array_equal(frames[length - 1], seen_last):
                    state = engine.start(frames[None, :length], between[None, : length - 1])
                    expected = engine.step(
                        state, actions[:1].numpy(), noise[row : row + 1], np.ones(1, np.float32)
                    )
                    gap = expected.frame[0].astype(int) - newest(again.last)[row].numpy()
                    assert np.abs(gap).max() <= 1
                    seen += 1
    assert seen == int(step.truncated.sum()) > 0


def test_recorded_steps_are_starts(tmp_path) -> None:
    record(tmp_path / "a.episode", 12, HEADER, size=SIZE)
    record(tmp_path / "b.episode", 2, HEADER, size=SIZE)
    world, dataset = tiny_world(), open_dataset(tmp_path)
    context = Starts(world, dataset).draw(300, generator())
    episode = dataset.episodes[0]
    places = {episode.frames(t, t + 1)[0].tobytes(): t for t in range(12)}
    own = {frames[0].tobytes() for frames in world.start_frames}
    found, fresh = set(), 0
    for frames, actions, missing in zip(*context, strict=True):
        assert not (actions[int(missing) :] == ACTIONS).any()
        last_frame = frames[-1].numpy().tobytes()
        if last_frame in own:
            fresh += 1
            assert int(missing) == 2
            continue
        last = places[last_frame]
        found.add(last)
        assert int(missing) == max(0, 2 - last)
        if last >= 2:
            assert np.array_equal(frames.numpy(), episode.frames(last - 2, last + 1))
            assert np.array_equal(actions.numpy(), episode.actions(last - 2, last))
    assert found == set(range(12))
    assert 0.05 < fresh / 300 < 0.15


def test_padding_is_not_remembered() -> None:
    world = tiny_world()
    engine, frame = TorchEngine(world), torch.from_numpy(world.start_frames[:, :1])
    none = torch.full((2, 2), ACTIONS)
    padded = replayed(world.model, Context(frame.repeat(1, 3, 1, 1, 1), none, torch.tensor([2, 2])))
    plain = engine.start(world.start_frames[:, :1], np.zeros((2, 0), np.int64))
    noise, warm = np.zeros((2, engine.noise_size), np.float32), np.ones(2, np.float32)
    told = [engine.step(s, np.ones(2, np.int64), noise, warm) for s in (padded._asdict(), plain)]
    assert np.array_equal(told[0].frame, told[1].frame)


def test_a_step_that_is_not_believed_is_not_taken() -> None:
    world = tiny_world()
    stage, luck = dreams(world, horizon=100, limits=Limits(-1e9, -1e8)), generator()
    before = stage.restart(luck)
    step = stage.step(torch.zeros(ENVS).long(), luck)
    assert step.cut.all()
    assert step.truncated.all()
    assert not step.terminated.any()
    assert not step.reward.any()
    assert torch.equal(step.last, before)


def test_limits_keep_the_share_of_real_steps_that_was_asked_for(tmp_path) -> None:
    record(tmp_path / "a.episode", 40, HEADER, size=SIZE)
    world, dataset = tiny_world(), open_dataset(tmp_path)
    wide, narrow = (calibrated(world, dataset, q, count=256) for q in (0.99, 0.6))
    assert wide.low < narrow.low < narrow.high < wide.high
    with pytest.raises(InputError, match="trust=1"):
        calibrated(world, dataset, 1.0)


@pytest.mark.parametrize("wrong", ["envs", "stack", "horizon"])
def test_values_out_of_range_are_refused(wrong: str) -> None:
    with pytest.raises(InputError, match=wrong):
        dreams(**{wrong: 0})
