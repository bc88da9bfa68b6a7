"""A line plot drawn with Pillow: axes, ticks, a legend, and nothing else."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 900, 520  # pixels
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 56, 68  # margins around the axes, pixels
OVERSAMPLING = 3  # drawn larger and scaled down: Pillow's own lines are jagged
INK, MUTED, GRID = (33, 37, 41), (108, 117, 125), (226, 230, 234)
COLOURS = ((31, 119, 180), (150, 150, 150), (214, 96, 42), (44, 140, 80))
DOT = 5  # radius, pixels
TEXT_SIZE, TITLE_SIZE = 15, 18  # pixels


class Line(NamedTuple):
    """One curve: `x` and `y` `(N,)`; a point whose y is NaN is left out."""

    label: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    dots: bool = False  # the points alone, not joined


class _Axis(NamedTuple):
    """Maps values from `low` to `high` onto pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def pixel(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def round_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten) that enclose [low, high].

    >>> round_ticks(24.3, 46.0)
    [20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0]
    """
    high = high if high > low else low + 1.0
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    gap = next(power * step for step in (1, 2, 5, 10) if power * step >= rough)
    first, last = math.floor(low / gap + 1e-9), math.ceil(high / gap - 1e-9)
    return [round(index * gap, 10) for index in range(first, last + 1)]


def line_plot(
    path: Path,
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float] = (),
) -> None:
    """Write `lines` as a PNG; the x axis spans `x_ticks`, the y axis `y_ticks`, or fits the lines.

    Raises:
        ValueError: no line has a point to show.
    """
    shown = np.concatenate([line.y[np.isfinite(line.y)] for line in lines])
    if shown.size == 0:
        raise ValueError(f"plot '{title}': no points")
    y_ticks = y_ticks or round_ticks(float(shown.min()), float(shown.max()))
    scale = OVERSAMPLING
    x = _Axis(x_ticks[0], x_ticks[-1], LEFT * scale, (WIDTH - RIGHT) * scale)
    y = _Axis(y_ticks[0], y_ticks[-1], (HEIGHT - BOTTOM) * scale, TOP * scale)
    image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), "white")
    draw = ImageDraw.Draw(image)
    _draw_axes(draw, x, y, x_ticks, y_ticks)
    for line, colour in zip(lines, COLOURS, strict=False):
        points = [
            (x.pixel(at), y.pixel(value))
            for at, value in zip(line.x.tolist(), line.y.tolist(), strict=True)
            if math.isfinite(value)
        ]
        if line.dots:
            for at, value in points:
                draw.circle((at, value), DOT * scale, fill=colour)
        else:
            draw.line(points, fill=colour, width=3 * scale, joint="curve")
    _draw_labels(image, title, x_label, y_label)
    _draw_legend(draw, [line.label for line in lines])
    image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(path)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * OVERSAMPLING)


def _draw_axes(
    draw: ImageDraw.ImageDraw,
    x: _Axis,
    y: _Axis,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
) -> None:
    """Grid lines with their numbers, and the two axes over them."""
    font, gap = _font(TEXT_SIZE), 8 * OVERSAMPLING
    for tick in y_ticks:
        at = y.pixel(tick)
        draw.line([(x.start, at), (x.end, at)], fill=GRID, width=OVERSAMPLING)
        draw.text((x.start - gap, at), f"{tick:g}", fill=MUTED, font=font, anchor="rm")
    for tick in x_ticks:
        at = x.pixel(tick)
        draw.line([(at, y.start), (at, y.start + gap / 2)], fill=INK, width=OVERSAMPLING)
        draw.text((at, y.start + gap), f"{tick:g}", fill=MUTED, font=font, anchor="mt")
    draw.line([(x.start, y.end), (x.start, y.start), (x.end, y.start)], INK, OVERSAMPLING)


def _draw_labels(image: Image.Image, title: str, x_label: str, y_label: str) -> None:
    """The title, the x label below and the y label along its axis."""
    scale, font = OVERSAMPLING, _font(TEXT_SIZE)
    draw = ImageDraw.Draw(image)
    draw.text((LEFT * scale, 16 * scale), title, fill=INK, font=_font(TITLE_SIZE))
    middle = (LEFT + WIDTH - RIGHT) / 2 * scale
    draw.text((middle, (HEIGHT - 14) * scale), x_label, fill=INK, font=font, anchor="mb")
    length = int(font.getlength(y_label)) + 2 * scale
    upright = Image.new("RGB", (length, 24 * scale), "white")
    ImageDraw.Draw(upright).text((scale, 0), y_label, fill=INK, font=font)
    turned = upright.rotate(90, expand=True)
    middle = (TOP + HEIGHT - BOTTOM) / 2 * scale
    image.paste(turned, (10 * scale, round(middle - length / 2)))


def _draw_legend(draw: ImageDraw.ImageDraw, labels: Sequence[str]) -> None:
    """A sample of each line and its label, right-aligned above the axes."""
    scale, font = OVERSAMPLING, _font(TEXT_SIZE)
    right = float(WIDTH - RIGHT) * scale
    middle = (TOP - 18) * scale
    for label, colour in reversed(list(zip(labels, COLOURS, strict=False))):
        draw.text((right, middle), label, fill=INK, font=font, anchor="rm")
        right -= font.getlength(label) + 8 * scale
        draw.line([(right - 24 * scale, middle), (right, middle)], colour, 3 * scale)
        right -= 48 * scale
