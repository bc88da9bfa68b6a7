"""What the window writes: the figures under the picture, and texts upon it."""

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pygame

TEXT = (225, 225, 230)
BACKGROUND = (18, 18, 22)
SHADE = (0, 0, 0, 190)
FPS_STEPS = 30  # fps is the mean over so many steps


@dataclass
class Figures:
    """The running figures of one episode."""

    step: int = 0
    reward: float = 0.0
    total: float = 0.0  # the return: sum of rewards
    action: int = 0
    info: Mapping[str, Any] = field(default_factory=dict)
    times: deque[float] = field(default_factory=lambda: deque(maxlen=FPS_STEPS))  # seconds

    def add(self, action: int, reward: float, info: Mapping[str, Any]) -> None:
        """Take in what one `env.step` returned."""
        self.step += 1
        self.action, self.reward, self.info = action, reward, info
        self.total += reward
        self.times.append(time.perf_counter())

    @property
    def fps(self) -> float:
        """Steps per second of late; 0 before there are two."""
        if len(self.times) < 2:
            return 0.0
        return (len(self.times) - 1) / max(self.times[-1] - self.times[0], 1e-9)


def hud_lines(figures: Figures, frame_rate: int, action_names: Sequence[str]) -> list[str]:
    """Two lines of text: pace and score, then what the world says of its own frame.

    The world's lines come from `info`, where it has them: `p_terminated` in [0, 1], and
    `nll_excess`, in nats, shown in bits: the negative log-likelihood of the frame above the
    floor that its noise alone would give.
    """
    score = (
        f"{figures.fps:.0f}/{frame_rate} fps   step {figures.step}   "
        f"reward {figures.reward:+.3g}   return {figures.total:.4g}"
    )
    world = []
    if figures.action < len(action_names):
        world.append(action_names[figures.action])
    if "p_terminated" in figures.info:
        world.append(f"end {float(figures.info['p_terminated']):.1%}")
    if "nll_excess" in figures.info:
        world.append(f"surprise {float(figures.info['nll_excess']) / math.log(2):+.1f} bits")
    return [score, "   ".join(world)]


def help_lines(key_map: Mapping[str, int], action_names: Sequence[str]) -> list[str]:
    """The keys of the game and of the window. Chords are left out: their keys say it all."""
    game = [
        f"{key}: {action_names[action] if action < len(action_names) else action}"
        for key, action in key_map.items()
        if key and "+" not in key
    ]
    window = ["P: pause", "N or .: one step", "R: restart", "+ and -: speed"]
    return [*game, *window, "H: figures", "F1: this help", "Esc or Q: quit"]


def font_for(width: int) -> pygame.font.Font:
    """A font in which a HUD line fits a window `width` pixels wide."""
    return pygame.font.Font(None, max(12, min(24, width // 21)))


def draw_lines(
    screen: pygame.Surface, font: pygame.font.Font, lines: Sequence[str], left: int, top: int
) -> None:
    """Write lines of text downwards from (left, top)."""
    for row, line in enumerate(lines):
        text = font.render(line, True, TEXT)
        screen.blit(text, (left, top + row * font.get_linesize()))


def draw_panel(screen: pygame.Surface, font: pygame.font.Font, lines: Sequence[str]) -> None:
    """Write lines of text on a shaded panel in the middle of the screen."""
    pad = font.get_height()
    width = max(font.size(line)[0] for line in lines) + 2 * pad
    height = len(lines) * font.get_linesize() + pad
    panel = pygame.Surface((width, height), pygame.SRCALPHA)
    panel.fill(SHADE)
    draw_lines(panel, font, lines, pad, pad // 2)
    screen.blit(panel, panel.get_rect(center=screen.get_rect().center))
