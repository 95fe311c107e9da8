"""The figure of a comparison: one row per pair and region, with every case, the mean and its interval, as SVG."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from volseg.evaluation import Comparison, Difference
from volseg.report.figures import shortened, ticks

_WIDTH, _LEFT, _RIGHT = 920, 210, 210  # pixels
_LETTERS = 30  # of a name at the left
_HEAD, _LANE, _FOOT, _BAND = 62, 54, 46, 30
_MOST_POINTS, _LEAST_OF_LANE = 10_000, 20  # of the figure, and of a row whatever their number
_GOLDEN = 0.618034  # multiples of it never line up, so that neighbouring points stay apart
_INK, _QUIET, _GRID = "#1c1c1f", "#63636b", "#dcdce0"
_BETTER, _WORSE, _TIE = "#0072b2", "#d55e00", "#8a8a90"
_STYLE = "font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:13px"


def comparison_figure(comparison: Comparison) -> str:
    """Draw the paired differences, second minus first, as a complete SVG file.

    Blue points are better in the second set, orange ones in the first, grey ones tie; the band is the tie tolerance.
    Beyond 10,000 points in all each row has those of its largest differences alone, which the figure says.
    """
    lanes = comparison.differences
    points = [value for found in lanes for value in comparison.of_pair(found).values()]
    most = max(_LEAST_OF_LANE, _MOST_POINTS // len(lanes)) if len(points) > _MOST_POINTS else len(points)
    ends = [end for found in lanes for end in (found.low, found.high) if end is not None]
    reach = max([abs(value) for value in (*points, *ends)] + [2 * comparison.tolerance, 1e-6]) * 1.06
    height = _HEAD + _LANE * len(lanes) + _FOOT
    inner = _WIDTH - _LEFT - _RIGHT

    def x(value: float) -> float:
        return round(_LEFT + (value + reach) / (2 * reach) * inner, 2)

    metric = comparison.metric
    unit = f", {metric.unit}" if metric.unit else ""
    label = f"Paired differences of {metric.title}{unit}: second minus first set"
    better = ("to the right", "to the left")[metric.higher_is_better is False]
    top, bottom = _HEAD, _HEAD + _LANE * len(lanes)
    ties = f"Shaded: ties, up to {comparison.tolerance:g}."
    fewer = f" Points: the {most} farthest of each row." if most < len(points) else ""
    parts = [
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(16, 26, label, size=16, weight=600),
        _text(16, 46, f"The second set is better {better}. {ties}{fewer}", fill=_QUIET),
        _text(_WIDTH - _RIGHT + 16, 46, "win / tie / loss, p (Holm)", fill=_QUIET),
    ]
    if comparison.tolerance:
        left, right = x(-comparison.tolerance), x(comparison.tolerance)
        parts.append(f'<rect x="{left}" y="{top}" width="{right - left:.2f}" height="{bottom - top}" fill="#f0f0f2"/>')
    for tick in ticks(-reach, reach):
        if abs(tick) > reach:
            continue
        dark = abs(tick) < 1e-12
        parts.append(
            f'<line x1="{x(tick)}" x2="{x(tick)}" y1="{top}" y2="{bottom}" stroke="{_INK if dark else _GRID}"/>'
        )
        text = "0" if dark else f"{tick:+g}"
        parts.append(_text(x(tick), bottom + 18, text, fill=_QUIET, anchor="middle"))
    parts.append(
        _text(_LEFT + inner / 2, bottom + 36, f"difference of {metric.title}{unit}", fill=_QUIET, anchor="middle")
    )
    for i, found in enumerate(lanes):
        parts += _lane(comparison, found, top + i * _LANE, x, most=most)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(label, quote=True)}" style="{_STYLE}">\n{body}\n</svg>\n'
    )


def _lane(
    comparison: Comparison, found: Difference, top: float, x: Callable[[float], float], *, most: int
) -> list[str]:
    middle = top + _LANE / 2
    slack = comparison.tolerance + 1e-9
    sign = -1 if comparison.metric.higher_is_better is False else 1
    pair = [f"{found.second} − {found.first}"]
    if len(pair[0]) > _LETTERS:  # each name in a line of its own, since pairs that share one must not look the same
        pair = [shortened(found.second, _LETTERS), f"− {shortened(found.first, _LETTERS - 2)}"]
    first = middle - 3 if len(pair) == 1 else middle - 9
    parts = [
        f'<line x1="16" x2="{_WIDTH - 16}" y1="{top}" y2="{top}" stroke="{_GRID}"/>',
        _text(16, first, shortened(found.region.replace("_", " "), _LETTERS - 4), weight=600),
        *(_text(16, first + 17 + 14 * line, name, fill=_QUIET, size=12) for line, name in enumerate(pair)),
    ]
    cases = list(comparison.of_pair(found).items())
    if len(cases) > most:
        cases = sorted(cases, key=lambda case: abs(case[1]), reverse=True)[:most]
    for i, (key, value) in enumerate(cases):
        fill = _TIE if abs(value) <= slack else _BETTER if sign * value > 0 else _WORSE
        y = middle + (i * _GOLDEN % 1 - 0.5) * _BAND
        hint = f"{escape(key)}: {value:+.{comparison.metric.digits}f}"
        parts.append(
            f'<circle cx="{x(value)}" cy="{y:.2f}" r="3" fill="{fill}" fill-opacity="0.6">'
            f"<title>{hint}</title></circle>"
        )
    if found.low is not None and found.high is not None:
        parts.append(
            f'<line x1="{x(found.low)}" x2="{x(found.high)}" y1="{middle}" y2="{middle}" stroke="{_INK}" '
            'stroke-width="2"/>'
        )
    if found.mean is not None:
        at = x(found.mean)
        diamond = f"{at},{middle - 6} {at + 5:.2f},{middle} {at},{middle + 6} {at - 5:.2f},{middle}"
        parts.append(f'<polygon points="{diamond}" fill="{_INK}" stroke="#ffffff"/>')
    side = _WIDTH - _RIGHT + 16
    p = "" if found.p_holm is None else "p < 0.001" if found.p_holm < 0.001 else f"p = {found.p_holm:.3f}"
    parts.append(_text(side, middle - 3, f"{found.wins} / {found.ties} / {found.losses}"))
    parts.append(_text(side, middle + 14, p if found.p_holm is not None else found.reason, fill=_QUIET, size=12))
    return parts


def _text(
    x: float, y: float, text: str, *, fill: str = _INK, size: int = 13, weight: int = 400, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x}" y="{y}" fill="{fill}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )
