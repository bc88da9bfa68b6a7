"""Gymnasium's own player plays a learned world."""

import pygame
from dreams import small_env
from gymnasium.utils.play import play


def test_gymnasiums_own_play_works_with_the_env(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    actions = []

    def after_step(before, after, action, reward, terminated, truncated, info):
        actions.append(action)
        if len(actions) == 3:
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_LEFT, unicode=""))
        if len(actions) == 6:
            pygame.event.post(pygame.event.Event(pygame.QUIT))

    env = small_env(render_mode="rgb_array")
    keys = {(pygame.K_LEFT,): 2}
    play(env, keys_to_action=keys, noop=0, callback=after_step, fps=500, seed=1)
    assert actions[:3] == [0, 0, 0]
    assert 2 in actions
