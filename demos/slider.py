"""The temperature's slider beside the badges: clicked or dragged, it follows the mouse."""

import pygame

from worldflow.demos.hud import AMBER, DIM, PANEL_EDGE, font_of

HIGHEST = 2.0
STEP = 0.05
LONGEST, SHORTEST = 160, 60  # pixels; shorter, it could not be set
LABEL = "temperature"


class Slider:
    """From 0 at the left to HIGHEST at the right, in steps of STEP."""

    def __init__(self) -> None:
        self._track = pygame.Rect(0, 0, 0, 0)  # as it was drawn last
        self._held = False

    def draw(self, screen: pygame.Surface, area: pygame.Rect, value: float) -> None:
        """At the right end of `area`, with its label if there is room for that, too."""
        font = font_of(max(13, area.height - 4))
        label = font.render(LABEL, True, DIM)
        room = area.width - label.get_width() - area.height
        labelled = room >= SHORTEST
        width = min(LONGEST, room if labelled else area.width)
        self._track = pygame.Rect(area.right - width, area.top, width, area.height)
        if width < SHORTEST:
            self._track.width = 0
            return
        if labelled:
            place = self._track.left - area.height // 2 - label.get_width()
            screen.blit(label, label.get_rect(midleft=(place, area.centery)))
        radius = area.height // 3
        left, right = self._track.left + radius, self._track.right - radius
        knob = left + round(min(value / HIGHEST, 1.0) * (right - left))
        pygame.draw.line(screen, PANEL_EDGE, (left, area.centery), (right, area.centery), 3)
        pygame.draw.line(screen, AMBER, (left, area.centery), (knob, area.centery), 3)
        pygame.draw.circle(screen, AMBER, (knob, area.centery), radius)

    def handle(self, event: pygame.event.Event) -> float | None:
        """The value that a mouse event sets; None if it sets none."""
        if event.type == pygame.MOUSEBUTTONUP:
            self._held = False
        elif event.type == pygame.MOUSEBUTTONDOWN and event.button == 1:
            self._held = bool(self._track.width) and self._track.collidepoint(event.pos)
            return self._value(event.pos[0]) if self._held else None
        elif event.type == pygame.MOUSEMOTION and self._held:
            return self._value(event.pos[0])
        return None

    def _value(self, x: int) -> float:
        radius = self._track.height // 3
        share = (x - self._track.left - radius) / max(1, self._track.width - 2 * radius)
        return round(round(HIGHEST * min(max(share, 0.0), 1.0) / STEP) * STEP, 2)
