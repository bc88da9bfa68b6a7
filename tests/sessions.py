"""Sessions for tests: a fake world beside the real game of Bounce."""

from dataclasses import replace

from fake_engine import make_playable

from worldflow.demos.cast import make_cast
from worldflow.demos.recorder import Recorder
from worldflow.demos.session import Session, SessionConfig

ACTIONS = (1, 2, 0, 1, 1, 2, 0, 0, 2)


def bounce_playable(p_terminated=0.0, max_episode_steps=10_000):
    """A fake world that says it has learned Bounce; `frame_rate` 5."""
    playable = make_playable(p_terminated=p_terminated)
    card = replace(
        playable.card,
        game="bounce",
        settings={"size": 64},
        frame_rate=5,
        max_episode_steps=max_episode_steps,
    )
    return replace(playable, card=card)


def make_session(folder, playable=None, **config):
    playable = playable or bounce_playable()
    settings = {"seed": 3, "world": "fake"} | config
    cast = make_cast(playable.card)
    return Session(playable, SessionConfig(**settings), cast, Recorder(folder, ()))


def play(session, count, first=0):
    """Take `count` steps; returns the frames."""
    frames = []
    for step in range(first, first + count):
        session.step(ACTIONS[step % len(ACTIONS)])
        session.appraise()
        frames.append(session.frame)
    return frames
