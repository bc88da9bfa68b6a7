"""The menu of shipped worlds, where `worldflow play` is given no name."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pygame
from numpy.typing import NDArray

from worldflow.demos.hud import AMBER, BACKGROUND, DIM, PANEL, TEXT, font_of

CELL = 192  # pixels of a world's picture
GAP = 28
FEWEST_COLUMNS = 2
MOVES = {"left": -1, "right": 1, "a": -1, "d": 1}


class Offer(NamedTuple):
    """A world to choose."""

    name: str
    game: str
    frame: NDArray[np.uint8]  # (H, W, 3), one of its starts


def choose_world() -> str | None:
    """Show the shipped worlds; the one that the player takes, None if the player leaves."""
    from worldflow.world import World, world_names

    offers = []
    for name in world_names():
        world = World.load(name)
        offers.append(Offer(name, world.card.game, world.start_frames[0, -1]))
    return Menu(offers).run()


class Menu:
    """A row of pictures; arrows and return, or a click, choose one."""

    def __init__(self, offers: Sequence[Offer]) -> None:
        self._offers = offers
        self._columns = max(FEWEST_COLUMNS, min(4, len(offers)))
        self._at = 0

    def run(self) -> str | None:
        """Wait until the player has chosen or left."""
        pygame.display.init()
        pygame.font.init()
        font_of.cache_clear()
        rows = -(-len(self._offers) // self._columns)
        size = (GAP + self._columns * (CELL + GAP), 2 * GAP + 40 + rows * (CELL + 60 + GAP))
        try:
            pygame.display.set_caption("worldflow")
            screen = pygame.display.set_mode(size, pygame.RESIZABLE)
            while True:
                self._draw(screen)
                event = pygame.event.wait()
                if event.type == pygame.QUIT:
                    return None
                if event.type == pygame.KEYDOWN:
                    key = pygame.key.name(event.key)
                    if key in ("escape", "q"):
                        return None
                    if key in ("return", "enter", "space"):
                        return self._offers[self._at].name
                    self._move(key)
                if event.type in (pygame.MOUSEMOTION, pygame.MOUSEBUTTONDOWN):
                    over = [self._cell(i).collidepoint(event.pos) for i in range(len(self._offers))]
                    if any(over):
                        self._at = over.index(True)
                        if event.type == pygame.MOUSEBUTTONDOWN:
                            return self._offers[self._at].name
        finally:
            pygame.quit()

    def _move(self, key: str) -> None:
        step = MOVES.get(key, {"up": -self._columns, "down": self._columns}.get(key, 0))
        if 0 <= self._at + step < len(self._offers):
            self._at += step

    def _cell(self, index: int) -> pygame.Rect:
        row, column = divmod(index, self._columns)
        left, top = GAP + column * (CELL + GAP), GAP + 40 + row * (CELL + 60 + GAP)
        return pygame.Rect(left, top, CELL, CELL)

    def _draw(self, screen: pygame.Surface) -> None:
        large, small = font_of(34), font_of(24)
        screen.fill(BACKGROUND)
        screen.blit(large.render("Choose a world", True, TEXT), (GAP, GAP // 2 + 6))
        for index, offer in enumerate(self._offers):
            cell = self._cell(index)
            chosen = index == self._at
            frame = cell.inflate(12, 12)
            frame.height += 56
            pygame.draw.rect(screen, PANEL, frame, border_radius=8)
            if chosen:
                pygame.draw.rect(screen, AMBER, frame, 3, border_radius=8)
            height, width = offer.frame.shape[:2]
            picture = pygame.image.frombuffer(offer.frame.tobytes(), (width, height), "RGB")
            screen.blit(pygame.transform.scale(picture, cell.size), cell)
            colour = AMBER if chosen else TEXT
            screen.blit(large.render(offer.name, True, colour), (cell.left + 4, cell.bottom + 6))
            screen.blit(small.render(offer.game, True, DIM), (cell.left + 4, cell.bottom + 34))
        pygame.display.flip()
