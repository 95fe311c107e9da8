"""The page of the benchmark of days, `days.html`: a table, and Dice over the treatment; it loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from volseg import __version__
from volseg.files import atomic
from volseg.report.cells import NONE
from volseg.report.figures import spoken, ticks

PAGE = "days.html"
_WIDTH, _HEIGHT = 960, 380  # pixels
_LEFT, _RIGHT, _TOP, _FOOT = 56, 260, 14, 50
_LINE = 17  # pixels between two names
# Okabe and Ito 2008, distinct for every kind of colour vision, and two of Tol's for the further ways.
_COLOURS = (
    "#7a7a85",
    "#b59f00",
    "#e69f00",
    "#0072b2",
    "#56b4e9",
    "#cc79a7",
    "#8c564b",
    "#4b4b52",
    "#009e73",
    "#d55e00",
    "#332288",
    "#882255",
)
_HEADS = (
    *("Way", "Dice", "gain over no prior", "minutes to correct", "gain, minutes"),
    *("with tolerance, minutes", "gain, minutes", "cases"),
)
_COLUMNS = ("dice", "gain_dice", "minutes", "gain_minutes", "tolerant_minutes", "gain_tolerant_minutes")
_REGION_HEADS = ("Way", "Region", "Dice", "HD95, mm", "surface Dice", "added path, mm")


def write_days_page(content: Mapping[str, Any], folder: str | Path) -> Path:
    """Write `days.html`, whole or not at all.

    Args:
        content: Content of the `summary.json` of `volseg days`.
        folder: Folder, which exists.

    Returns:
        The path of the page.
    """
    path = Path(folder) / PAGE
    with atomic(path) as partial:
        partial.write_text(days_as_html(content), encoding="utf-8")
    return path


def days_as_html(content: Mapping[str, Any]) -> str:
    """The page."""
    css = (files("volseg.report") / "page" / "report.css").read_text("utf-8")
    title = f"Day after day: {content['bundle']}"
    titles = content.get("titles", {})
    modes = {titles.get(mode, mode): found for mode, found in content["modes"].items()}
    rows = [
        [mode, *(_cell(found.get(name, {"mean": None})) for name in _COLUMNS), str(found["cases"])]
        for mode, found in modes.items()
    ]
    names = ("dice", "hd95_mm", "surface_dice", "added_path_length_mm")
    regions = [
        [mode, spoken(region), *(_cell(metrics[name]) for name in names)]
        for mode, found in modes.items()
        for region, metrics in found["regions"].items()
    ]
    length = (
        f"{content['epochs']} epochs"
        if content.get("epochs")
        else f"{content['minutes']:g} minutes"
        if content.get("minutes")
        else "the bundle's own epochs"
    )
    told = {"Bundle": content["bundle"], "Training": length, "Seed": content.get("seed", 0)}
    details = "".join(f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>" for name, value in told.items())
    defined = "".join(
        f"<dt>{escape(titles.get(mode, mode))}</dt><dd>{escape(text)}.</dd>"
        for mode, text in content["definitions"].items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><meta name="generator" content="volseg {__version__}">'
        f"<title>{escape(title)}</title><style>\n{css}</style></head><body>"
        f'<header class="top"><div class="inner"><h1>{escape(title)}</h1><dl class="details">{details}</dl>'
        "</div></header>"
        "<main><section><h2>From the second day on</h2>"
        f"{_table(_HEADS, rows, words=1)}"
        '<p class="note">Patients are held out, and day k is predicted from days before k alone. In brackets the 95 % '
        "interval by patient. Minutes are the added path length, in which a pixel of contour counts as drawn only if "
        "the prediction's contour runs through that very pixel, times an assumed 2 minutes per metre; with tolerance, "
        f"if it lies within {escape(str(content.get('path_tolerance', 'one')))}.</p></section>"
        f"<section><h2>Over the treatment</h2>{_figure(modes, 'by_day', 'number of the day, from 0')}</section>"
        f"<section><h2>By the gap to the day before</h2>{_figure(modes, 'by_gap', 'gap to the day before')}</section>"
        f"<section><h2>By region</h2>{_table(_REGION_HEADS, regions, words=2)}</section>"
        f"<section><h2>Definitions</h2><dl>{defined}</dl></section></main>"
        f'<footer><div class="inner"><p>Written by volseg {__version__}. The page loads nothing from any network. '
        "Not a medical device.</p></div></footer></body></html>\n"
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> str:
    """A table whose first columns are words and whose others are numbers."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row">{escape(text)}</th>'
            if place == 0
            else f"<td{' class=num' if place >= words else ''}>{escape(text)}</td>"
            for place, text in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table class="result"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(found: Mapping[str, Any]) -> str:
    """A mean with its interval, one digit for large numbers."""
    if found.get("mean") is None:
        return NONE
    digits = 3 if abs(found["mean"]) < 10 else 1
    text = f"{found['mean']:.{digits}f}"
    return text if found.get("low") is None else f"{text} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def _figure(modes: Mapping[str, Any], name: str, axis: str) -> str:
    """The mean Dice of each way at each place of an axis, with intervals; empty if nothing is there."""
    heads = list(dict.fromkeys(head for found in modes.values() for head in found[name]))
    curves = {
        mode: [
            (at, found[name][head])
            for at, head in enumerate(heads)
            if found[name].get(head, {}).get("mean") is not None
        ]
        for mode, found in modes.items()
    }
    curves = {mode: curve for mode, curve in curves.items() if curve}
    if not curves:
        return ""
    ends = [_ends(one) for curve in curves.values() for _, one in curve]
    marks = ticks(max(0.0, min(low for low, _ in ends)), min(1.0, max(high for _, high in ends)))
    low, high = marks[0], marks[-1]
    step = (_WIDTH - _LEFT - _RIGHT) / len(heads)

    def y(value: float) -> float:
        return round(_HEIGHT - _FOOT - (value - low) / (high - low) * (_HEIGHT - _TOP - _FOOT), 1)

    right = _WIDTH - _RIGHT
    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(mark)}" y2="{y(mark)}"/>'
        f'<text class="tick" x="{_LEFT - 6}" y="{y(mark) + 4}" text-anchor="end">{mark:g}</text>'
        for mark in marks
    ]
    parts += [
        f'<text class="tick" x="{_LEFT + (at + 0.5) * step:.1f}" y="{_HEIGHT - _FOOT + 18}" text-anchor="middle">'
        f"{escape(head)}</text>"
        for at, head in enumerate(heads)
    ]
    parts.append(
        f'<text class="axis" x="{(_LEFT + right) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(axis)}</text>'
    )
    places = _apart([y(curve[-1][1]["mean"]) for curve in curves.values()])
    for number, ((mode, curve), place) in enumerate(zip(curves.items(), places, strict=True)):
        colour = _COLOURS[list(modes).index(mode) % len(_COLOURS)]
        beside = (number - (len(curves) - 1) / 2) * min(9.0, 0.6 * step / len(curves))  # so that no bar hides another
        points = [(round(_LEFT + (at + 0.5) * step + beside, 1), one) for at, one in curve]
        line = " ".join(f"{x},{y(one['mean'])}" for x, one in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, one in points:
            least, most = _ends(one)
            parts.append(
                f'<line x1="{x}" x2="{x}" y1="{y(max(least, low))}" y2="{y(min(most, high))}" stroke="{colour}" '
                f'stroke-opacity="0.55" stroke-width="2"/><circle cx="{x}" cy="{y(one["mean"])}" r="4" fill="{colour}">'
                f"<title>{escape(mode)}: {_cell(one)}</title></circle>"
            )
        parts.append(
            f'<line x1="{points[-1][0]}" x2="{right + 8}" y1="{y(points[-1][1]["mean"])}" y2="{place - 4}" '
            f'stroke="{colour}" stroke-opacity="0.3"/><text x="{right + 12}" y="{place}" '
            f'style="fill:{colour};font-size:13px;font-weight:600">{escape(mode)} {points[-1][1]["mean"]:.3f}</text>'
        )
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="Mean Dice of each way by {escape(axis)}">'
        f"{''.join(parts)}</svg><figcaption>Mean Dice over regions and cases; bars are 95 % intervals by patient."
        "</figcaption></figure>"
    )


def _ends(found: Mapping[str, Any]) -> tuple[float, float]:
    """The interval, or the mean twice if there is none."""
    mean = float(found["mean"])
    low, high = found.get("low"), found.get("high")
    return (mean if low is None else float(low), mean if high is None else float(high))


def _apart(heights: Sequence[float]) -> list[float]:
    """Heights of the names beside the lines: in the order of the lines, without overlap, inside the figure."""
    placed, floor = [0.0] * len(heights), float(_TOP - _LINE)
    for number in sorted(range(len(heights)), key=lambda one: heights[one]):
        floor = placed[number] = max(heights[number] + 4, floor + _LINE)
    over = max(0.0, floor - (_HEIGHT - _FOOT))
    return [place - over for place in placed]
