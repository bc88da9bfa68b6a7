"""The window under SDL's dummy driver: keys go in as events, drawn pictures come out."""

from types import SimpleNamespace
from typing import NamedTuple

import gymnasium
import numpy as np
import pygame
import pytest

from worldflow.demos import screen as screen_module
from worldflow.demos import window as window_module
from worldflow.demos.conductor import Pace
from worldflow.demos.env_game import EnvGame
from worldflow.demos.hud import MIN_SPAN_BITS, draw_graph, hud_lines
from worldflow.demos.picture import panels
from worldflow.demos.slider import Slider
from worldflow.demos.view import View
from worldflow.demos.window import Window, WindowConfig, why_no_display
from worldflow.errors import InputError

KEY_MAP = {"": 0, "left": 1, "right": 2, "space": 3, "left+space": 4}
NAMES = ("NOOP", "LEFT", "RIGHT", "FIRE", "LEFTFIRE")
START = 99  # the shade of a start frame
QUIT = pygame.event.Event(pygame.QUIT)


class ShadeEnv(gymnasium.Env):
    """Every frame is a flat shade that tells the action it followed: 10 + 20 x action."""

    observation_space = gymnasium.spaces.Box(0, 255, (8, 10, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(5)

    def __init__(self):
        self.actions, self.seeds = [], []

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        return np.full((8, 10, 3), START, np.uint8), {}

    def step(self, action):
        self.actions.append(int(action))
        return np.full((8, 10, 3), 10 + 20 * int(action), np.uint8), 1.0, False, False, {}


class Drawn(NamedTuple):
    """One picture that reached the screen."""

    shade: int  # of the game's picture, at a corner that no text covers
    steps: int  # that the env had taken
    screen: np.ndarray  # (width, height, 3)


def press(key, typed=""):
    return pygame.event.Event(pygame.KEYDOWN, key=key, unicode=typed)


def release(key):
    return pygame.event.Event(pygame.KEYUP, key=key)


def tap(key, typed=""):
    return [press(key, typed), release(key)]


@pytest.fixture
def env():
    return ShadeEnv()


@pytest.fixture
def play(env, monkeypatch):
    """Runs a window. `script` are (condition on what is drawn, events to post then), in order."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")

    def run(*script, seed=None, limit=2000, **config):
        drawn, left = [], list(script)

        def flip():
            screen = pygame.surfarray.array3d(pygame.display.get_surface())
            drawn.append(Drawn(int(screen[2, 2, 0]), len(env.actions), screen))
            if left and left[0][0](drawn[-1]):
                for event in left.pop(0)[1]:
                    pygame.event.post(event)
            assert len(drawn) < limit, f"still waiting for {left[:1]}"

        monkeypatch.setattr(pygame.display, "flip", flip)
        game = EnvGame(env, "test", KEY_MAP, NAMES, 100, seed)
        Window(game, WindowConfig(**{"scale": 20} | config)).run()
        return drawn

    return run


def shows(action):
    return lambda drawn: drawn.shade == 10 + 20 * action


def always(drawn):
    return True


def after(steps):
    return lambda drawn: drawn.steps >= steps


def test_what_is_drawn_after_a_press_follows_that_key(play, env):
    drawn = play(
        (shows(0), [press(pygame.K_LEFT)]),
        (shows(1), [release(pygame.K_LEFT), press(pygame.K_RIGHT)]),
        (shows(2), [QUIT]),
    )
    shades = [picture.shade for picture in drawn]
    order = [shade for i, shade in enumerate(shades) if i == 0 or shade != shades[i - 1]]
    assert order in ([START, 10, 30, 50], [10, 30, 50])
    assert env.actions == sorted(env.actions)


def test_a_tap_between_two_steps_is_not_lost(play, env):
    play((after(2), tap(pygame.K_SPACE)), (after(6), [QUIT]))
    assert env.actions.count(3) == 1


def test_chords_and_wasd(play, env):
    play((always, [press(pygame.K_a), press(pygame.K_SPACE)]), (shows(4), [QUIT]))
    assert 4 in env.actions


def test_pause_stops_the_game_and_drawing_goes_on(play, env):
    def paused(drawn, seen=[]):  # noqa: B006
        seen.append(drawn.steps)
        return len(seen) > 30 and len(set(seen[-20:])) == 1

    drawn = play(
        (after(3), tap(pygame.K_p)),
        (paused, [*tap(pygame.K_LEFT), *tap(pygame.K_n, "n")]),
        (shows(1), [QUIT]),
    )
    assert [action for action in env.actions if action] == [1]
    assert len(drawn) > 20


@pytest.mark.parametrize("events", [tap(pygame.K_ESCAPE), tap(pygame.K_q, "q"), [QUIT]])
def test_quitting_leaves_nothing_open(play, events):
    play((after(2), events))
    assert not pygame.display.get_init()


def test_it_quits_after_the_steps_asked_for(play, env):
    play(steps=5)
    assert len(env.actions) == 5


def test_a_seed_is_typed(play, env):
    typed = [*tap(pygame.K_g, "g"), *tap(pygame.K_4, "4"), *tap(pygame.K_9, "9")]
    typed += [*tap(pygame.K_BACKSPACE), *tap(pygame.K_2, "2"), *tap(pygame.K_RETURN, "\r")]
    play((after(1), typed), (lambda drawn: len(env.seeds) > 1, [QUIT]), seed=7)
    assert env.seeds == [7, 42]


def test_an_error_of_the_game_is_the_windows(play, env, monkeypatch):
    monkeypatch.setattr(env, "step", lambda action: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        play()
    assert not pygame.display.get_init()


def test_losing_the_keyboard_releases_all_keys(play, env):
    lost = pygame.event.Event(pygame.WINDOWFOCUSLOST)
    play((always, [press(pygame.K_LEFT)]), (shows(1), [lost]), (shows(0), [QUIT]))


def test_a_pad_plays_and_commands(play, env):
    def axis(value):
        return pygame.event.Event(pygame.JOYAXISMOTION, axis=0, value=value, instance_id=0)

    button = pygame.event.Event(pygame.JOYBUTTONDOWN, button=0, instance_id=0)
    hat = pygame.event.Event(pygame.JOYHATMOTION, hat=0, value=(1, 0), instance_id=0)
    start = pygame.event.Event(pygame.JOYBUTTONDOWN, button=7, instance_id=0)
    play(
        (always, [axis(-0.9)]),
        (shows(1), [button]),
        (shows(4), [axis(0.1)]),
        (shows(3), [hat]),
        (shows(2), [start]),  # pause
        (always, [QUIT]),
    )


def test_hud_and_help_come_and_go(play):
    """Paused, a picture is a function of what is shown; a key is pressed once it stands still."""
    kinds = []

    def still(drawn):
        kinds.append(drawn.screen.tobytes())
        return len(kinds) > 4 and len(set(kinds[-4:])) == 1

    steps = [tap(pygame.K_p), tap(pygame.K_h, "h"), tap(pygame.K_F1), tap(pygame.K_F1)]
    play((after(1), steps[0]), *((still, events) for events in steps[1:]), (still, [QUIT]))
    order = [kind for i, kind in enumerate(kinds) if i == 0 or kind != kinds[i - 1]]
    with_hud, without, helped, again = order[-4:]
    assert without == again
    assert len({with_hud, without, helped}) == 3


def test_pixels_stay_square_blocks_of_whole_pixels_in_any_window(play, env, monkeypatch):
    frame = np.random.default_rng(0).integers(0, 255, (8, 10, 3), np.uint8)
    monkeypatch.setattr(env, "reset", lambda seed=None, options=None: (frame, {}))
    monkeypatch.setattr(window_module.Conductor, "start", lambda self: None)
    for scale in (1, 7):
        drawn = play((always, [QUIT]), scale=scale)
        picture = drawn[0].screen.swapaxes(0, 1)[: 8 * scale, : 10 * scale]
        np.testing.assert_array_equal(picture, frame.repeat(scale, 0).repeat(scale, 1))


def test_a_held_key_pauses_once_but_goes_slower_again_and_again(play, env, monkeypatch):
    """A keyboard repeats a held key: KEYDOWN again and again, without KEYUP."""
    orders = []
    monkeypatch.setattr(window_module.Conductor, "order", lambda self, name: orders.append(name))
    held = [*[press(pygame.K_p)] * 3, release(pygame.K_p), press(pygame.K_p)]
    play((always, [*held, *[press(pygame.K_MINUS, "-")] * 3, *tap(pygame.K_ESCAPE)]))
    assert orders == ["pause", "pause", "slower", "slower", "slower"]


def test_full_screen_and_back_to_the_size_before(monkeypatch):
    """SDL's dummy driver cannot come back, so that its calls are looked at."""
    clock, calls = SimpleNamespace(now=0.0), []
    monkeypatch.setattr(screen_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(pygame.display, "set_mode", lambda size, flags: calls.append((size, flags)))
    monkeypatch.setattr(pygame.display, "get_window_size", lambda: (321, 123))
    monkeypatch.setattr(pygame.display, "get_desktop_sizes", lambda: [(800, 600)] * 2)
    screen = screen_module.Screen((8, 10), 20)
    for now in (1.0, 1.5, 2.1, 3.0, 5.0):  # two presses of a held key, as the change repeats them
        clock.now = now
        screen.ask_fullscreen()
    full, back = ((0, 0), pygame.FULLSCREEN), ((321, 123), pygame.RESIZABLE)
    assert calls == [full, back, full]


def test_f11_fills_the_screen(play):
    drawn = play((always, tap(pygame.K_F11)), (always, [QUIT]))
    first, full = (drawn[at].screen.shape[:2] for at in (0, -1))
    assert full[0] > first[0]
    assert full[1] > first[1]


def test_it_may_begin_on_the_full_screen(play):
    drawn = play((always, [QUIT]), fullscreen=True)
    assert drawn[0].screen.shape[:2] != play((always, [QUIT]))[0].screen.shape[:2]


def test_a_slider_follows_the_mouse_that_took_it():
    pygame.font.init()
    slider, screen = Slider(), pygame.Surface((400, 40))

    def mouse(kind, x, y=10, **more):
        return slider.handle(pygame.event.Event(kind, pos=(x, y), **more))

    slider.draw(screen, pygame.Rect(100, 0, 300, 20), 1.0)
    assert mouse(pygame.MOUSEMOTION, 320) is None
    assert mouse(pygame.MOUSEBUTTONDOWN, 320, 30, button=1) is None  # below it
    assert mouse(pygame.MOUSEBUTTONDOWN, 320, button=1) == 1.0
    told = [mouse(pygame.MOUSEMOTION, x) for x in (356, 399, 900, 0)]
    assert told == [1.5, 2.0, 2.0, 0.0]
    mouse(pygame.MOUSEBUTTONUP, 0, button=1)
    assert mouse(pygame.MOUSEMOTION, 320) is None
    slider.draw(screen, pygame.Rect(390, 0, 10, 20), 1.0)  # no room
    assert mouse(pygame.MOUSEBUTTONDOWN, 395, button=1) is None


def test_the_slider_shows_where_it_stands():
    pygame.font.init()
    lit = []
    for value in (0.0, 1.0, 2.0, 5.0):
        screen = pygame.Surface((200, 20))
        Slider().draw(screen, screen.get_rect(), value)
        lit.append(int((pygame.surfarray.array3d(screen)[:, 10, 0] > 200).sum()))
    assert lit[0] < lit[1] < lit[2] == lit[3]


def test_an_env_without_pictures_is_bad_input():
    with pytest.raises(InputError, match="uint8 frames"):
        EnvGame(gymnasium.make("CartPole-v1"), "test", KEY_MAP, NAMES, 15)


def test_hud_tells_pace_score_and_what_the_world_says():
    view = View(
        np.zeros((4, 4, 3), np.uint8), step=2, reward=-2.5, total=-1.5, action=2,
        p_terminated=0.25, temperature=0.5, seed=42, luck="1:7", engine="torch cpu float32",
        step_seconds=0.012,
    )  # fmt: skip
    game, world = hud_lines(view, Pace(13.6, 15, False), NAMES)
    assert game == ["step 2", "reward -2.5", "return -1.5", "right", "end 25.0%", "14/15 fps"]
    assert world == ["temperature 0.5", "seed 42", "luck 1:7", "12 ms", "torch cpu float32"]


def test_the_graph_rises_with_surprise():
    pygame.font.init()
    screen = pygame.Surface((100, 60))
    draw_graph(screen, pygame.font.Font(None, 12), screen.get_rect(), [0.0] * 20 + [MIN_SPAN_BITS])
    lit = pygame.surfarray.array3d(screen)[-5:].max(axis=(0, 2)) > 150
    flat = pygame.surfarray.array3d(screen)[-30:-10].max(axis=(0, 2)) > 150
    assert lit[:10].any()
    assert not flat[:40].any()


def test_split_view_shows_the_difference():
    dream, real = np.full((4, 4, 3), 30, np.uint8), np.full((4, 4, 3), 250, np.uint8)
    shown = panels(View(dream, companion=real))
    assert [int(panel[0, 0, 0]) for panel in shown] == [30, 250, 220]


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
