"""Layout of a picture: panels in a grid with captions, a legend, a scale bar and the letters of the sides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from volseg.errors import UsageError
from volseg.pictures.rendering import Colour, Pixels

BACKGROUND: Colour = (18, 18, 21)
TEXT: Colour = (232, 232, 232)
QUIET: Colour = (160, 160, 166)
_MARGIN, _GAP, _LINE = 12, 6, 18  # pixels
_FONT = 13
_BAR_SHARE = 0.3  # largest fraction of a panel's width


@dataclass(frozen=True)
class Entry:
    """One entry of the legend: a colour, its meaning, and whether it is drawn as an area or as a contour."""

    name: str
    colour: Colour
    line: bool = False


def arrange_panels(
    panels: Sequence[tuple[str, Pixels]],
    *,
    title: str = "",
    legend: Sequence[Entry] = (),
    mm_per_pixel: float | None = None,
    edges: tuple[str, str] | None = None,
    columns: int | None = None,
) -> Pixels:
    """Lay panels of one size out in a grid.

    Args:
        panels: Caption and picture (height, width, 3) of each panel, in reading order.
        title: Title above the panels.
        legend: Entries of the legend below the panels.
        mm_per_pixel: Millimetres per pixel, for a scale bar in the first panel; None for no bar.
        edges: Letters at the left and the upper edge of the first panel, see `View.edges`.
        columns: Number of columns of the grid; by default all panels are in one row.

    Returns:
        Picture (height, width, 3).

    Raises:
        UsageError: There is no panel, or panels differ in size.
    """
    sizes = {picture.shape for _, picture in panels}
    if len(sizes) != 1:
        raise UsageError(
            f"the panels must be one or more of one size, got the sizes {sorted(sizes)}; draw them of one view"
        )
    height, width, _ = sizes.pop()
    columns = min(columns or len(panels), len(panels))
    rows = math.ceil(len(panels) / columns)
    font = ImageFont.load_default(_FONT)
    across = max(columns * width + (columns - 1) * _GAP, _widest(title, legend, font))
    entries = _wrapped(legend, across, font)
    captions = _LINE if any(caption for caption, _ in panels) else 0
    top = _MARGIN + (_LINE + _GAP if title else 0)
    grid = rows * (height + captions) + (rows - 1) * _GAP
    foot = top + grid + (_GAP if entries else 0)
    canvas = Image.new("RGB", (across + 2 * _MARGIN, foot + len(entries) * _LINE + _MARGIN), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    if title:
        pen.text((_MARGIN, _MARGIN), title, fill=TEXT, font=font)
    for i, (caption, picture) in enumerate(panels):
        row, column = divmod(i, columns)
        x, y = _MARGIN + column * (width + _GAP), top + row * (height + captions + _GAP)
        if caption:
            pen.text((x, y), caption, fill=QUIET, font=font)
        canvas.paste(Image.fromarray(picture), (x, y + captions))
    corner = (_MARGIN, top + captions)
    if edges is not None:
        _letters(pen, edges, corner, (width, height), font)
    if mm_per_pixel is not None:
        _scale_bar(pen, mm_per_pixel, corner, (width, height), font)
    for line, group in enumerate(entries):
        x = _MARGIN
        for entry in group:
            y = foot + line * _LINE
            box = (x, y + 3, x + 11, y + 13)
            pen.rectangle(box, outline=entry.colour, fill=None if entry.line else entry.colour, width=1)
            pen.text((x + 17, y), entry.name, fill=TEXT, font=font)
            x += _entry_width(entry, font)
    return np.asarray(canvas, dtype=np.uint8)


def padded(pictures: Sequence[Pixels]) -> list[Pixels]:
    """The same pictures, filled up at the right and below to the largest width and height, as frames must be.

    >>> [one.shape for one in padded([np.zeros((2, 5, 3), np.uint8), np.zeros((3, 4, 3), np.uint8)])]
    [(3, 5, 3), (3, 5, 3)]
    """
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    found = [np.full((height, width, 3), BACKGROUND, np.uint8) for _ in pictures]
    for canvas, picture in zip(found, pictures, strict=True):
        canvas[: picture.shape[0], : picture.shape[1]] = picture
    return found


def round_length_mm(longest_mm: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is no longer than `longest_mm`.

    >>> [round_length_mm(mm) for mm in (3.9, 60, 100, 0.7)]
    [2.0, 50.0, 100.0, 0.5]
    """
    power = 10.0 ** math.floor(math.log10(longest_mm) + 1e-9)
    return float(next(step * power for step in (5, 2, 1) if step * power <= longest_mm * (1 + 1e-9)))


def _letters(
    pen: ImageDraw.ImageDraw,
    edges: tuple[str, str],
    corner: tuple[int, int],
    size: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    (x, y), (width, height) = corner, size
    if min(size) < 2 * _LINE:
        return
    for letter, place, anchor in (
        (edges[0], (x + 4, y + height // 2), "lm"),
        (edges[1], (x + width // 2, y + 3), "ma"),
    ):
        pen.text(place, letter, fill=TEXT, font=font, anchor=anchor, stroke_width=1, stroke_fill=(0, 0, 0))


def _scale_bar(
    pen: ImageDraw.ImageDraw,
    mm_per_pixel: float,
    corner: tuple[int, int],
    size: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    (x, y), (width, height) = corner, size
    if min(size) < 2 * _LINE:
        return
    length_mm = round_length_mm(_BAR_SHARE * width * mm_per_pixel)
    length = max(1, round(length_mm / mm_per_pixel))
    right, bottom = x + width - 7, y + height - 7
    pen.rectangle((right - length, bottom - 3, right, bottom), fill=(0, 0, 0))
    pen.rectangle((right - length + 1, bottom - 2, right - 1, bottom - 1), fill=(255, 255, 255))
    pen.text(
        (right, bottom - 5),
        f"{length_mm:g} mm",
        fill=TEXT,
        font=font,
        anchor="rd",
        stroke_width=1,
        stroke_fill=(0, 0, 0),
    )


def _entry_width(entry: Entry, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    return 17 + math.ceil(font.getbbox(entry.name)[2]) + 16


def _widest(title: str, legend: Sequence[Entry], font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    return max([math.ceil(font.getbbox(title)[2]), *(_entry_width(entry, font) for entry in legend)])


def _wrapped(
    legend: Sequence[Entry], across: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> list[list[Entry]]:
    lines: list[list[Entry]] = []
    used = across + 1
    for entry in legend:
        width = _entry_width(entry, font)
        if used + width > across + 16:
            lines.append([])
            used = 0
        lines[-1].append(entry)
        used += width
    return lines
