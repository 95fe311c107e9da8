"""The tables of the HTML report: result, failed cases, cases, definitions. All text is escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from volseg.cohort import Cohort
from volseg.evaluation import METRICS, Metric, RegionScores
from volseg.labels import LabelTable
from volseg.metrics import DRAWS
from volseg.report.cells import NONE, number
from volseg.report.figures import colour, spoken
from volseg.report.summary import RegionSummary, Spread, Summary
from volseg.report.summary_file import DEFINITIONS

# Columns of the case table that are always shown; a checkbox shows the others.
MAIN = ("dice", "dice_at_least", "hd95_mm", "surface_dice", "reference_ml", "predicted_ml", "volume_error_ml")
_LEAST_ROWS = 200  # of the case table, whatever the limit
_RESULT = ("dice", "hd95_mm", "surface_dice", "volume_error_ml")


def result_table(summary: Summary, labels: LabelTable) -> str:
    """Means with their intervals, medians, and the numbers of cases that were missed, invented or empty in both."""
    shown = [metric for metric in summary.metrics if metric.name in _RESULT]
    heads = ["Region", "Cases", *map(_named, shown), "Missed", "Invented", "Both empty"]
    lines = [_result_of(region, labels, shown) for region in summary.regions]
    if len(summary.regions) > 1:
        # A mean over regions is meaningful for a ratio or a distance, not for a volume.
        cells = [
            _spread(summary.means[m.name], m)
            if m.higher_is_better is not None and m.name in summary.means
            else "<td></td>"
            for m in shown
        ]
        lines.append(
            f'<tr class="total"><th scope="row">Mean of regions</th><td class="num">{summary.cases}</td>'
            f"{''.join(cells)}{'<td></td>' * 3}</tr>"
        )
    note = (
        f"Mean, in brackets its 95 % interval (bootstrap by patient, {summary.patients} patients, {DRAWS} draws), "
        f"below it the median. {NONE}: undefined. {_coverage(summary, shown)}"
    )
    return f'{_table("result", heads, lines)}<p class="note">{note}</p>{_further(summary, labels)}'


def _result_of(region: RegionSummary, labels: LabelTable, shown: Sequence[Metric]) -> str:
    cells = [_spread(region.spreads[metric.name], metric) for metric in shown]
    for outcome in ("missed", "invented", "both empty"):
        count = region.outcomes[outcome]
        cells.append(f'<td class="num{" some" if count else " none"}">{count}</td>')
    return (
        f'<tr><th scope="row">{swatch(region.region, labels)}{escape(spoken(region.region))}</th>'
        f'<td class="num">{region.cases}</td>{"".join(cells)}</tr>'
    )


def _further(summary: Summary, labels: LabelTable) -> str:
    """Every other metric that some case has: one row per metric, one column per region, with the cases it covers."""
    others = [metric for metric in summary.metrics if metric.name not in _RESULT]
    if not others:
        return ""
    heads = [
        "Metric",
        *(f"{swatch(region.region, labels)}{escape(spoken(region.region))}" for region in summary.regions),
    ]
    lines = []
    for metric in others:
        cells = [_spread(region.spreads[metric.name], metric, covered=region.cases) for region in summary.regions]
        lines.append(f'<tr><th scope="row">{_named(metric)}</th>{"".join(cells)}</tr>')
    return (
        f'<details class="more-metrics"><summary>Further metrics ({len(others)})</summary>'
        f"{_table('result', heads, lines)}</details>"
    )


def _table(kind: str, heads: Sequence[str], lines: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
        "</div>"
    )


def _named(metric: Metric) -> str:
    return escape(f"{metric.title} ({metric.unit})" if metric.unit else metric.title)


def _spread(spread: Spread, metric: Metric, *, covered: int | None = None) -> str:
    """A cell: mean, interval and median; with `covered`, also the number of cases if it is smaller than that."""
    if spread.mean is None:
        return f'<td class="num">{NONE}</td>'
    form = _form(metric)
    ends = (spread.low, spread.high)
    interval = NONE if None in ends else ", ".join(number(end, form) for end in ends)
    below = [] if spread.median is None else [f"median {number(spread.median, form)}"]
    if covered is not None and spread.cases < covered:
        below.append(f"{spread.cases} of {covered} cases")
    return (
        f'<td class="num"><span class="mean">{number(spread.mean, form)}</span> '
        f'<span class="interval">[{interval}]</span><span class="median">{", ".join(below)}</span></td>'
    )


def _form(metric: Metric) -> str:
    return f"{'+' if metric.name.startswith('volume_error') else ''}.{metric.digits}f"


def _coverage(summary: Summary, shown: Sequence[Metric]) -> str:
    """A text about the means that leave cases out."""
    short = [
        f"{escape(metric.title)} of {escape(spoken(region.region))} "
        f"{region.spreads[metric.name].cases} of {region.cases}"
        for region in summary.regions
        for metric in shown
        if region.spreads[metric.name].cases < region.cases
    ]
    if not short:
        return "Every mean of a region covers every scored case."
    return f"Means that leave cases out, being undefined there: {'; '.join(short)}."


def failure_table(failures: Sequence[RegionScores]) -> str:
    """The cases that could not be scored, with the reasons; empty if there are none."""
    if not failures:
        return ""
    lines = "".join(
        f'<tr><th scope="row">{escape(row.key)}</th><td>{escape(row.patient) or NONE}</td>'
        f"<td>{escape(row.error or '')}</td></tr>"
        for row in failures
    )
    noun = "case" if len(failures) == 1 else "cases"
    return (
        f'<section id="failed" class="failed"><h2>{len(failures)} {noun} could not be scored</h2>'
        "<p>They are in no number of this page.</p>"
        '<div class="wide"><table><thead><tr><th scope="col">Case</th><th scope="col">Patient</th>'
        f'<th scope="col">Error</th></tr></thead><tbody>{lines}</tbody></table></div></section>'
    )


def case_table(
    rows: Sequence[RegionScores], cohort: Cohort, links: Mapping[str, str], *, limit_bytes: float = math.inf
) -> tuple[str, int]:
    """One row per case and region, the worst first; a click on a column's title sorts.

    Args:
        rows: Rows of scored cases, in the order to show.
        cohort: Cohort, which gives sessions and colours.
        links: Id of each case in the page, by key.
        limit_bytes: Size in bytes from which on rows are left out, the last first; 200 stay in any case.

    Returns:
        The table, and its number of rows.
    """
    metrics = [metric for metric in METRICS if any(getattr(row, metric.name) is not None for row in rows)]
    sessions = any(_session(row, cohort) for row in rows)
    patients = any(row.patient != row.key for row in rows)
    heads = [_head("Case", "")]
    heads += [_head("Patient", "")] if patients else []
    heads += [_head("Session", "")] if sessions else []
    heads += [_head("Region", ""), _head("Outcome", "")]
    heads += [_head(metric.title, metric.unit, kind=_kind(metric), hint=metric.definition) for metric in metrics]
    lines: list[str] = []
    size = 0
    for row in rows:
        if size > limit_bytes and len(lines) >= _LEAST_ROWS:
            break
        link = links.get(row.key)
        key = escape(row.key)
        cells = [f'<th scope="row">{f"""<a href="#{escape(link)}">{key}</a>""" if link else key}</th>']
        cells += [f"<td>{escape(row.patient)}</td>"] if patients else []
        cells += [f"<td>{escape(_session(row, cohort))}</td>"] if sessions else []
        cells.append(f"<td>{swatch(row.region, cohort.labels)}{escape(spoken(row.region))}</td>")
        state = row.outcome or NONE
        cells.append(f'<td><span class="outcome {escape(state.replace(" ", "-"))}">{escape(state)}</span></td>')
        cells += [_cell(row, metric) for metric in metrics]
        lines.append(f'<tr data-region="{escape(row.region)}">{"".join(cells)}</tr>')
        size += len(lines[-1])
    table = (
        '<div class="wide tall" tabindex="0" role="region" aria-label="Cases and regions">'
        f'<table class="cases sortable" id="case-table"><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
    return table, len(lines)


def _session(row: RegionScores, cohort: Cohort) -> str:
    known = cohort.rows.get(row.key)
    return known.session if known else ""


def _kind(metric: Metric) -> str:
    return "num" if metric.name in MAIN else "num more"


def _head(title: str, unit: str, *, kind: str = "", hint: str = "") -> str:
    name = f'{escape(title)} <span class="unit">{escape(unit)}</span>' if unit else escape(title)
    said = f' title="{escape(hint)}"' if hint else ""
    return f'<th scope="col" class="{kind}"><button type="button"{said}>{name}</button></th>'


def _cell(row: RegionScores, metric: Metric) -> str:
    value = getattr(row, metric.name)
    if value is None:
        return f'<td class="{_kind(metric)} none">{NONE}</td>'
    form = ".0f" if isinstance(value, int) else _form(metric)
    return f'<td class="{_kind(metric)}" data-v="{float(value):.9g}">{number(value, form)}</td>'


def definition_list(rows: Sequence[RegionScores]) -> str:
    """The definitions of the metrics that have values, then of means, intervals and outcomes."""
    entries = [
        (_named(metric), escape(metric.definition))
        for metric in METRICS
        if any(getattr(row, metric.name) is not None for row in rows)
    ]
    entries += [
        (title, escape(DEFINITIONS[name]))
        for name, title in (
            ("interval", "95 % interval"),
            ("mean_of_regions", "Mean of regions"),
            ("outcome", "Outcome"),
        )
    ]
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in entries) + "</dl>"


def swatch(region: str, labels: LabelTable) -> str:
    """A small square of the region's colour; empty for an unknown name."""
    for known in labels.regions:
        if known.name == region:
            return f'<span class="swatch" style="background:{colour(known)}"></span>'
    return ""
