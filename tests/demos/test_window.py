"""The window under SDL's dummy driver: keys go in as events, drawn pictures come out."""

import math
from types import SimpleNamespace
from typing import NamedTuple

import gymnasium
import numpy as np
import pygame
import pytest

from worldflow.demos import window as window_module
from worldflow.demos.hud import Figures, hud_lines
from worldflow.demos.window import Window, WindowConfig, why_no_display
from worldflow.errors import InputError

KEY_MAP = {"": 0, "left": 1, "right": 2, "space": 3, "left+space": 4}
NAMES = ("NOOP", "LEFT", "RIGHT", "FIRE", "LEFTFIRE")
START = 99  # the shade of a start frame


class ShadeEnv(gymnasium.Env):
    """Every frame is a flat shade that tells the action it followed: 10 + 20 x action."""

    observation_space = gymnasium.spaces.Box(0, 255, (8, 10, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(5)

    def __init__(self, length=10**6, info=None):
        self.length, self.info = length, info or {}
        self.actions, self.seeds, self.left = [], [], 0

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        self.left = self.length
        return np.full((8, 10, 3), START, np.uint8), {}

    def step(self, action):
        assert self.left > 0, "stepped after the end"
        self.left -= 1
        self.actions.append(int(action))
        frame = np.full((8, 10, 3), 10 + 20 * int(action), np.uint8)
        return frame, 1.0, self.left == 0, False, self.info


class Drawn(NamedTuple):
    """One picture that reached the screen."""

    shade: int  # of the game's picture, at a corner that no text covers
    steps: int  # that the env had taken
    seconds: float
    screen: np.ndarray  # (width, height, 3)


def press(key):
    return pygame.event.Event(pygame.KEYDOWN, key=key, unicode="")


def release(key):
    return pygame.event.Event(pygame.KEYUP, key=key)


def tap(key):
    return [press(key), release(key)]


QUIT = [pygame.event.Event(pygame.QUIT)]


@pytest.fixture
def play(monkeypatch):
    """Runs a window; `script[n]` are the events that come right after the n-th picture."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")

    def run(env, script=None, **config):
        drawn = []
        script = script or {}

        def flip():
            screen = pygame.surfarray.array3d(pygame.display.get_surface())
            shade = int(screen[2, 2, 0])
            drawn.append(Drawn(shade, len(env.actions), window_module.time.perf_counter(), screen))
            for event in script.get(len(drawn), []):
                pygame.event.post(event)

        monkeypatch.setattr(pygame.display, "flip", flip)
        settings = {"frame_rate": 1000, "scale": 20, "steps": 0} | config
        Window(env, WindowConfig("test", KEY_MAP, NAMES, **settings)).run()
        return drawn

    return run


@pytest.fixture
def clock(monkeypatch):
    """Time passes only where the window waits for it: pace does not depend on this machine."""
    clock = SimpleNamespace(now=0.0, quit_at=math.inf)

    def wait(milliseconds):
        clock.now += milliseconds / 1000
        return QUIT[0] if clock.now >= clock.quit_at else pygame.event.poll()

    monkeypatch.setattr(pygame.event, "wait", wait)
    monkeypatch.setattr(window_module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def test_the_first_picture_after_a_press_follows_that_key(play):
    env = ShadeEnv()
    script = {3: [press(pygame.K_LEFT)], 6: [release(pygame.K_LEFT), press(pygame.K_RIGHT)]}
    drawn = play(env, script, steps=8)
    assert [picture.shade for picture in drawn[:3]] == [START, 10, 10]
    assert [picture.shade for picture in drawn[3:6]] == [30, 30, 30]  # LEFT, at once
    assert [picture.shade for picture in drawn[6:]] == [50, 50, 50]  # RIGHT, at once
    assert env.actions == [0, 0, 1, 1, 1, 2, 2, 2]


def test_each_step_is_drawn_once_and_before_the_next(play):
    drawn = play(ShadeEnv(), steps=5)
    assert [picture.steps for picture in drawn] == [0, 1, 2, 3, 4, 5]


def test_a_tap_between_two_steps_is_not_lost(play):
    env = ShadeEnv()
    play(env, {2: tap(pygame.K_SPACE)}, steps=4)
    assert env.actions == [0, 3, 0, 0]


def test_chords_and_wasd(play):
    env = ShadeEnv()
    play(env, {1: [press(pygame.K_a), press(pygame.K_SPACE)]}, steps=2)
    assert env.actions == [4, 4]


def test_pause_stops_the_game_and_single_step_takes_one(play):
    env = ShadeEnv()
    pause, one = tap(pygame.K_p), tap(pygame.K_PERIOD)
    drawn = play(env, {3: pause, 4: [*tap(pygame.K_LEFT), *one], 5: pause, 9: QUIT})
    assert [picture.steps for picture in drawn[:5]] == [0, 1, 2, 2, 3]
    assert drawn[-1].steps > 3  # it goes on
    assert env.actions[:3] == [0, 0, 1]


def test_while_paused_nothing_moves(play, clock):
    env = ShadeEnv()
    clock.quit_at = 60.0
    play(env, {3: tap(pygame.K_p)})
    assert len(env.actions) == 2


@pytest.mark.parametrize("key", [pygame.K_ESCAPE, pygame.K_q])
def test_quit_keys_quit_before_another_step(play, key):
    env = ShadeEnv()
    play(env, {4: tap(key)})
    assert len(env.actions) == 3
    assert not pygame.display.get_init()


def test_closing_the_window_quits(play):
    env = ShadeEnv()
    play(env, {4: QUIT})
    assert len(env.actions) == 3


def test_reset_begins_a_new_episode_with_new_luck(play):
    env = ShadeEnv()
    drawn = play(env, {4: tap(pygame.K_r)}, seed=7, steps=5)
    assert [picture.shade for picture in drawn] == [START, 10, 10, 10, START, 10, 10]
    assert env.seeds == [7, None]


def test_a_key_pressed_before_a_reset_does_not_play_in_the_new_episode(play):
    env = ShadeEnv()
    play(env, {2: [*tap(pygame.K_SPACE), *tap(pygame.K_r)]}, steps=3)
    assert env.actions == [0, 0, 0]


def test_game_over_is_shown_and_the_next_episode_begins_by_itself(play, clock):
    drawn = play(ShadeEnv(length=3), steps=4)
    assert [picture.shade for picture in drawn] == [START, 10, 10, 10, START, 10]
    pause = drawn[4].seconds - drawn[3].seconds
    assert pause == pytest.approx(window_module.GAME_OVER_SECONDS, abs=0.01)
    middle = [picture.screen[60:140, 60:100] for picture in drawn[2:4]]
    assert (middle[0] != middle[1]).any()  # the panel


def test_game_over_ends_at_once_on_reset(play, monkeypatch):
    monkeypatch.setattr(window_module, "GAME_OVER_SECONDS", 60.0)
    drawn = play(ShadeEnv(length=3), {4: tap(pygame.K_r)}, steps=4)
    assert [picture.shade for picture in drawn] == [START, 10, 10, 10, START, 10]


def test_unknown_keys_and_clicks_do_nothing(play):
    env = ShadeEnv()
    click = pygame.event.Event(pygame.MOUSEBUTTONDOWN, pos=(3, 3), button=1)
    drawn = play(env, {2: [*tap(pygame.K_F9), *tap(pygame.K_LSHIFT), click]}, steps=3)
    assert env.actions == [0, 0, 0]
    assert len(drawn) == 4


def test_the_frame_rate_limit_holds_and_minus_slows_it_down(play, clock):
    seconds = [picture.seconds for picture in play(ShadeEnv(), frame_rate=50, steps=20)]
    assert np.mean(np.diff(seconds[1:])) == pytest.approx(1 / 50, rel=0.01)
    script = {2: tap(pygame.K_MINUS)}
    seconds = [p.seconds for p in play(ShadeEnv(), script, frame_rate=50, steps=20)]
    assert np.mean(np.diff(seconds[-10:])) == pytest.approx(1 / 40, rel=0.01)


def test_help_is_drawn_over_the_picture_and_goes_away(play):
    drawn = play(ShadeEnv(), {2: tap(pygame.K_F1), 4: tap(pygame.K_F1), 6: QUIT}, frame_rate=20)
    plain = drawn[1].screen[:, :160]
    assert any((picture.screen[:, :160] != plain).any() for picture in drawn[2:4])
    assert (drawn[-1].screen[:, :160] == plain).all()


def test_pixels_stay_square_blocks_of_whole_pixels_in_any_window(play, monkeypatch):
    env = ShadeEnv()
    frame = np.random.default_rng(0).integers(0, 255, (8, 10, 3), np.uint8)
    monkeypatch.setattr(env, "reset", lambda seed=None, options=None: (frame, {}))
    for scale in (1, 7):
        drawn = play(env, {1: QUIT}, scale=scale)
        picture = drawn[0].screen.swapaxes(0, 1)[: 8 * scale, : 10 * scale]
        np.testing.assert_array_equal(picture, frame.repeat(scale, 0).repeat(scale, 1))


def test_an_env_without_pictures_is_bad_input():
    with pytest.raises(InputError, match="uint8 frames"):
        Window(gymnasium.make("CartPole-v1"), WindowConfig("test", KEY_MAP, NAMES, 15))


def test_hud_tells_pace_score_and_what_the_world_says():
    figures = Figures()
    figures.add(action=1, reward=1.0, info={})
    figures.add(action=2, reward=-2.5, info={"p_terminated": 0.25, "nll_excess": 8 * math.log(2)})
    score, world = hud_lines(figures, 15, NAMES)
    assert "step 2" in score
    assert "reward -2.5" in score
    assert "return -1.5" in score
    assert world == "RIGHT   end 25.0%   surprise +8.0 bits"


def test_no_display_is_found_out(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    assert "dummy" in why_no_display()
    monkeypatch.delenv("SDL_VIDEODRIVER")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert "DISPLAY" in why_no_display()
    monkeypatch.setenv("DISPLAY", ":987")  # nobody is there
    assert why_no_display()
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    assert why_no_display()
    assert not pygame.display.get_init()
