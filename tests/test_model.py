import dataclasses

import pytest
import torch
from tiny_world import ACTIONS, CONFIG, SIZE, WINDOW, random_actions, random_frames, tiny_model

from worldflow.errors import InputError
from worldflow.model import StreamState, WorldModel, to_bytes, to_signed

LENGTH = WINDOW + 3


def streamed(
    model: WorldModel, frames: torch.Tensor, actions: torch.Tensor, state: StreamState
) -> list[torch.Tensor]:
    """The score of each recorded next frame, step by step; `frames` `(B, T+1, H, W, 3)`."""
    scores = []
    for t in range(actions.shape[1]):
        noise = torch.zeros(len(frames), model.noise_size)
        scores.append(model.score(state, actions[:, t], frames[:, t + 1], noise))
        _, state = model.advance(state, actions[:, t])
        state = model.observe(state, frames[:, t + 1])
    return scores


@torch.no_grad()
def test_streamed_likelihood_equals_parallel() -> None:
    model = tiny_model()
    frames = torch.from_numpy(random_frames(2, LENGTH + 1))
    actions = torch.from_numpy(random_actions(2, LENGTH))
    scores = streamed(model, frames, actions, model.first_state(frames[:, 0]))
    signed = to_signed(frames)
    given = model.conditions(*model.trunk.pad_history(signed[:, :-1], actions))
    expected = model.nll_excess(signed[:, 1:].flatten(0, 1), given).view(2, LENGTH)
    torch.testing.assert_close(torch.stack(scores, dim=1), expected, rtol=1e-4, atol=1e-2)


@torch.no_grad()
def test_the_mean_begins_as_the_newest_frame() -> None:
    model = WorldModel(CONFIG, size=SIZE, action_count=ACTIONS, reward_support=torch.zeros(1))
    model.base.backdrops.uniform_(-1, 1)
    frames = to_signed(torch.from_numpy(random_frames(1, CONFIG.history)))
    mean = model.conditions(frames, torch.zeros((1, CONFIG.history), dtype=torch.int64)).mean
    assert float((mean[0] - frames[0, -1]).abs().max()) < 0.05


@torch.no_grad()
def test_a_backdrop_is_recalled_where_the_newest_frame_is_like_it() -> None:
    model = WorldModel(CONFIG, size=SIZE, action_count=ACTIONS, reward_support=torch.zeros(1))
    base = model.base
    base.recall.bias.zero_()  # no favour for the newest frame
    base.backdrops.copy_(torch.tensor([-1.0, -0.5, 0.5, 1.0]).view(4, 1, 1, 1))
    frames = torch.full((1, CONFIG.history, 3, SIZE, SIZE), 0.46)  # 0.8 sigma off a backdrop
    frames[:, :-1] = 0.5
    mean = model.conditions(frames, torch.zeros((1, CONFIG.history), dtype=torch.int64)).mean
    assert bool(((mean > 0.48) & (mean < 0.5)).all())
    base.recall.bias[4 * (CONFIG.history + 2) : 4 * (CONFIG.history + 3)] = 9  # sure of it
    mean = model.conditions(frames, torch.zeros((1, CONFIG.history), dtype=torch.int64)).mean
    assert float((mean - 0.5).abs().max()) < 1e-3


@torch.no_grad()
def test_a_step_draws_from_the_scored_density() -> None:
    """`step` and the parallel pass draw the same y from the same noise, so the same frame."""
    model = tiny_model()
    frames = torch.from_numpy(random_frames(2, 2))
    actions = torch.from_numpy(random_actions(2, 2))
    state = model.first_state(frames[:, 0])
    _, state = model.advance(state, actions[:, 0])
    state = model.observe(state, frames[:, 1])
    noise = torch.randn(2, model.noise_size)
    shown, reward, p_terminated, _terminated, after = model.step(
        state, actions[:, 1], noise, torch.ones(2)
    )
    given = model.conditions(*model.trunk.pad_history(to_signed(frames), actions))
    last = type(given)(
        type(given.features)(*(f[1::2] for f in given.features)),
        *(part[1::2] for part in given[1:]),
    )
    outcome = model.outcome(model.flow.decode(noise[:, :-1], last, torch.ones(2)), last)
    assert (shown.int() - to_bytes(outcome.frame).int()).abs().max() <= 1
    torch.testing.assert_close(
        p_terminated, torch.sigmoid(outcome.termination_logit), rtol=1e-4, atol=1e-4
    )
    assert torch.equal(after.frames[:, -1], shown)
    assert torch.equal(after.steps, torch.tensor([2, 2]))
    assert set(reward.tolist()) <= {-1.0, 0.0, 1.0}


@torch.no_grad()
def test_termination_is_drawn_with_its_probability() -> None:
    model = tiny_model()
    frame = torch.from_numpy(random_frames(1, 1))[:, 0]
    one = model.first_state(frame)
    many = StreamState(*(part.expand(512, *part.shape[1:]) for part in one))
    noise = torch.zeros(512, model.noise_size)
    noise[:, -1] = torch.randn(512, generator=torch.Generator().manual_seed(0))
    _, _, p, terminated, _ = model.step(
        many, torch.zeros(512, dtype=torch.int64), noise, torch.ones(512)
    )
    assert float(terminated.float().mean()) == pytest.approx(float(p[0]), abs=0.06)


@torch.no_grad()
def test_observe_replaces_the_newest_frame_exactly() -> None:
    """A frame's keys are made by the next step, so a switched frame leaves no trace."""
    model = tiny_model()
    frames = torch.from_numpy(random_frames(1, 3))
    action = torch.tensor([1])
    _, state = model.advance(model.first_state(frames[:, 0]), action)
    direct = model.observe(state, frames[:, 1])
    detour = model.observe(model.observe(state, frames[:, 2]), frames[:, 1])
    noise = torch.zeros(1, model.noise_size)
    results = [model.step(s, action, noise, torch.ones(1)) for s in (direct, detour)]
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][4].keys, results[1][4].keys)


def test_gradients_reach_every_parameter() -> None:
    model = tiny_model()
    frames = to_signed(torch.from_numpy(random_frames(2, LENGTH + 1)))
    actions = torch.from_numpy(random_actions(2, LENGTH))
    given = model.conditions(*model.trunk.pad_history(frames[:, :-1], actions))
    y = frames[:, 1:].flatten(0, 1)
    outcome = model.outcome(y, given)
    loss = model.nll_excess(y, given).sum() + model.base_nll_excess(y, given).sum()
    loss = loss + outcome.frame.square().sum() + outcome.termination_logit.sum()
    (loss + outcome.reward_logits.square().sum()).backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_bytes_survive_the_round_trip() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).repeat(1, 1, 1, 3)
    signed = to_signed(every)
    assert signed.shape == (1, 3, 16, 16)
    assert float(signed.min()) == -1
    assert float(signed.max()) == 1
    assert torch.equal(to_bytes(signed), every)
    assert torch.equal(to_bytes(signed * 1.5).amax(), torch.tensor(255, dtype=torch.uint8))


def test_a_new_model_predicts_no_change() -> None:
    """But for ways, which begin apart; they are for a world that has learned what is open."""
    torch.manual_seed(0)
    model = WorldModel(
        dataclasses.replace(CONFIG, ways=0),
        size=SIZE,
        action_count=ACTIONS,
        reward_support=torch.tensor([0.0, 1.0]),
    )
    frame = torch.from_numpy(random_frames(3, 1))[:, 0]
    noise = torch.zeros(3, model.noise_size)
    with torch.no_grad():
        shown = model.step(
            model.first_state(frame), torch.tensor([0, 1, 2]), noise, torch.zeros(3)
        )[0]
    assert (shown.int() - frame.int()).abs().max() <= 1


def test_no_objects_are_told() -> None:
    with pytest.raises(InputError, match=r"objects=0: expected 1 or more.*model.tracking=0"):
        WorldModel(
            dataclasses.replace(CONFIG, objects=0),
            size=SIZE,
            action_count=ACTIONS,
            reward_support=torch.zeros(1),
        )


def test_waiting_needs_a_tracker() -> None:
    with pytest.raises(InputError, match=r"waiting=true .*tracking=0: .*model.tracking=256"):
        WorldModel(
            dataclasses.replace(CONFIG, tracking=0),
            size=SIZE,
            action_count=ACTIONS,
            reward_support=torch.zeros(1),
        )
