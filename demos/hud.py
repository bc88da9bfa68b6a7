"""What the window writes: the figures under the picture, the graph, and texts upon it."""

import functools
from collections.abc import Mapping, Sequence

import pygame

from worldflow.demos.conductor import Pace
from worldflow.demos.view import View

TEXT = (228, 230, 236)
DIM = (140, 146, 160)
BACKGROUND = (16, 17, 22)
PANEL = (26, 28, 36)
PANEL_EDGE = (62, 68, 86)
SHADE = (10, 11, 15, 225)
RED, GREEN, VIOLET, AMBER, BLUE = (
    (226, 72, 78),
    (72, 176, 110),
    (138, 98, 232),
    (232, 176, 64),
    (86, 146, 232),
)
SOURCE_COLOURS = {"real": GREEN, "dream": VIOLET, "split": BLUE}
MIN_SPAN_BITS = 60.0  # of the graph, from bottom to top: noise alone must not fill it


@functools.cache
def font_of(size: int) -> pygame.font.Font:
    """The window's font, `size` pixels high; to be forgotten when pygame is started anew."""
    return pygame.font.Font(None, size)


def font_for(width: int) -> pygame.font.Font:
    """A font in which a HUD line fits a window `width` pixels wide."""
    return font_of(max(13, min(26, width // 24)))


def hud_height(width: int) -> int:
    """Pixels under the picture in a window `width` pixels wide."""
    return int(5.6 * font_for(width).get_linesize())


def hud_lines(view: View, pace: Pace, action_names: Sequence[str]) -> list[list[str]]:
    """Two rows of figures: of the game, then of the world that draws it."""
    action = action_names[view.action] if view.action < len(action_names) else str(view.action)
    game = [f"step {view.step}", f"reward {view.reward:+.3g}", f"return {view.total:.4g}"]
    if view.step:
        game.append(action.lower())
    if view.p_terminated is not None:
        game.append(f"end {view.p_terminated:.1%}")
    game.append(f"{pace.fps:.0f}/{pace.limit} fps")
    world = []
    if view.temperature is not None:
        world.append(f"temperature {view.temperature:g}")
    if view.seed is not None:
        world.append(f"seed {view.seed}")
    if view.luck:
        world.append(f"luck {view.luck}")
    if view.step:
        world.append(f"{view.step_seconds * 1000:.0f} ms")
    if view.engine:
        world.append(view.engine)
    return [game, world]


def draw_hud(
    screen: pygame.Surface,
    area: pygame.Rect,
    view: View,
    pace: Pace,
    action_names: Sequence[str],
) -> pygame.Rect:
    """Fill `area` with badges, two rows of figures and the surprise graph.

    Returns:
        What is left to the right of the badges.
    """
    pygame.draw.rect(screen, PANEL, area)
    font = font_for(area.width)
    line, pad = font.get_linesize(), font.get_linesize() // 2
    left, top = area.left + pad, area.top + pad // 2
    for text, colour in badges(view, pace):
        left = draw_badge(screen, font, text, colour, left, top) + pad
    for row, words in enumerate(hud_lines(view, pace, action_names)):
        text = fitting(font, words, area.width - 2 * pad)
        shown = font.render(text, True, TEXT if row == 0 else DIM)
        screen.blit(shown, (area.left + pad, area.top + int((1.55 + row) * line)))
    graph = pygame.Rect(area.left + pad, area.top + int(3.7 * line), area.width - 2 * pad, 0)
    graph.height = area.bottom - pad - graph.top
    draw_graph(screen, font, graph, view.surprise)
    return pygame.Rect(left, top, max(0, area.right - pad - left), line + 2)


def badges(view: View, pace: Pace) -> list[tuple[str, tuple[int, int, int]]]:
    """What must be seen at a glance: text and colour of each."""
    shown = []
    if view.source:
        shown.append((view.source.upper(), SOURCE_COLOURS[view.source]))
    shown.append(("you" if view.player == "human" else view.player, PANEL_EDGE))
    if view.recording is not None:
        shown.append((f"REC {view.recording}", RED))
    if pace.paused:
        shown.append(("paused", AMBER))
    return shown


def draw_badge(
    screen: pygame.Surface,
    font: pygame.font.Font,
    text: str,
    colour: tuple[int, int, int],
    left: int,
    top: int,
) -> int:
    """A rounded box with a text; returns its right edge."""
    shown = font.render(text, True, (255, 255, 255))
    pad = font.get_height() // 2
    box = pygame.Rect(left, top, shown.get_width() + 2 * pad, font.get_linesize() + 2)
    pygame.draw.rect(screen, colour, box, border_radius=box.height // 2)
    screen.blit(shown, shown.get_rect(center=box.center))
    return box.right


def draw_graph(
    screen: pygame.Surface, font: pygame.font.Font, area: pygame.Rect, bits: Sequence[float]
) -> None:
    """The surprise of the newest frames, newest at the right; one frame is two pixels wide."""
    if area.height < 8 or not bits:
        return
    shown = bits[-(area.width // 2) :]
    low, high = min(0.0, *shown), max(0.0, *shown)
    if high - low < MIN_SPAN_BITS:
        high = low + MIN_SPAN_BITS
    scale = area.height / (high - low)
    points = [
        (area.right - 2 - 2 * (len(shown) - 1 - i), area.bottom - int((value - low) * scale))
        for i, value in enumerate(shown)
    ]
    zero = area.bottom - int(-low * scale)
    pygame.draw.line(screen, PANEL_EDGE, (area.left, zero), (area.right, zero))
    if len(points) > 1:
        pygame.draw.lines(screen, AMBER, False, points, 2)
    label = font.render(f"surprise {shown[-1]:+.0f} bits", True, AMBER)
    box = label.get_rect(topleft=area.topleft)
    pygame.draw.rect(screen, PANEL, box)
    screen.blit(label, box)


def fitting(font: pygame.font.Font, words: Sequence[str], width: int) -> str:
    """As many of the words as fit into `width` pixels, in their order."""
    text = ""
    for word in words:
        longer = f"{text}   {word}" if text else word
        if text and font.size(longer)[0] > width:
            break
        text = longer
    return text


def help_lines(
    key_map: Mapping[str, int], action_names: Sequence[str], commands: Mapping[str, Sequence[str]]
) -> list[tuple[str, str]]:
    """The keys of the game, then those of the window: (keys, what they do).

    Chords are left out: their keys say it all.
    """
    keys_of: dict[int, list[str]] = {}
    for key, action in key_map.items():
        if key and "+" not in key:
            keys_of.setdefault(action, []).append(key)
    game = [
        (" ".join(keys), action_names[action] if action < len(action_names) else str(action))
        for action, keys in keys_of.items()
    ]
    return [*game, *((" ".join(keys), what) for what, keys in commands.items())]


def draw_help(screen: pygame.Surface, lines: Sequence[tuple[str, str]]) -> None:
    """Two columns on a shaded panel, in a font that lets all of it fit."""
    width, height = screen.get_size()
    size = 26
    while size > 11:
        font = font_of(size)
        keys = max(font.size(key)[0] for key, _ in lines)
        wide = keys + 3 * size + max(font.size(what)[0] for _, what in lines)
        if wide < width and (len(lines) + 2) * font.get_linesize() < height:
            break
        size -= 1
    line = font.get_linesize()
    panel = pygame.Surface((min(width, wide), (len(lines) + 1) * line), pygame.SRCALPHA)
    panel.fill(SHADE)
    for row, (key, what) in enumerate(lines):
        top = int((row + 0.5) * line)
        shown = font.render(key, True, AMBER)
        panel.blit(shown, (size + keys - shown.get_width(), top))
        panel.blit(font.render(what, True, TEXT), (2 * size + keys, top))
    screen.blit(panel, panel.get_rect(center=(width // 2, height // 2)))


def draw_panel(
    screen: pygame.Surface, area: pygame.Rect, font: pygame.font.Font, lines: Sequence[str]
) -> None:
    """Write lines of text on a shaded panel in the middle of `area`."""
    pad = font.get_height()
    width = max(font.size(line)[0] for line in lines) + 2 * pad
    panel = pygame.Surface((width, len(lines) * font.get_linesize() + pad), pygame.SRCALPHA)
    panel.fill(SHADE)
    for row, text in enumerate(lines):
        shown = font.render(text, True, TEXT)
        centre = (width // 2, pad // 2 + int((row + 0.5) * font.get_linesize()))
        panel.blit(shown, shown.get_rect(center=centre))
    screen.blit(panel, panel.get_rect(center=area.center))


def draw_notice(
    screen: pygame.Surface, area: pygame.Rect, font: pygame.font.Font, text: str
) -> None:
    """A message to the player at the top of `area`, in as many lines as it needs."""
    pad, room = font.get_height() // 2, area.width - 2 * font.get_height()
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.size(longer)[0] > room:
            lines.append(word)
        else:
            lines[-1] = longer
    box = pygame.Surface(
        (
            max(font.size(line)[0] for line in lines) + 2 * pad,
            len(lines) * font.get_linesize() + pad,
        ),
        pygame.SRCALPHA,
    )
    box.fill(SHADE)
    for row, line in enumerate(lines):
        box.blit(font.render(line, True, TEXT), (pad, pad // 2 + row * font.get_linesize()))
    screen.blit(box, box.get_rect(midtop=(area.centerx, area.top + pad)))
