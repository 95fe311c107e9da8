"""The validations of training runs over time, one line per run, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from volseg.report.figures import shortened, ticks

_WIDTH, _HEIGHT = 920, 440  # pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 210, 46, 52
_INK, _QUIET, _GRID = "#1c1c1f", "#63636b", "#dcdce0"
# Okabe and Ito 2008, distinct for every kind of colour vision; the yellow is too light for a line.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1c1c1f")
_DASHES = ("", "7 4", "2 3")
_STYLE = "font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:13px"


def runs_figure(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw mean Dice over minutes as a complete SVG file.

    The axis begins a little below the worst of the last validations, so that the first ones of a training, which are
    far below, do not flatten the rest; lines are cut off there. If none is far below, the axis begins at the lowest.

    Args:
        curves: Validations (minutes, mean Dice) of each run, by its name.
    """
    points = [point for curve in curves.values() for point in curve]
    ends = [curve[-1][1] for curve in curves.values() if curve]
    top = max((dice for _, dice in points), default=1.0)
    low_end = min(ends, default=0.0)
    lowest = min((dice for _, dice in points), default=0.0)
    floor = max(0.0, low_end - max(0.05, 1.5 * (top - low_end)))
    if lowest > floor - (top - floor):  # at most twice as high
        floor = min(floor, lowest)
    marks = [mark for mark in ticks(floor, min(1.0, top + 0.005)) if mark <= 1.0]
    low, high = marks[0], marks[-1]
    minutes = ticks(0, max((at for at, _ in points), default=1.0))
    last = max(minutes[-1], 1e-9)

    def x(at: float) -> float:
        return round(_LEFT + at / last * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(dice: float) -> float:
        return round(_HEIGHT - _BOTTOM - (dice - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    right = _WIDTH - _RIGHT
    parts = [
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        _text(16, 26, "Mean Dice of the validation cases over the time of training", size=16, weight=600),
        f'<clipPath id="inside"><rect x="{_LEFT - 6}" y="{_TOP - 6}" width="{right - _LEFT + 12}" '
        f'height="{_HEIGHT - _TOP - _BOTTOM + 6}"/></clipPath>',
    ]
    for mark in marks:
        parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{y(mark)}" y2="{y(mark)}" stroke="{_GRID}"/>')
        parts.append(_text(_LEFT - 8, y(mark) + 4, f"{mark:g}", fill=_QUIET, anchor="end"))
    for mark in minutes:
        parts.append(_text(x(mark), _HEIGHT - _BOTTOM + 18, f"{mark:g}", fill=_QUIET, anchor="middle"))
    parts.append(_text((_LEFT + right) / 2, _HEIGHT - 14, "minutes", fill=_QUIET, anchor="middle"))
    places = _apart([y(max(curve[-1][1], low)) for curve in curves.values() if curve])
    drawn = [(name, curve) for name, curve in curves.items() if curve]
    for number, ((name, curve), place) in enumerate(zip(drawn, places, strict=True)):
        colour = _COLOURS[number % len(_COLOURS)]
        dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
        line = "L".join(f"{x(at)} {y(dice)}" for at, dice in curve)
        best = max(curve, key=lambda point: point[1])
        parts.append(
            f'<g clip-path="url(#inside)"><path d="M{line}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/></g>'
        )
        parts.append(
            f'<circle cx="{x(best[0])}" cy="{y(best[1])}" r="4.5" fill="{colour}">'
            f"<title>{escape(name)}: {best[1]:.3f} after {best[0]:.1f} min</title></circle>"
            if best[1] >= low
            else ""
        )
        parts.append(
            f'<line x1="{x(curve[-1][0])}" x2="{right + 14}" y1="{y(curve[-1][1])}" y2="{place - 4}" '
            f'stroke="{colour}" stroke-opacity="0.35"/>'
        )
        parts.append(_text(right + 18, place, f"{shortened(name, 24)} {best[1]:.3f}", fill=colour, weight=600))
    body = "\n".join(part for part in parts if part)
    label = "Mean Dice of the validation cases over minutes of training, one line a run"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" role="img" aria-label="{label}" style="{_STYLE}">\n{body}\n</svg>\n'
    )


def _apart(heights: Sequence[float], *, step: float = 18) -> list[float]:
    """Heights of the names beside the lines: in the order of the lines, without overlap, inside the figure."""
    order = sorted(range(len(heights)), key=lambda number: heights[number])
    placed = [0.0] * len(heights)
    floor = _TOP - step
    for number in order:
        floor = placed[number] = max(heights[number] + 4, floor + step)
    over = max(0.0, floor - (_HEIGHT - _BOTTOM))
    return [place - over for place in placed]


def _text(
    x: float, y: float, text: str, *, fill: str = _INK, size: int = 13, weight: int = 400, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x}" y="{y}" fill="{fill}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )
