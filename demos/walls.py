"""Film walls: several dreams of one moment in one picture, with captions and surprise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldflow.film import Frames, upscale

GROUND = (16, 17, 22)
TEXT = (228, 230, 236)
AMBER = (232, 176, 64)
LINE = (62, 68, 86)
GAP = 8  # pixels between cells
CAPTION = 20  # pixels over a cell
GRAPH = 30  # pixels under it
MIN_SPAN_BITS = 60.0  # of a graph, from bottom to top


@dataclass(frozen=True, eq=False)
class Cell:
    """One film of a wall."""

    caption: str
    frames: Frames  # (T, H, W, 3)
    surprise: NDArray[np.float64] | None = None  # (T,) bits; nan where there is none


def wall(cells: Sequence[Cell], columns: int, scale: int) -> Frames:
    """The cells row by row, as one film of T frames.

    All graphs have one scale, so that cells can be compared. Pictures are enlarged by whole
    numbers.

    Raises:
        ValueError: no cells, or films of different shapes.
    """
    if not cells or any(cell.frames.shape != cells[0].frames.shape for cell in cells):
        shapes = [cell.frames.shape for cell in cells]
        raise ValueError(f"films of one shape wanted, got {shapes}")
    told = [cell.surprise for cell in cells if cell.surprise is not None]
    span = _span(told)
    films = [_film(cell, scale, span if told else None) for cell in cells]
    length, height, width, _ = films[0].shape
    columns = min(columns, len(films))
    rows = -(-len(films) // columns)
    shape = (length, rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3)
    sheet = np.full(shape, GROUND, np.uint8)
    for index, film in enumerate(films):
        row, column = divmod(index, columns)
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        sheet[:, top : top + height, left : left + width] = film
    return sheet


def _span(told: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """The lowest and the highest bits of all graphs; the few highest are cut off."""
    values = np.concatenate([np.zeros(1), *told])
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(np.percentile(values, 99))
    return low, max(high, low + MIN_SPAN_BITS)


def _film(cell: Cell, scale: int, span: tuple[float, float] | None) -> Frames:
    """Caption, picture and, if there is a span, the graph up to each frame."""
    length, height, width, _ = cell.frames.shape
    under = 0 if span is None else GRAPH
    shape = (length, CAPTION + height * scale + under, width * scale, 3)
    film = np.full(shape, GROUND, np.uint8)
    film[:, :CAPTION] = _caption(cell.caption, width * scale)
    film[:, CAPTION : CAPTION + height * scale] = upscale(cell.frames, scale)
    if span is not None and cell.surprise is not None:
        graph = _graph(cell.surprise, width * scale, span)
        step = width * scale / length
        for t in range(length):
            now = max(1, round((t + 1) * step))
            film[t, -GRAPH:, :now] = graph[:, :now]
    return film


def _caption(text: str, width: int) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (width, CAPTION), GROUND)
    ImageDraw.Draw(picture).text((1, 2), text, fill=TEXT, font=ImageFont.load_default(13))
    return np.asarray(picture)


def _graph(
    surprise: NDArray[np.float64], width: int, span: tuple[float, float]
) -> NDArray[np.uint8]:
    """The whole graph `(GRAPH, width, 3)`, time to the right."""
    from PIL import Image, ImageDraw

    low, high = span
    picture = Image.new("RGB", (width, GRAPH), GROUND)
    draw = ImageDraw.Draw(picture)

    def y(bits: float) -> float:
        return (GRAPH - 2) * (1 - (min(bits, high) - low) / (high - low))

    draw.line([(0, y(0.0)), (width, y(0.0))], fill=LINE)
    step = width / len(surprise)
    points = [((t + 1) * step, y(bits)) for t, bits in enumerate(surprise) if np.isfinite(bits)]
    if len(points) > 1:
        draw.line(points, fill=AMBER, width=2)
    return np.asarray(picture)
