"""A session around a fake world and real Bounce: switching, rewinding, luck, takeover."""

import tracemalloc

import numpy as np
import pytest
from sessions import bounce_playable, make_session, play

from worldflow.envs.start import Context
from worldflow.envs.world_env import WorldEnv
from worldflow.errors import InputError
from worldflow.noise import standard_normal


def same(frames, others):
    return len(frames) == len(others) and all(map(np.array_equal, frames, others))


@pytest.fixture
def session(tmp_path):
    return make_session(tmp_path)


def test_a_dream_is_that_of_the_env_with_the_same_seed(session):
    env = WorldEnv(bounce_playable())
    first, _ = env.reset(seed=3)
    assert np.array_equal(session.frame, first)
    dreamed = play(session, 12)
    assert same(dreamed, [env.step(np.int64(a))[0] for a in (1, 2, 0, 1, 1, 2, 0, 0, 2, 1, 2, 0)])


def test_another_seed_is_another_game_and_the_same_seed_the_same(session):
    frames = play(session, 5)
    session.restart()
    assert session.seed == 4
    assert not same(play(session, 5), frames)
    session.restart(3)
    assert same(play(session, 5), frames)


def test_the_dream_goes_on_from_the_real_frames_without_a_reset(tmp_path):
    playable = bounce_playable()
    session = make_session(tmp_path, playable, source="real")
    real = play(session, 9)
    session.switch("dream")
    assert np.array_equal(session.frame, real[-1])
    assert session.figures.step == 9
    luck = session.luck
    (dreamed,) = play(session, 1, first=9)
    # What the world would dream behind the same real frames, told by the engine itself.
    reset = {"frames": np.stack([session._stage.frames[0], *real]), "actions": []}
    state = playable.engine.start(reset["frames"][None], np.array([[1, 2, 0, 1, 1, 2, 0, 0, 2]]))

    noise = standard_normal(*luck, playable.engine.noise_size)[None]
    expected = playable.engine.step(state, np.array([1]), noise, np.ones(1, np.float32))
    assert np.array_equal(dreamed, expected.frame[0])


def test_back_in_reality_the_real_game_goes_on_from_where_it_stood(tmp_path):
    plain = make_session(tmp_path, source="real")
    undisturbed = play(plain, 20)
    session = make_session(tmp_path, source="real")
    frames = play(session, 10)
    session.switch("dream")
    play(session, 7)
    session.switch("real")
    assert np.array_equal(session.frame, frames[-1])
    assert same(frames + play(session, 10, first=10), undisturbed)


def test_split_view_plays_both_by_the_same_actions(tmp_path):
    real = play(make_session(tmp_path, source="real"), 12)
    session = make_session(tmp_path, source="split")
    dreamed = []
    for step in range(12):
        dreamed += play(session, 1, first=step)
        assert np.array_equal(session.reality().frame, real[step])
    assert not same(dreamed, real)


def test_real_frames_are_scored_too(tmp_path):
    session = make_session(tmp_path, source="real")
    play(session, 4)
    assert [step for step, _ in session.surprise] == [1, 2, 3, 4]


@pytest.mark.parametrize("source", ["real", "dream", "split"])
@pytest.mark.parametrize("steps", [1, 4, 5, 13, 23])
def test_rewound_with_the_same_luck_the_same_actions_give_the_same_frames(tmp_path, source, steps):
    session = make_session(tmp_path, source=source)
    frames, before = play(session, 23), session.figures
    assert session.rewind(steps, same_luck=True) == steps
    assert session.figures.step == 23 - steps
    if steps < 23:
        assert np.array_equal(session.frame, frames[22 - steps])
    assert same(play(session, steps, first=23 - steps), frames[23 - steps :])
    assert session.figures == before


def test_the_same_luck_with_other_actions_is_another_future(session):
    frames = play(session, 10)
    session.rewind(5, same_luck=True)
    assert not same(play(session, 5), frames[5:])


def test_rewound_without_it_a_dream_has_luck_of_its_own_each_time(session):
    futures = [play(session, 10)[5:]]
    for _ in range(3):
        session.rewind(5)
        futures.append(play(session, 5, first=5))
    for i in range(4):
        for j in range(i):
            assert not same(futures[i], futures[j])


def test_rewinding_goes_back_through_switches_takeovers_and_temperatures(tmp_path):
    session = make_session(tmp_path, source="real")
    play(session, 7)
    session.switch("dream")
    session.temperature = 0.5
    play(session, 4)
    session.cast.hand_over(0)
    frames = play(session, 6)
    session.cast.hand_over(0)
    session.switch("real")
    real = play(session, 3)
    session.rewind(3)
    assert session.source == "real"
    assert same(play(session, 3), real)  # the real game's luck is its own
    session.rewind(3 + 1)
    assert session.source == "dream"
    assert np.array_equal(session.frame, frames[-2])
    session.rewind(11)
    assert session.source == "real"
    assert session.figures.step == 5


def test_a_game_that_has_begun_since_is_played_anew(tmp_path):
    session = make_session(tmp_path)
    play(session, 3)
    session.switch("real")
    first = play(session, 4)
    session.rewind(6)
    session.switch("real")
    assert same(play(session, 4), first)


def test_rewinding_reaches_into_the_game_before(session):
    frames = play(session, 6)
    session.restart()
    play(session, 2)
    session.rewind(3, same_luck=True)
    assert (session.seed, session.figures.step) == (3, 5)
    assert same(play(session, 1, first=5), frames[5:])


def test_the_way_back_grows_with_play_and_stops_at_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr("worldflow.demos.session.REWIND_BYTES", 0)
    monkeypatch.setattr("worldflow.demos.session.REWIND_SECONDS", (3, 9))
    session = make_session(tmp_path)
    sizes = []
    for _ in range(14):  # seconds; a mark has the frames of the eight before it
        play(session, 5)
        sizes.append(session.ring_bytes)
    assert sizes[0] < sizes[1] < sizes[2] < sizes[12] == sizes[13]
    assert sizes[2] >= 3 * 5 * session.frame.nbytes


def test_the_way_back_is_counted_to_the_frame(tmp_path):
    """Each array once, however many marks hold it; and those of the real game, too."""
    session = make_session(tmp_path)
    play(session, 15)
    session.switch("split")
    play(session, 15)
    tracemalloc.start()
    before, counted = tracemalloc.get_traced_memory()[0], session.ring_bytes
    for _ in range(8):
        session.switch("real")  # each begins anew, with copies of the frames shown last
        play(session, 3)
        session.rewind(1)
        session.switch("dream")
        play(session, 3)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert session.ring_bytes - counted == pytest.approx(grown, rel=0.1)


def test_the_way_back_has_an_end(session):
    play(session, 8)
    assert session.rewind(1000) == 8
    assert session.rewind(10) == 0


def test_a_policy_takes_over_and_gives_back(session):
    session.cast.hand_over(1)
    assert session.cast.controller == "scripted"
    session.cast.next_understudy(1)
    assert session.cast.controller == "random"
    play(session, 30)
    actions = set(session._stage.actions)
    assert actions == {0, 1, 2}
    session.cast.hand_over(1)
    session.step(2)
    assert session._stage.actions[-1] == 2


def test_a_dream_is_cut_off_where_the_card_says(tmp_path):
    session = make_session(tmp_path, bounce_playable(max_episode_steps=6))
    play(session, 9)
    assert (session.figures.step, session.figures.over) == (6, "time is up")


def test_a_dream_that_ends_stays_until_the_next_begins(tmp_path):
    session = make_session(tmp_path, bounce_playable(p_terminated=1.0))
    assert len({frame.tobytes() for frame in play(session, 3)}) == 1
    assert session.figures.over == "game over"


def test_dreams_begin_at_the_start_asked_for(tmp_path):
    frames = np.full((3, 64, 64, 3), 77, np.uint8)
    session = make_session(tmp_path, start=Context(frames, np.zeros(2, np.int64)))
    assert (session.frame == 77).all()
    play(session, 3)
    session.restart()
    assert (session.frame == 77).all()


def test_without_the_real_game_the_dream_goes_on(tmp_path):
    playable = bounce_playable()
    session = make_session(tmp_path, playable)
    session._make_real = lambda: (_ for _ in ()).throw(InputError("no such game here"))
    play(session, 2)
    with pytest.raises(InputError, match="no such game"):
        session.switch("real")
    assert session.source == "dream"
    play(session, 2)
    assert session.figures.step == 4
