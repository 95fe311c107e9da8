"""The figure of the growth benchmark: processor time and peak memory by cases and by voxels, as SVG text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_COLOURS = ("#0072b2", "#d55e00", "#009e73")  # of Okabe and Ito, told apart by the colour-blind too
_INK, _QUIET, _GRID = "#1f2328", "#656d76", "#d8dee4"
_WIDTH, _HEIGHT = 860, 640
_PANEL = (340, 210)  # of the plotting area
_AT = ((70, 76), (490, 76), (70, 376), (490, 376))  # its upper left corner
_STYLE = "background:#ffffff;font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif"
_POWERS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")

Line = Sequence[tuple[float, float]]


def amount(name: str) -> int:
    """Cases or voxels of a line of the tables.

    >>> amount("10,000 cases"), amount("64 x 64 x 32")
    (10000, 131072)
    """
    return math.prod(int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", name))


def growth_figure(content: Mapping[str, Any]) -> str:
    """Four panels with logarithmic axes, a line a command; along the grey line, twice as much costs twice as much."""
    panels = []
    for by, unit in (("by number of cases", "cases"), ("by size", "voxels a case")):
        chosen = [table for table in content["tables"] if by in table["title"]]
        for measure, title in (("cpu_s", "Processor time (s)"), ("peak_mib", "Peak memory (MiB)")):
            lines = {
                table["title"].partition(",")[0]: [
                    (float(amount(row["name"])), row["median"][measure]) for row in table["rows"]
                ]
                for table in chosen
            }
            panels.append((title, unit, lines))
    parts = [_text(20, 30, "Cost by the number of cases and by their size", size=17, weight=600)]
    for i, name in enumerate(panels[0][2]):
        x = 20 + 170 * i
        parts.append(f'<rect x="{x}" y="42" width="14" height="4" fill="{_COLOURS[i]}"/>')
        parts.append(_text(x + 20, 48, name))
    for corner, (title, unit, lines) in zip(_AT, panels, strict=True):
        parts += _panel(corner, title, unit, lines)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'role="img" aria-label="Processor time and peak memory by number and size of cases" style="{_STYLE}">\n'
        f"{body}\n</svg>\n"
    )


def _panel(corner: tuple[int, int], title: str, unit: str, lines: Mapping[str, Line]) -> list[str]:
    (left, top), (width, height) = corner, _PANEL
    xs = [x for line in lines.values() for x, _ in line]
    ys = [y for line in lines.values() for _, y in line]
    x_low, x_high = _decades(xs)
    y_low, y_high = _decades(ys)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - x_low) / (x_high - x_low)
        up = (math.log10(y) - y_low) / (y_high - y_low)
        return round(left + across * width, 1), round(top + height - up * height, 1)

    parts = [_text(left - 50, top - 10, title, weight=600)]
    for power in range(y_low, y_high + 1):
        y = place(10**x_low, 10**power)[1]
        parts.append(f'<line x1="{left}" x2="{left + width}" y1="{y}" y2="{y}" stroke="{_GRID}"/>')
        parts.append(_text(left - 8, y + 4, _power(power), fill=_QUIET, size=12, anchor="end"))
    for power in range(x_low, x_high + 1):
        x = place(10**power, 10**y_low)[0]
        parts.append(f'<line x1="{x}" x2="{x}" y1="{top}" y2="{top + height}" stroke="{_GRID}"/>')
        parts.append(_text(x, top + height + 18, _power(power), fill=_QUIET, size=12, anchor="middle"))
    parts.append(_text(left + width, top + height + 36, unit, fill=_QUIET, size=12, anchor="end"))
    if title.startswith("Processor"):  # a slope of one, through the last point of the first line
        x, y = next(iter(lines.values()))[-1]
        start = max(10**x_low, x * 10**y_low / y)
        (x1, y1), (x2, y2) = place(start, y * start / x), place(x, y)
        parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{_QUIET}" stroke-dasharray="4 4"/>')
    for colour, (name, line) in zip(_COLOURS, lines.items(), strict=False):
        points = [place(x, y) for x, y in line]
        path = " ".join(f"{x},{y}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (x, y), (number, value) in zip(points, line, strict=True):
            hint = f"{name}, {number:,.0f} {unit}: {value:,.4g}"
            parts.append(f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"><title>{hint}</title></circle>')
    return parts


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """Whole powers of ten around the values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _power(power: int) -> str:
    return f"10{str(power).translate(_POWERS)}" if abs(power) > 3 else f"{10.0**power:g}"


def _text(
    x: float, y: float, text: str, *, fill: str = _INK, size: int = 13, weight: int = 400, anchor: str = "start"
) -> str:
    look = f'fill="{fill}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}"'
    return f'<text x="{x}" y="{y}" {look}>{text}</text>'
