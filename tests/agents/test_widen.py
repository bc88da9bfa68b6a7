"""A world that meets new rewards: what it knew, it keeps."""

import torch
from recorded import HEADER, record
from tiny_world import SIZE, random_actions, random_frames, tiny_model, tiny_world

from worldflow.agents.widen import widened, with_rewards
from worldflow.dataset import open_dataset


def stepped(model):
    state = model.first_state(torch.from_numpy(random_frames(8, 1)[:, 0]))
    torch.manual_seed(0)
    noise = torch.randn(8, model.noise_size)
    with torch.no_grad():
        return model.step(state, torch.from_numpy(random_actions(8, 1)[:, 0]), noise, torch.ones(8))


def test_what_it_knew_it_keeps() -> None:
    model = tiny_model(seed=2)  # of more rewards than one
    wider = with_rewards(model, torch.tensor([-1.0, 0.0, 0.5, 1.0, 7.0]))
    before, after = stepped(model), stepped(wider)
    for one, other in zip(before[:4], after[:4], strict=True):  # frame, reward, end
        torch.testing.assert_close(other, one)
    assert len(set(before[1].tolist())) > 1


def test_a_new_reward_can_be_chosen() -> None:
    wider = with_rewards(tiny_model(), torch.tensor([-1.0, 0.0, 1.0, 7.0]))
    with torch.no_grad():
        wider.outcome.verdict.bias[3] = 1000.0
    assert (stepped(wider)[1] == 7.0).all()


def test_the_rewards_are_those_of_the_data(tmp_path) -> None:
    record(tmp_path / "a.episode", 9, HEADER, size=SIZE)
    tiny_world().save(tmp_path / "world.safetensors")
    dataset = open_dataset(tmp_path / "a.episode")
    world = widened(tmp_path / "world.safetensors", dataset)
    expected = torch.unique(torch.tensor([0.0, *dataset.reward_values]))
    assert torch.equal(world.model.reward_support, expected)
