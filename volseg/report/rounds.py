"""The rounds of a correction loop on one page: Dice on fixed test patients against mm redrawn, cases, minutes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np

from volseg import __version__
from volseg.cohort import Correction
from volseg.errors import UsageError
from volseg.metrics import Interval, mean_interval
from volseg.report.cells import NONE, write_files
from volseg.report.figures import ticks

_WIDTH, _HEIGHT = 760, 360
_LEFT, _TOP, _FOOT, _RIGHT = 64, 14, 46, 150
_Scale = Callable[[float], float]
# Colours that people with any sight tell apart (Okabe and Ito 2008), as CSS.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@dataclass(frozen=True)
class RoundPoint:
    """A network after some rounds of corrections.

    Attributes:
        name: Name of the network or of its predictions.
        round: Number of the last round that it learnt from; 0 before any.
        mm: Added path in mm that was drawn in all rounds up to it.
        cases: Number of cases that were corrected so far.
        minutes: Minutes that they took; None if none is known.
        timed: Number of cases whose minutes are known.
        dice: Mean Dice over test cases and regions with its interval by patient. Regions without a Dice in any test
            case are left out.
        by_region: Mean Dice by region.
    """

    name: str
    round: int
    mm: float
    cases: int
    minutes: float | None
    timed: int
    dice: Interval
    by_region: Mapping[str, Interval]


@dataclass(frozen=True)
class RoundCurve:
    """The rounds of one way to choose cases; a clinic has one, a simulation several."""

    name: str
    points: tuple[RoundPoint, ...]


def round_point(
    name: str,
    number: int,
    corrections: Sequence[Correction],
    dice: Mapping[tuple[str, str], float | None],
    patients: Mapping[str, str],
) -> RoundPoint:
    """Join what was drawn up to a round with the Dice of the network that learnt from it.

    Args:
        name: Name of the network.
        number: Number of the last round that it learnt from.
        corrections: Lines of `corrections.csv`.
        dice: Dice by (key, region) of the test cases; None if undefined.
        patients: Patient by key of the test cases.
    """
    rows = [row for row in corrections if row.round <= number]
    minutes = {(row.round, row.key): row.case_minutes for row in rows if row.case_minutes is not None}
    regions = list(dict.fromkeys(region for _, region in dice))

    def column(region: str) -> list[float]:
        return [math.nan if (value := dice.get((key, region))) is None else value for key in patients]

    names = list(patients.values())
    columns = {region: column(region) for region in regions}
    held = [values for values in columns.values() if not all(map(math.isnan, values))]
    return RoundPoint(
        name=name,
        round=number,
        mm=math.fsum(row.added_path_mm for row in rows),
        cases=len({row.key for row in rows}),
        minutes=math.fsum(minutes.values()) if minutes else None,
        timed=len({key for _, key in minutes}),
        dice=mean_interval(np.array(held).reshape(len(held), len(names)).T, names),
        by_region={region: mean_interval(values, names) for region, values in columns.items()},
    )


def write_rounds(
    curves: Sequence[RoundCurve], folder: Path, *, title: str, details: Mapping[str, str], drawn: str = "patient"
) -> list[Path]:
    """Write `rounds.html`, one page that opens from disk and loads nothing, and `rounds.csv`.

    Args:
        curves: Rounds in their order, of one way to choose cases or of several.
        folder: Folder, which is created if absent; files of these names are replaced.
        title: Heading of the page.
        details: Facts for the reader by name, in order.
        drawn: What the intervals draw anew, in a word.

    Returns:
        The paths of the files.

    Raises:
        UsageError: There is no round.
    """
    if not any(curve.points for curve in curves):
        raise UsageError("there is no round to show; name the predictions of two networks or more")
    return write_files(folder, {"rounds.html": _page(curves, title, details, drawn), "rounds.csv": _table(curves)})


def _table(curves: Sequence[RoundCurve]) -> str:
    regions = list(dict.fromkeys(name for curve in curves for point in curve.points for name in point.by_region))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = ["way", "name", "round", "mm", "cases", "minutes", "dice", "dice_low", "dice_high"]
    writer.writerow([*heads, *(f"dice {region}" for region in regions)])
    for curve in curves:
        for point in curve.points:
            minutes = "" if point.minutes is None else f"{point.minutes:g}"
            ends = [_number(value, 4) for value in (point.dice.mean, point.dice.low, point.dice.high)]
            of = [_number(point.by_region[name].mean, 4) if name in point.by_region else "" for name in regions]
            writer.writerow([curve.name, point.name, point.round, f"{point.mm:.0f}", point.cases, minutes, *ends, *of])
    return text.getvalue()


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else ""


def _page(curves: Sequence[RoundCurve], title: str, details: Mapping[str, str], drawn: str) -> str:
    css = (files("volseg.report") / "page").joinpath("report.css").read_text("utf-8")
    last = max((curve.points[-1] for curve in curves if curve.points), key=lambda point: point.mm)
    counts = [
        (str(last.cases), "cases corrected" if last.cases != 1 else "case corrected"),
        (f"{last.mm / 1000:,.1f} m", "of contour drawn anew"),
        (str(last.dice.cases), "test cases, the same for all"),
    ]
    if last.minutes is not None:
        counts.insert(2, (f"{last.minutes:,.0f}", f"minutes, known of {last.timed} cases"))
    facts = "".join(f"<li><b>{number}</b>{escape(word)}</li>" for number, word in counts)
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in details.items())
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="generator" content="volseg {__version__}">\n<title>{escape(title)}</title>\n'
        f'<style>\n{css}</style>\n</head>\n<body>\n<header class="top"><div class="inner"><h1>{escape(title)}</h1>'
        f'<ul class="facts">{facts}</ul><dl class="details">{rows}</dl></div></header>\n<main>\n'
        f"<section><h2>Dice against mm redrawn</h2><figure>{_figure(curves)}</figure>"
        '<p class="note">Mean Dice over regions and test cases after each round, with its 95 % interval '
        f"by {escape(drawn)}; "
        "regions that no test case holds are left out. The mm are the added path length: contour that was drawn anew, "
        "summed over slices, regions and rounds."
        "</p></section>\n"
        f'<section><h2>Rounds</h2><div class="wide">{_rows(curves)}</div></section>\n</main>\n</body>\n</html>\n'
    )


def _rows(curves: Sequence[RoundCurve]) -> str:
    regions = list(dict.fromkeys(name for curve in curves for point in curve.points for name in point.by_region))
    several = len(curves) > 1
    heads = [
        *(["Way"] if several else []),
        "Network",
        "Round",
        "Cases",
        "m redrawn",
        "Minutes",
        "Dice",
        "95 % interval",
    ]
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in [*heads, *regions])
    lines = []
    for number, curve in enumerate(curves):
        mark = f'<span class="swatch" style="background:{_COLOURS[number % len(_COLOURS)]}"></span>'
        for point in curve.points:
            minutes = NONE if point.minutes is None else f"{point.minutes:.0f} of {point.timed} cases"
            low, high = (_number(value, 3) for value in (point.dice.low, point.dice.high))
            means = [point.by_region[name].mean if name in point.by_region else math.nan for name in regions]
            cells = [
                str(point.round),
                str(point.cases),
                f"{point.mm / 1000:.2f}",
                minutes,
                _number(point.dice.mean, 3) or NONE,
                f"{low} to {high}" if low else NONE,
                *(_number(value, 3) or NONE for value in means),
            ]
            first = f'<th scope="row">{mark}{escape(curve.name)}</th>' if several else ""
            name = f"<td>{escape(point.name)}</td>" if several else f'<th scope="row">{escape(point.name)}</th>'
            numbers = "".join(f'<td class="num">{escape(cell)}</td>' for cell in cells)
            lines.append(f"<tr>{first}{name}{numbers}</tr>")
    return f'<table class="result"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _figure(curves: Sequence[RoundCurve]) -> str:
    """A curve per way; the interval is a whisker at each point."""
    points = [point for curve in curves for point in curve.points if math.isfinite(point.dice.mean)]
    ends = [value for point in points for value in (point.dice.low, point.dice.mean, point.dice.high)]
    held = [value for value in ends if math.isfinite(value)] or [0.0, 1.0]
    x_marks = ticks(0.0, max([point.mm / 1000 for point in points] + [0.001]))
    y_marks = ticks(min(held), max(held))
    inner, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _FOOT

    def x(metres: float) -> float:
        return _LEFT + metres / x_marks[-1] * inner

    def y(dice: float) -> float:
        return _TOP + (y_marks[-1] - dice) / (y_marks[-1] - y_marks[0]) * tall

    parts = []
    for mark in x_marks:
        parts.append(f'<line class="grid" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{_TOP}" y2="{_TOP + tall}"/>')
        parts.append(
            f'<text class="tick" x="{x(mark):.1f}" y="{_TOP + tall + 16}" text-anchor="middle">{mark:g}</text>'
        )
    for mark in y_marks:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + inner}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark:g}</text>')
    axis = '<text class="axis" text-anchor="middle"'
    parts.append(f'{axis} x="{_LEFT + inner / 2}" y="{_HEIGHT - 8}">m of contour drawn anew</text>')
    middle = _TOP + tall / 2
    parts.append(f'{axis} x="14" y="{middle}" transform="rotate(-90 14 {middle})">Dice</text>')
    for number, curve in enumerate(curves):
        parts += _curve(curve, _COLOURS[number % len(_COLOURS)], x, y, shift=2.5 * (number - (len(curves) - 1) / 2))
        if len(curves) > 1:
            at = _TOP + 14 + 20 * number
            left = _LEFT + inner + 16
            parts.append(f'<rect x="{left}" y="{at - 9}" width="12" height="12" fill="{_COLOURS[number % 6]}"/>')
            parts.append(f'<text class="name" x="{left + 18}" y="{at + 2}">{escape(curve.name)}</text>')
    title = "Dice of the test cases against metres of contour drawn anew"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}" style="max-width:{_WIDTH + 140}px">'
        f"<title>{title}</title>{''.join(parts)}</svg>"
    )


def _curve(curve: RoundCurve, colour: str, x: _Scale, y: _Scale, *, shift: float) -> list[str]:
    parts, places = [], []
    for point in curve.points:
        if not math.isfinite(point.dice.mean):
            continue
        at = x(point.mm / 1000) + (shift if point.mm else 0.0)
        places.append(f"{at:.1f},{y(point.dice.mean):.1f}")
        if math.isfinite(point.dice.low):
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y(point.dice.low):.1f}" y2="{y(point.dice.high):.1f}" '
                f'stroke="{colour}" stroke-width="1.4" opacity="0.55"/>'
            )
        told = f"{curve.name}, {point.name}: Dice {point.dice.mean:.3f}, {point.mm / 1000:.2f} m, {point.cases} cases"
        parts.append(
            f'<circle class="dot" cx="{at:.1f}" cy="{y(point.dice.mean):.1f}" r="4" fill="{colour}">'
            f"<title>{escape(told)}</title></circle>"
        )
    return [f'<polyline class="curve" points="{" ".join(places)}" stroke="{colour}"/>', *parts]
