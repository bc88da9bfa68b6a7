"""Gymnasium's own player plays a learned world."""

import pygame
import pytest
from dreams import small_env
from gymnasium.utils.play import play

from worldflow.envs.keys import key_name, keys_to_action


@pytest.mark.parametrize("keys", [{(pygame.K_LEFT,): 2}, None])  # None: the world's own
def test_gymnasiums_own_play_works_with_the_env(monkeypatch, keys):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    actions = []

    def after_step(before, after, action, reward, terminated, truncated, info):
        actions.append(action)
        if len(actions) == 3:
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_LEFT, unicode=""))
        if len(actions) == 6:
            pygame.event.post(pygame.event.Event(pygame.QUIT))

    env = small_env(render_mode="rgb_array")
    play(env, keys_to_action=keys, noop=0, callback=after_step, fps=500, seed=1)
    assert actions[:3] == [0, 0, 0]
    assert 2 in actions


def test_keys_by_number_are_pygames():
    names = ("left", "right", "up", "down", "space", "return", "tab", "x", ".")
    told = keys_to_action({"": 0, **{name: at for at, name in enumerate(names)}, "up+x": 99})
    codes = [pygame.K_LEFT, pygame.K_RIGHT, pygame.K_UP, pygame.K_DOWN, pygame.K_SPACE]
    codes += [pygame.K_RETURN, pygame.K_TAB, pygame.K_x, pygame.K_PERIOD]
    assert told == {(code,): at for at, code in enumerate(codes)} | {(pygame.K_UP, pygame.K_x): 99}
    assert [key_name(code) for code in codes] == list(names)


def test_a_key_without_a_number_is_left_out():
    assert keys_to_action({"f5": 1, "left+f5": 2, "a": 3}) == {(97,): 3}
    assert key_name(0x4000003E) == "key 1073741886"
    assert key_name(" ") == "space"
