"""Figures as inline SVG: strips of points with boxes, and curves over sessions, made without a library."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from volseg.labels import Region
from volseg.report.cells import number

_WIDTH = 520
_LETTERS = 26  # of a region's name; the rest of a longer one is cut off
_LETTER = 7.4  # width of one, and of wide ones
_WIDE = {**dict.fromkeys("mw", 11.0), **dict.fromkeys("MW@%", 13.0)}
_FULL = 14.0  # of a Chinese, Japanese or Korean one
_RIGHT = 84  # for the counts
_LANE = 66  # height of one region
_FOOT = 40  # for the axis
_SPREAD = 20  # height of the band of points
_GOLDEN = 0.618034  # multiples of it never line up, so that neighbouring points stay apart


@dataclass(frozen=True)
class Point:
    """One case in a strip.

    Attributes:
        key: Key of the case, shown when the pointer is over the point.
        value: Value of the case; None if undefined, and then it is only counted.
        outcome: Outcome of the case; `missed` and `invented` have their own marks.
        link: `#id` of the case in the page, or empty.
    """

    key: str
    value: float | None
    outcome: str
    link: str


@dataclass(frozen=True)
class Session:
    """The volumes of one region on one day."""

    label: str
    at: float
    reference_ml: float
    predicted_ml: float


def colour(region: Region) -> str:
    """The colour of a region in CSS.

    >>> from volseg.labels import LabelTable
    >>> colour(LabelTable.exclusive(["stomach"]).regions[0])
    '#cc79a7'
    """
    return "#{:02x}{:02x}{:02x}".format(*region.colour)


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Round numbers that cover a range, about `count` of them.

    >>> ticks(0, 47)
    [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    >>> ticks(0.5, 1)
    [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    """
    raw = max(high - low, 1e-9) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def strip_figure(
    lanes: Sequence[tuple[Region, Sequence[Point]]],
    *,
    title: str,
    unit: str,
    digits: int,
    ratio: bool,
    outside_only: bool = False,
) -> str:
    """Draw one row per region: each case is a point, above it a box from quartile to quartile with the median.

    Whiskers reach the farthest case within 1.5 times the box's length (Tukey 1977). The Tab key stops once per figure.

    Args:
        lanes: Cases of each region.
        title: Title of the metric.
        unit: Unit of the axis, or empty.
        digits: Number of decimals of a case's value.
        ratio: Whether the metric ends at 1; the axis then starts at 0 or, if all values are above, at 0.5.
        outside_only: Whether only cases beyond the whiskers, missed and invented ones are points.

    Returns:
        An `<svg>` element.
    """
    values = [point.value for _, points in lanes for point in points if point.value is not None]
    if ratio:
        low, high = (0.5 if min(values, default=0.0) >= 0.5 else 0.0), 1.0
    else:
        low, high = min(0.0, min(values, default=0.0)), max(values, default=1.0) or 1.0
    marks = ticks(low, high)
    low, high = marks[0], marks[-1]
    longest = max((_width(_short(region.name)) for region, _ in lanes), default=0.0)
    gutter = 28 + min(longest, _LETTER * _LETTERS)

    def x(value: float) -> float:
        return gutter + (value - low) / (high - low) * (_WIDTH - gutter - _RIGHT)

    bottom = len(lanes) * _LANE + 6
    parts = []
    for mark in marks:
        at = f"{x(mark):.1f}"
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="0" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{at}" y="{bottom + 15}" text-anchor="middle">{mark:g}</text>')
    name = f"{title} ({unit})" if unit else title
    middle = (x(low) + x(high)) / 2
    parts.append(f'<text class="axis" x="{middle:.1f}" y="{bottom + 33}" text-anchor="middle">{escape(name)}</text>')
    for i, (region, points) in enumerate(lanes):
        top = i * _LANE
        parts += _lane(region, points, left=gutter, top=top, x=x, unit=unit, digits=digits, outside_only=outside_only)
    label = f"{name} of every case, by region"
    return _one_stop(_svg(_WIDTH, bottom + _FOOT, label, parts))


def _lane(
    region: Region,
    points: Sequence[Point],
    *,
    left: float,
    top: float,
    x: Callable[[float], float],
    unit: str,
    digits: int,
    outside_only: bool,
) -> list[str]:
    defined = [point for point in points if point.value is not None]
    fill = colour(region)
    parts = [
        f'<text class="name" x="{left - 19:.1f}" y="{top + 30}" text-anchor="end"{_fitted(region.name, left - 23)}>'
        f"{escape(_short(region.name))}</text>",
        f'<rect x="{left - 13:.1f}" y="{top + 12}" width="3" height="{_LANE - 20}" fill="{fill}"/>',
        f'<text class="count" x="{_WIDTH - 4}" y="{top + 30}" text-anchor="end">{len(defined)} cases</text>',
    ]
    if len(defined) < len(points):
        missing = len(points) - len(defined)
        parts.append(
            f'<text class="count" x="{_WIDTH - 4}" y="{top + 46}" text-anchor="end">{missing} undefined</text>'
        )
    values = sorted(point.value for point in defined if point.value is not None)
    if len(values) > 1:
        parts += _box(values, top=top, x=x, fill=fill)
    if outside_only and values:
        left, _, _, _, right = _summary(values)
        defined = [
            point
            for point in defined
            if point.outcome in ("missed", "invented") or not left <= (point.value or 0.0) <= right
        ]
    for i, point in enumerate(sorted(defined, key=lambda point: (point.value or 0.0, point.key))):
        y = top + 38 + (i * _GOLDEN % 1) * _SPREAD
        value = point.value if point.value is not None else 0.0
        shown = f"{number(value, f'.{digits}f')}{' ' + unit if unit else ''}"
        said = f"{point.key}: {shown}" + (f", {point.outcome}" if point.outcome != "both present" else "")
        mark = f"<title>{escape(said)}</title>" + _mark(point.outcome, x(value), y, fill)
        link = f'<a href="{escape(point.link)}" tabindex="-1">{mark}</a>'
        parts.append(link if point.link else f"<g>{mark}</g>")
    return parts


def _mark(outcome: str, x: float, y: float, fill: str) -> str:
    if outcome == "missed":
        arms = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
    elif outcome == "invented":
        arms = f"M{x - 5:.1f} {y:.1f}h10m-5 -5v10"
    else:
        return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}"/>'
    return f'<path class="halo" d="{arms}"/><path class="arms" d="{arms}" stroke="{fill}"/>'


def _box(values: Sequence[float], *, top: float, x: Callable[[float], float], fill: str) -> list[str]:
    left, first, median, third, right = _summary(values)
    y = top + 22
    return [
        f'<path class="whisker" d="M{x(left):.1f} {y}H{x(first):.1f}M{x(third):.1f} {y}H{x(right):.1f}'
        f'M{x(left):.1f} {y - 4}v8M{x(right):.1f} {y - 4}v8"/>',
        f'<rect class="box" x="{x(first):.1f}" y="{y - 7}" width="{max(x(third) - x(first), 1):.1f}" height="14" '
        f'rx="2" fill="{fill}"/>',
        f'<line class="median" x1="{x(median):.1f}" x2="{x(median):.1f}" y1="{y - 9}" y2="{y + 9}"/>',
    ]


def _summary(values: Sequence[float]) -> tuple[float, float, float, float, float]:
    """The ends of a box: left whisker, first quartile, median, third quartile, right whisker."""
    first, median, third = np.percentile(values, (25, 50, 75)).tolist()
    reach = 1.5 * (third - first)
    left = min(value for value in values if value >= first - reach)
    right = max(value for value in values if value <= third + reach)
    return left, first, median, third, right


def curve_figure(region: Region, sessions: Sequence[Session], *, axis: str, width: int = 300, height: int = 178) -> str:
    """Draw the volume of one region of one patient over sessions: reference solid, prediction dashed.

    Args:
        region: Region, which gives name and colour.
        sessions: Sessions in the order of time, at least two.
        axis: Name of the horizontal axis.
        width: Width of the drawing in pixels.
        height: Height of the drawing in pixels.

    Returns:
        An `<svg>` element.
    """
    left, right, top, bottom = 44, 14, 26, 36
    marks = ticks(0, max(max(s.reference_ml, s.predicted_ml) for s in sessions) or 1.0, count=4)
    start, end = sessions[0].at, sessions[-1].at

    def x(at: float) -> float:
        return left + (at - start) / max(end - start, 1e-9) * (width - left - right)

    def y(ml: float) -> float:
        return height - bottom - (ml - marks[0]) / (marks[-1] - marks[0]) * (height - top - bottom)

    parts = [f'<text class="name" x="{left}" y="14">{escape(spoken(region.name))} (ml)</text>']
    for mark in marks:
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark:g}</text>')
    written = -math.inf
    for session in sessions:
        if x(session.at) - written >= 26:
            written = x(session.at)
            parts.append(
                f'<text class="tick" x="{written:.1f}" y="{height - bottom + 15}" text-anchor="middle">'
                f"{escape(session.label)}</text>"
            )
    parts.append(
        f'<text class="axis" x="{(left + width - right) / 2:.1f}" y="{height - 4}" text-anchor="middle">'
        f"{escape(axis)}</text>"
    )
    fill = colour(region)
    for kind, volumes in (
        ("reference", [s.reference_ml for s in sessions]),
        ("predicted", [s.predicted_ml for s in sessions]),
    ):
        line = "L".join(f"{x(s.at):.1f} {y(ml):.1f}" for s, ml in zip(sessions, volumes, strict=True))
        parts.append(f'<path class="curve {kind}" d="M{line}" stroke="{fill}"/>')
        for session, ml in zip(sessions, volumes, strict=True):
            body = fill if kind == "reference" else "none"
            said = f"{axis} {session.label}, {kind}: {number(ml, '.1f')} ml"
            parts.append(
                f'<circle class="{"dot" if kind == "reference" else "ring"}" cx="{x(session.at):.1f}" '
                f'cy="{y(ml):.1f}" r="4" fill="{body}" stroke="{fill}"><title>{escape(said)}</title></circle>'
            )
    said = f"Volume of {spoken(region.name)} over {len(sessions)} sessions, reference and prediction"
    return _svg(width, height, said, parts)


def spoken(name: str) -> str:
    """A region's name with spaces.

    >>> spoken("large_bowel")
    'large bowel'
    """
    return name.replace("_", " ")


def shortened(text: str, limit: int) -> str:
    """A text of at most that many letters: both ends of a longer one, since names of runs differ at either.

    >>> shortened("unet_3d_fullres_fold0", 14), shortened("unet", 14)
    ('unet_…es_fold0', 'unet')
    """
    if len(text) <= limit:
        return text
    end = (limit - 1) * 2 // 3
    return f"{text[: limit - 1 - end]}…{text[-end:]}"


def _short(name: str) -> str:
    words = spoken(name)
    return words if len(words) <= _LETTERS else words[: _LETTERS - 1] + "…"


def _width(text: str) -> float:
    """The width of a text in pixels, about."""
    return sum(_FULL if unicodedata.east_asian_width(letter) in "WF" else _WIDE.get(letter, _LETTER) for letter in text)


def _fitted(name: str, room: float) -> str:
    """The attributes that make a region's name narrower if it is wider than its room; empty if it is not."""
    return f' textLength="{room:.1f}" lengthAdjust="spacingAndGlyphs"' if _width(_short(name)) > room else ""


def _one_stop(svg: str) -> str:
    """A figure with one stop of the Tab key, at its first point; arrow keys lead on, by the page's script."""
    return svg.replace('tabindex="-1"', 'tabindex="0"', 1)


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
