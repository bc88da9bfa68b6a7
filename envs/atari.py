"""Atari 2600 games, emulated by the Arcade Learning Environment (Bellemare et al. 2013)."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from worldflow.envs.area import AreaResize
from worldflow.envs.source import GameCard, SourceGame, unknown_id
from worldflow.errors import InputError

try:
    import ale_py
    from ale_py import roms
except ModuleNotFoundError as error:
    raise InputError("ALE games need ale-py: pip install 'worldflow[atari]'") from error

CONSOLE_FRAME_RATE = 60
SKIP = 4
NOOP_MAX = 30
MAX_EPISODE_STEPS = 4500  # five minutes of play; a good player of Breakout needs four

# An ALE action is named by what the joystick does: its parts, in the order they are named.
KEY_OF_PART = {"UP": "up", "DOWN": "down", "RIGHT": "right", "LEFT": "left", "FIRE": "space"}


class AtariGame(SourceGame):
    """One ALE game.

    Frames are `(size, size, 3)` RGB: the maximum of the last two screens of a skip of 4 (Atari
    sprites flicker), taken at full resolution, then averaged by area. An episode starts after 1
    to 30 random no-ops; actions are the game's minimal set; the reward is the change of score.
    The truth is `ram`, uint8 `(128,)`, the console's whole memory.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium's own way)
        "render_modes": [],
        "render_fps": CONSOLE_FRAME_RATE // SKIP,
    }

    def __init__(
        self, env_id: str, *, size: int = 64, sticky: float = 0.0, life_loss_ends: bool = False
    ) -> None:
        """See `make_source`. Raises InputError for an id that is no ALE game."""
        gymnasium.register_envs(ale_py)
        if env_id not in gymnasium.registry:
            raise unknown_id(env_id)
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", sticky)
        rom = roms.get_rom_path(gymnasium.spec(env_id).kwargs["game"])
        assert rom  # every registered game has its ROM inside ale-py
        self.rom: Path = rom
        self.ale.loadROM(self.rom)
        self.actions = self.ale.getMinimalActionSet()
        self.life_loss_ends = life_loss_ends
        height, width = self.ale.getScreenDims()
        self.resize = AreaResize(height, width, size)
        self.screens = np.zeros((2, height, width, 3), np.uint8)
        names = tuple(action.name for action in self.actions)
        self.card = GameCard(
            id=env_id,
            action_names=names,
            key_map=joystick_keys(env_id, names),
            frame_rate=CONSOLE_FRAME_RATE // SKIP,
            settings={
                "size": size,
                "resize": "area",
                "skip": SKIP,
                "sticky": sticky,
                "noop_max": NOOP_MAX,
                "life_loss_ends": life_loss_ends,
            },
            max_episode_steps=MAX_EPISODE_STEPS,
        )
        self.observation_space = gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(names))
        self.lives = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """A new game from the power switch: the same seed gives the same episode."""
        super().reset(seed=seed)
        self.ale.setInt("random_seed", int(self.np_random.integers(2**31)))
        self.ale.loadROM(self.rom)  # the emulator takes its seed only here
        self.ale.reset_game()
        self.screens[:] = self.ale.getScreenRGB()
        self._advance(ale_py.Action.NOOP, int(self.np_random.integers(1, NOOP_MAX + 1)))
        if self.ale.game_over():
            self.ale.reset_game()
            self.screens[:] = self.ale.getScreenRGB()
        self.lives = self.ale.lives()
        return self._frame(), {"life_lost": False}

    def step(
        self, action: np.int64 | int
    ) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Holds the joystick for 4 screens: frame, score gained, terminated, False, info."""
        reward = self._advance(self.actions[int(action)], SKIP)
        lives, self.lives = self.lives, self.ale.lives()
        life_lost = self.lives < lives
        terminated = self.ale.game_over() or (life_lost and self.life_loss_ends)
        return self._frame(), reward, terminated, False, {"life_lost": life_lost}

    def truth(self) -> dict[str, NDArray[Any]]:
        """`ram`: uint8 `(128,)`, the console's memory at the current frame."""
        return {"ram": self.ale.getRAM()}

    def snapshot(self) -> Any:
        """The console with its random generator, the screens and the lives."""
        return self.ale.cloneState(include_rng=True), self.screens.copy(), self.lives

    def restore(self, snapshot: Any) -> None:
        console, screens, self.lives = snapshot
        self.ale.restoreState(console)
        self.screens[:] = screens

    def _advance(self, action: ale_py.Action, count: int) -> float:
        """Runs `count` screens, or fewer if the game ends, and keeps the last two."""
        reward = 0
        for screen in range(count):
            reward += self.ale.act(action)
            over = self.ale.game_over()
            if over or screen >= count - 2:
                self.ale.getScreenRGB(self.screens[screen % 2])
            if over:
                break
        return float(reward)

    def _frame(self) -> NDArray[np.uint8]:
        return self.resize(np.maximum(self.screens[0], self.screens[1]))


def joystick_keys(env_id: str, names: tuple[str, ...]) -> dict[str, int]:
    """Arrow keys and space for each action, by its name: UPRIGHTFIRE is "up+right+space"."""
    keys = {}
    for action, name in enumerate(names):
        parts = [key for part, key in KEY_OF_PART.items() if part in name]
        keys["+".join(parts)] = action
    if env_id == "ALE/Pong-v5":  # its paddle stands upright, its joystick turns right and left
        keys |= {"up": names.index("RIGHT"), "down": names.index("LEFT")}
    return {"": 0, **keys}
