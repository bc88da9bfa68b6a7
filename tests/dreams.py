"""Small rollouts of a fake world, for the tests of the env."""

import numpy as np
from fake_engine import make_playable

from worldflow.envs.world_env import WorldEnv

SMALL = (12, 16, 3)
FRAME = np.zeros(SMALL, np.uint8)


def small_env(p_terminated=0.0, max_episode_steps=None, **settings):
    playable = make_playable(SMALL, p_terminated=p_terminated)
    return WorldEnv(playable, max_episode_steps=max_episode_steps, **settings)


def play(env, count, actions=(1, 0, 2), reset=True):
    """Frames, rewards, ends and infos of `count` steps, resetting where an episode ends."""
    told = []
    for step in range(count):
        if reset and (step == 0 or told[-1][2] or told[-1][3]):
            env.reset()
        told.append(env.step(actions[step % len(actions)]))
    return told


def same(told, others):
    return len(told) == len(others) and all(
        np.array_equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(told, others, strict=True)
    )
