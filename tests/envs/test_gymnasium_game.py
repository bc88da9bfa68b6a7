"""Any Gymnasium id: pictures from observations or rendering, and clear refusals."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from worldflow.envs.source import make_source
from worldflow.errors import InputError


class Stripes(gymnasium.Env[Any, Any]):
    """A picture whose left half is the last action times 100; three lives, one lost a step."""

    metadata = {"render_modes": [], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        shape: tuple[int, ...] = (32, 48, 3),
        actions: spaces.Space[Any] | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.action_space = actions or spaces.Discrete(3, start=1)

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        self.lives = 3
        return np.zeros(self.observation_space.shape, np.uint8), {"lives": 3}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        picture = np.zeros(self.observation_space.shape, np.uint8)
        picture[:, :24] = 100 * (action - 1)
        self.lives -= 1
        return picture, 2.5, self.lives == 0, False, {"lives": self.lives}


class KeyedStripes(Stripes):
    def get_keys_to_action(self) -> dict[Any, int]:
        return {(): 1, (ord("a"),): 2, (ord("a"), ord(" ")): 3}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    variants: dict[str, tuple[type[Stripes], dict[str, Any]]] = {
        "Stripes": (Stripes, {}),
        "GreyStripes": (Stripes, {"shape": (32, 48)}),
        "KeyedStripes": (KeyedStripes, {}),
        "Symbols": (Stripes, {"shape": (4, 4)}),
        "Smooth": (Stripes, {"actions": spaces.Box(-1, 1, (1,))}),
    }
    for name, (env, kwargs) in variants.items():
        gymnasium.register(f"{name}-v0", env, kwargs=kwargs)
    yield
    for name in variants:
        del gymnasium.registry[f"{name}-v0"]


@pytest.mark.parametrize("env_id", ["Stripes-v0", "GreyStripes-v0"])
def test_pictures_are_resized_and_actions_count_from_zero(env_id: str) -> None:
    game = make_source(env_id)
    frame, info = game.reset(seed=0)
    assert info == {"life_lost": False}
    frame, reward, terminated, truncated, info = game.step(2)
    assert frame.shape == (64, 64, 3)
    assert (frame[:, :32] == 200).all()
    assert (frame[:, 32:] == 0).all()
    assert (reward, terminated, truncated, info) == (2.5, False, False, {"life_lost": True})
    assert game.card.frame_rate == 10
    assert len(game.card.action_names) == 3


def test_without_pictures_the_rendering_is_learned() -> None:
    game = make_source("CartPole-v1")
    first, _ = game.reset(seed=0)
    again, _ = game.reset(seed=0)
    assert np.array_equal(first, again)
    assert first.shape == (64, 64, 3)
    assert first.std() > 0
    for _ in range(8):
        frame, *_ = game.step(1)
    assert not np.array_equal(frame, first)
    assert game.card.key_map["left"] == 0
    assert game.card.key_map["right"] == 1
    assert game.card.max_episode_steps == 500


def test_keys_are_the_games_own_where_it_names_them() -> None:
    assert make_source("KeyedStripes-v0").card.key_map == {"": 0, "a": 1, "a+space": 2}
    assert make_source("Stripes-v0").card.key_map["3"] == 2


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("Smooth-v0", "actions are Box"),
        ("Symbols-v0", "no picture"),
        ("CartPoel-v1", "did you mean 'CartPole-v1'"),
        ("no_such_module:Game-v0", "no module no_such_module"),
        ("qqqqqq", "no such game"),
    ],
)
def test_what_cannot_be_learned_is_refused(env_id: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_source(env_id)
