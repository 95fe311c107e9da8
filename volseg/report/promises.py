"""What a calibrated network promised, in the reports: coverage by region, calibration plot, risk against coverage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from volseg.cohort import Cohort
from volseg.evaluation import PromiseCheck, RegionScores, check_promises, review_curve
from volseg.metrics import Interval
from volseg.report.cells import NONE, grid
from volseg.report.figures import colour, spoken, ticks

_SIDE = 320
_LEFT, _TOP, _FOOT = 58, 10, 44
_HEADS = (
    "Region",
    "Promised",
    "Dice at least its bound",
    "Slack",
    "Volume within its interval",
    "Whole region within its margin",
    "Median margin, mm",
    "Withheld",
)


def short_promises(rows: Sequence[RegionScores]) -> str:
    """A line per region for a terminal; empty without bounds.

    >>> short_promises([])
    ''
    """
    return "\n".join(
        f"promise  {one.region}: Dice at least its bound in {_covered(one.dice)}, promised {_percent(one.level)}; "
        f"volume within its interval in {_covered(one.volume)}; "
        f"the whole region within its margin{_median(one)} in {_covered(one.margin)}; "
        f"{one.withheld} of {one.answered + one.withheld} withheld"
        + (f"  THE PROMISE IS BROKEN ({', '.join(one.broken)})" if one.broken else "")
        for one in check_promises(rows)
    )


def promises_as_json(rows: Sequence[RegionScores]) -> list[dict[str, Any]]:
    """One entry per region for `summary.json`."""
    return [
        {
            "region": one.region,
            "level": _defined(one.level),
            "answered": one.answered,
            "withheld": one.withheld,
            "dice": _interval(one.dice),
            "volume": _interval(one.volume),
            "margin": _interval(one.margin),
            "median_margin_mm": _defined(one.median_margin_mm),
            "slack": _defined(one.slack),
        }
        for one in check_promises(rows)
    ]


def promises_as_markdown(rows: Sequence[RegionScores]) -> list[str]:
    """A section with a table; no line without bounds."""
    checks = check_promises(rows)
    if not checks:
        return []
    lines = [
        [
            one.region,
            _percent(one.level),
            _covered(one.dice),
            f"{one.slack:.3f}" if math.isfinite(one.slack) else NONE,
            _covered(one.volume),
            _covered(one.margin),
            f"{one.median_margin_mm:.2f}" if math.isfinite(one.median_margin_mm) else NONE,
            str(one.withheld),
        ]
        for one in checks
    ]
    head = list(_HEADS)
    return ["", "## Promises", "", *grid(head, lines)]


def promise_section(rows: Sequence[RegionScores], cohort: Cohort, links: Mapping[str, str]) -> str:
    """The section of the page: a table, the calibration plot, and risk against coverage; empty without bounds.

    Args:
        rows: Rows of scored cases.
        cohort: Cohort, which gives the colours.
        links: Id of each case in the page, by key.
    """
    checks = check_promises(rows)
    if not checks:
        return ""
    cells = "".join(
        f'<tr><th scope="row">{escape(spoken(one.region))}</th><td class="num">{_percent(one.level)}</td>'
        f'<td class="num">{escape(_covered(one.dice))}</td><td class="num">{_plain(one.slack)}</td>'
        f'<td class="num">{escape(_covered(one.volume))}</td><td class="num">{escape(_covered(one.margin))}</td>'
        f'<td class="num">{_plain(one.median_margin_mm, 2)}</td><td class="num">{one.withheld}</td></tr>'
        for one in checks
    )
    head = "".join(f'<th scope="col">{text}</th>' for text in _HEADS)
    drawn = [_calibration_plot(rows, checks, cohort, links), _review_plot(rows)]
    figures = "".join(f"<figure>{one}</figure>" for one in drawn if one)
    return (
        '<section id="promises"><h2>Promises</h2><div class="wide"><table class="result"><thead><tr>'
        f"{head}</tr></thead><tbody>{cells}</tbody></table></div>"
        f'<div class="pair">{figures}</div><p class="note">Left: a point is a case and region; below the line the '
        "promise was broken. Right: the mean of 1 - Dice of what is left when the lowest bounds are reviewed first; "
        "the dashed line is a review in any order. In brackets the 95 % interval by patient.</p></section>"
    )


def _calibration_plot(
    rows: Sequence[RegionScores], checks: Sequence[PromiseCheck], cohort: Cohort, links: Mapping[str, str]
) -> str:
    """Each bound against the Dice that came."""
    shown = [row for row in rows if row.dice_at_least is not None and row.dice is not None]
    if not shown:
        return ""
    colours = {region.name: colour(region) for region in cohort.labels.regions}
    least = min(0.9, *(min(row.dice_at_least or 0.0, row.dice or 0.0) for row in shown))  # an axis has a length
    plot = _Plot((math.floor(least * 10) / 10, 1.0), (math.floor(least * 10) / 10, 1.0), "Dice at least", "Dice")
    low = plot.x_range[0]
    parts = [plot.line([(low, low), (1.0, 1.0)], kind="whisker")]
    for row in shown:
        name = f"{row.key}, {spoken(row.region)}: at least {row.dice_at_least:.3f}, is {row.dice:.3f}"
        at = plot.at(row.dice_at_least or 0.0, row.dice or 0.0)
        fill = colours.get(row.region, "currentColor")
        circle = (
            f'<circle class="dot" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="4" fill="{fill}">'
            f"<title>{escape(name)}</title></circle>"
        )
        parts.append(f'<a href="#{escape(links[row.key])}">{circle}</a>' if row.key in links else circle)
    told = "; ".join(f"{spoken(one.region)} {_covered(one.dice)}" for one in checks)
    return plot.svg(parts, title=f"Bounds of Dice against what came: {told}")


def _review_plot(rows: Sequence[RegionScores]) -> str:
    """Risk against coverage."""
    curve = review_curve(rows)
    if len(curve) < 2:
        return ""
    top = ticks(0, max(risk for _, risk in curve))[-1]
    plot = _Plot((0.0, 1.0), (0.0, top), "share of cases reviewed, the lowest bound first", "mean 1 - Dice of the rest")
    mean = curve[0][1]
    parts = [plot.line([(0.0, mean), (1.0, mean)], kind="curve predicted"), plot.line(curve, kind="curve")]
    return plot.svg(parts, title="Risk against coverage")


class _Plot:
    """Axes of a square figure."""

    def __init__(self, x_range: tuple[float, float], y_range: tuple[float, float], x_name: str, y_name: str) -> None:
        self.x_range, self.y_range, self._names = x_range, y_range, (x_name, y_name)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place of a point in the figure."""
        (x0, x1), (y0, y1) = self.x_range, self.y_range
        return (_LEFT + (x - x0) / (x1 - x0) * _SIDE, _TOP + (y1 - y) / (y1 - y0) * _SIDE)

    def line(self, points: Sequence[tuple[float, float]], *, kind: str) -> str:
        """A line through points."""
        places = " ".join("{:.1f},{:.1f}".format(*self.at(x, y)) for x, y in points)
        return f'<polyline class="{kind}" points="{places}" stroke="currentColor"/>'

    def svg(self, parts: Sequence[str], *, title: str) -> str:
        """The figure."""
        width, height = _LEFT + _SIDE + 12, _TOP + _SIDE + _FOOT
        drawn = []
        for mark in ticks(*self.x_range):
            x, y = self.at(mark, self.y_range[0])
            drawn.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{y:.1f}"/>')
            drawn.append(f'<text class="tick" x="{x:.1f}" y="{y + 15:.1f}" text-anchor="middle">{mark:g}</text>')
        for mark in ticks(*self.y_range):
            x, y = self.at(self.x_range[0], mark)
            drawn.append(f'<line class="grid" x1="{x:.1f}" x2="{x + _SIDE:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
            drawn.append(f'<text class="tick" x="{x - 5:.1f}" y="{y + 4:.1f}" text-anchor="end">{mark:g}</text>')
        x_name, y_name = map(escape, self._names)
        middle = _TOP + _SIDE / 2
        axis = '<text class="axis" text-anchor="middle"'
        drawn.append(f'{axis} x="{_LEFT + _SIDE / 2}" y="{height - 6}">{x_name}</text>')
        drawn.append(f'{axis} x="10" y="{middle}" transform="rotate(-90 10 {middle})">{y_name}</text>')
        return (
            f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
            f"<title>{escape(title)}</title>"
            f"{''.join(drawn)}{''.join(parts)}</svg>"
        )


def _covered(found: Interval) -> str:
    if not found.cases:
        return NONE
    return f"{_percent(found.mean)} [{_percent(found.low)}, {_percent(found.high)}] of {found.patients}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %" if math.isfinite(value) else NONE


def _median(one: PromiseCheck) -> str:
    """The median margin in words; empty without margins."""
    return f" of {one.median_margin_mm:.1f} mm" if math.isfinite(one.median_margin_mm) else ""


def _plain(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else NONE


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _interval(found: Interval) -> dict[str, Any]:
    if not found.cases:
        return {"cases": 0, "patients": 0, "share": None, "interval": None}
    return {
        "cases": found.cases,
        "patients": found.patients,
        "share": found.mean,
        "interval": [found.low, found.high],
    }
