"""Play for long with random keys, and see that nothing breaks.

    python benchmarks/soak.py breakout --minutes 30
    xvfb-run -a python benchmarks/soak.py breakout --minutes 30

The window, the session and the world are those of `worldflow play`; the keys are random: play,
switches, takeovers, rewinds, recordings, seeds, pauses, pads, mouse, sizes of the window. Then
every recording is replayed bit for bit. Exits with 1 after an exception, if memory has grown by
more than the way back takes, or if a recording is not valid. `--out` keeps the recordings.
"""

import argparse
import contextlib
import os
import random
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
import av
import pygame
from keyboard import Keyboard, post, wait_for_window

from worldflow.card import Playable
from worldflow.dataset import open_dataset
from worldflow.demos.play import PlayConfig, make_session
from worldflow.demos.reality import make_reality
from worldflow.demos.replay import difference_of, regenerate
from worldflow.demos.session import Session
from worldflow.demos.window import Window, WindowConfig
from worldflow.demos.world_game import WorldGame
from worldflow.episode import SUFFIX, Episode
from worldflow.playable import load_playable

SAMPLE_SECONDS = 5.0
ALLOWED_MIB = 64.0  # of growth beside the ring: allocators keep what they may need again
# Commands by key, and how often: a recording is made longer than a pause.
COMMANDS = {
    "tab": 6, "v": 4, "t": 3, "y": 3, "backspace": 4, "page up": 1, ",": 3, "l": 4, "c": 5,
    "[": 2, "]": 2, "r": 1, "h": 1, "f1": 1, "f11": 1, "n": 2, "+": 2, "-": 2,
}  # fmt: skip


@dataclass
class Memory:
    """MiB over time: of the process, and of the way back in it."""

    resident: list[float] = field(default_factory=list)
    ring: list[float] = field(default_factory=list)

    def sample(self, session: Session) -> None:
        self.resident.append(resident_mib())
        self.ring.append(session.ring_bytes / 2**20)

    @property
    def growth(self) -> float:
        """From the second quarter to the last, beside the ring."""
        beside = [a - b for a, b in zip(self.resident, self.ring, strict=True)]
        quarter = max(1, len(beside) // 4)
        return statistics.median(beside[-quarter:]) - statistics.median(
            beside[quarter : 2 * quarter] or beside
        )


def resident_mib() -> float:
    """Of this process; where there is no /proc, its peak."""
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class CountedGame(WorldGame):
    """Counts all steps, of whatever game."""

    steps = 0

    def step(self, action: int) -> None:
        super().step(action)
        self.steps += 1


class Fingers:
    """Random hands on keyboard, mouse and pad."""

    def __init__(self, game: WorldGame, window: Window, keyboard: Keyboard, seed: int) -> None:
        self._recorder, self._window, self._keyboard = game.session.recorder, window, keyboard
        self._game_keys = [key for key in game.key_map if key and "+" not in key]
        self._rng = random.Random(seed)
        self.done: dict[str, int] = {}

    def move(self) -> None:
        """Do one thing."""
        rng = self._rng
        kinds: list[Callable[[], str]] = [self._play, self._command, self._other]
        (kind,) = rng.choices(kinds, [6, 3, 1])
        name = kind()
        self.done[name] = self.done.get(name, 0) + 1
        if self._window.pace.paused and name != "n" and rng.random() < 0.7:
            self._keyboard.tap("p")  # nothing is tried by a game that stands still
        if self._recorder.tape is None and rng.random() < 0.1:
            self._keyboard.tap("c")
        time.sleep(rng.uniform(0.0, 0.3))

    def _play(self) -> str:
        count = min(len(self._game_keys), self._rng.choice([1, 2]))
        keys = self._rng.sample(self._game_keys, count)
        for key in keys:
            self._keyboard.press(key)
        time.sleep(self._rng.uniform(0.005, 0.8))
        for key in keys:
            self._keyboard.release(key)
        return "play"

    def _command(self) -> str:
        (key,) = self._rng.choices(list(COMMANDS), list(COMMANDS.values()))
        for _ in range(self._rng.choice([1, 1, 1, 4])):
            self._keyboard.tap(key)
        return key

    def _other(self) -> str:
        acts = [self._pause, self._seed, self._slide, self._resize, self._pad, self._lose_focus]
        act = self._rng.choice(acts)
        act()
        return act.__name__.strip("_")

    def _pause(self) -> None:
        self._keyboard.tap("p")
        time.sleep(self._rng.uniform(0.1, 2.0))
        self._keyboard.tap("p")

    def _seed(self) -> None:
        for key in ["g", *str(self._rng.randrange(10**6)), "return"]:
            self._keyboard.tap(key)

    def _slide(self) -> None:
        """Drag whatever is under the mouse: sometimes it is the temperature."""
        width, height = pygame.display.get_window_size()
        across = [self._rng.randrange(width // 2, max(width, width // 2 + 1)) for _ in range(3)]
        post(pygame.MOUSEBUTTONDOWN, pos=(across[0], height - height // 8), button=1)
        for x in across:
            post(pygame.MOUSEMOTION, pos=(x, height - height // 8), rel=(0, 0), buttons=(1, 0, 0))
        post(pygame.MOUSEBUTTONUP, pos=(across[-1], height - height // 8), button=1)

    def _resize(self) -> None:
        """The window's own thread does it; SDL's dummy driver only tells it."""
        size = self._rng.randrange(80, 900), self._rng.randrange(80, 900)
        post(pygame.VIDEORESIZE, size=size, w=size[0], h=size[1])

    def _pad(self) -> None:
        post(pygame.JOYAXISMOTION, axis=0, value=self._rng.uniform(-1, 1), instance_id=0)
        button = self._rng.randrange(8)
        post(pygame.JOYBUTTONDOWN, button=button, instance_id=0)
        time.sleep(0.1)
        post(pygame.JOYBUTTONUP, button=button, instance_id=0)
        post(pygame.JOYAXISMOTION, axis=0, value=0.0, instance_id=0)

    def _lose_focus(self) -> None:
        post(pygame.WINDOWFOCUSLOST)


def drive(fingers: Fingers, session: Session, memory: Memory, minutes: float) -> None:
    """Play, take samples of memory, and close the window when the time is up."""
    wait_for_window()
    began = sampled = time.monotonic()
    while time.monotonic() - began < 60 * minutes and pygame.display.get_init():
        fingers.move()
        if time.monotonic() - sampled >= SAMPLE_SECONDS:
            sampled = time.monotonic()
            memory.sample(session)
    post(pygame.QUIT)


def faults(folder: Path, playable: Playable) -> Iterator[str]:
    """What is wrong with the recordings, one line each."""
    card = playable.card
    reality = make_reality(card.game, card.settings, len(card.action_names))
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        episode = Episode.open(path)
        episode.verify()
        real = reality if "real" in episode.origin() else None
        for step, outcome in enumerate(regenerate(episode, playable, real)):
            difference = difference_of(episode, step, outcome)
            if difference:
                yield f"{path.name}: step {step} of {len(episode)} differs: {difference}"
                break
        with av.open(str(path.with_suffix(".mp4"))) as film:
            shown = sum(1 for _ in film.decode(video=0))
        if shown != len(episode) + 1:
            yield f"{path.name}: {len(episode)} steps, but its film has {shown} frames"
        parent = episode.header.parent
        if parent is not None and not (folder / parent).exists():
            yield f"{path.name}: its parent {parent} is not there"


def soak(arguments: argparse.Namespace, folder: Path) -> bool:
    """Play and judge. Returns whether all is well."""
    playable = load_playable(
        arguments.world, engine=arguments.engine, device=arguments.device, threads=arguments.threads
    )
    config = PlayConfig(recordings=str(folder))
    session = make_session(playable, config, arguments.world, arguments.seed)
    keyboard, memory = Keyboard(real=arguments.xdotool), Memory()
    game = CountedGame(session)
    window = Window(game, WindowConfig())
    fingers = Fingers(game, window, keyboard, arguments.seed)
    driver = threading.Thread(
        target=drive, args=(fingers, session, memory, arguments.minutes), daemon=True
    )
    driver.start()
    window.run()  # raises what the game raised
    keyboard.close()
    done = ", ".join(f"{name} {count}" for name, count in sorted(fingers.done.items()))
    print(f"{game.steps} steps; {done}")
    return judge(session, memory, folder, playable)


def judge(session: Session, memory: Memory, folder: Path, playable: Playable) -> bool:
    """Print what memory and recordings show. Returns whether all is well."""
    memory.sample(session)
    print(
        f"memory: {memory.resident[0]:.0f} to {memory.resident[-1]:.0f} MiB, the way back in it "
        f"{memory.ring[0]:.0f} to {memory.ring[-1]:.0f} MiB; beside it {memory.growth:+.0f} MiB "
        f"from the second quarter to the last (allowed {ALLOWED_MIB:.0f})"
    )
    recorded = session.recorder.steps
    paths = session.recorder.paths
    if not paths:
        print("nothing was recorded: play longer")
        return False
    found = list(faults(folder, playable))
    kept = open_dataset(folder).steps
    if kept != recorded:
        found.append(f"{recorded} steps were recorded, {kept} are there")
    print(f"recordings: {len(paths)} of {kept} steps, {len(found)} with a fault", *found, sep="\n")
    return not found and memory.growth <= ALLOWED_MIB


def main() -> bool:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", help="what `worldflow play` takes")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0, help="of keys and game")
    parser.add_argument("--xdotool", action="store_true", help="type on the X server")
    parser.add_argument("--out", type=Path, help="a new folder for the recordings")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.out is not None:
        arguments.out.mkdir(parents=True)
        return soak(arguments, arguments.out)
    with tempfile.TemporaryDirectory() as folder:
        return soak(arguments, Path(folder))


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
