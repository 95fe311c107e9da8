"""The tables of the HTML report: result, failed cases, cases, definitions. Whatever is written is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from volseg.cohort import Cohort
from volseg.evaluation import METRICS, Metric, Row
from volseg.labels import LabelTable
from volseg.metrics.interval import DRAWS
from volseg.report.figures import colour, spoken
from volseg.report.summary import RegionSummary, Spread, Summary
from volseg.report.table import DEFINITIONS

# Shown at once; a checkbox shows the others.
MAIN = ("dice", "hd95_mm", "surface_dice", "reference_ml", "predicted_ml", "volume_error_ml")
NONE = "–"


def result_table(summary: Summary, labels: LabelTable) -> str:
    """Means with their intervals, medians, and how many cases were missed, invented or empty in both."""
    heads = ["Region", "Cases", "Dice", "HD95 (mm)", "Volume error (ml)", "Missed", "Invented", "Both empty"]
    lines = [_result_of(region, labels) for region in summary.regions]
    if len(summary.regions) > 1:
        cells = [_spread(summary.mean_dice, ".3f"), _spread(summary.mean_hd95_mm, ".2f"), "<td></td>" * 4]
        lines.append(
            f'<tr class="total"><th scope="row">Mean of regions</th><td class="num">{summary.cases}</td>'
            f"{''.join(cells)}</tr>"
        )
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    note = (
        f"Mean, in brackets its 95 % interval (bootstrap by patient, {summary.patients} patients, {DRAWS} draws), "
        f"below it the median. {NONE}: undefined. {_coverage(summary)}"
    )
    return (
        f'<div class="wide"><table class="result"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
        f'</div><p class="note">{note}</p>'
    )


def _result_of(region: RegionSummary, labels: LabelTable) -> str:
    cells = [
        _spread(region.dice, ".3f"),
        _spread(region.hd95_mm, ".2f"),
        _spread(region.volume_error_ml, "+.1f"),
    ]
    for outcome in ("missed", "invented", "both empty"):
        count = region.outcomes[outcome]
        cells.append(f'<td class="num{" some" if count else " none"}">{count}</td>')
    return (
        f'<tr><th scope="row">{swatch(region.region, labels)}{escape(spoken(region.region))}</th>'
        f'<td class="num">{region.cases}</td>{"".join(cells)}</tr>'
    )


def _spread(spread: Spread, form: str) -> str:
    if spread.mean is None:
        return f'<td class="num">{NONE}</td>'
    interval = NONE if spread.low is None or spread.high is None else f"{spread.low:{form}}, {spread.high:{form}}"
    median = "" if spread.median is None else f'<span class="median">median {spread.median:{form}}</span>'
    return (
        f'<td class="num"><span class="mean">{spread.mean:{form}}</span> '
        f'<span class="interval">[{interval}]</span>{median}</td>'
    )


def _coverage(summary: Summary) -> str:
    """Which means leave cases out."""
    named = [
        (region, name, spread)
        for region in summary.regions
        for name, spread in (("Dice", region.dice), ("HD95", region.hd95_mm), ("volume error", region.volume_error_ml))
    ]
    short = [
        f"{name} of {escape(spoken(region.region))} {spread.cases} of {region.cases}"
        for region, name, spread in named
        if spread.cases < region.cases
    ]
    if not short:
        return "Every mean of a region covers every scored case."
    return f"Means that leave cases out, being undefined there: {'; '.join(short)}."


def failure_table(failures: Sequence[Row]) -> str:
    """The cases that could not be scored, and why; empty where there is none."""
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


def case_table(rows: Sequence[Row], cohort: Cohort, links: Mapping[str, str]) -> str:
    """One line a case and region, the worst first; a click on a head sorts.

    Args:
        rows: scored, in the order wanted.
        cohort: gives sessions and colours.
        links: key to the id of the case in the page.
    """
    metrics = [metric for metric in METRICS if any(getattr(row, metric.name) is not None for row in rows)]
    sessions = any(_session(row, cohort) for row in rows)
    heads = [_head("Case", ""), _head("Patient", "")]
    heads += [_head("Session", "")] if sessions else []
    heads += [_head("Region", ""), _head("Outcome", "")]
    heads += [_head(metric.title, metric.unit, kind=_kind(metric), hint=metric.definition) for metric in metrics]
    lines = []
    for row in rows:
        link = links.get(row.key)
        key = escape(row.key)
        cells = [f'<th scope="row">{f"""<a href="#{escape(link)}">{key}</a>""" if link else key}</th>']
        cells.append(f"<td>{escape(row.patient)}</td>")
        cells += [f"<td>{escape(_session(row, cohort))}</td>"] if sessions else []
        cells.append(f"<td>{swatch(row.region, cohort.labels)}{escape(spoken(row.region))}</td>")
        state = row.outcome or NONE
        cells.append(f'<td><span class="outcome {escape(state.replace(" ", "-"))}">{escape(state)}</span></td>')
        cells += [_cell(row, metric) for metric in metrics]
        lines.append(f'<tr data-region="{escape(row.region)}">{"".join(cells)}</tr>')
    return (
        '<div class="wide tall"><table class="cases sortable" id="case-table"><thead><tr>'
        f"{''.join(heads)}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _session(row: Row, cohort: Cohort) -> str:
    known = cohort.rows.get(row.key)
    return known.session if known else ""


def _kind(metric: Metric) -> str:
    return "num" if metric.name in MAIN else "num more"


def _head(title: str, unit: str, *, kind: str = "", hint: str = "") -> str:
    name = f'{escape(title)} <span class="unit">{escape(unit)}</span>' if unit else escape(title)
    said = f' title="{escape(hint)}"' if hint else ""
    return f'<th scope="col" class="{kind}"><button type="button"{said}>{name}</button></th>'


def _cell(row: Row, metric: Metric) -> str:
    value = getattr(row, metric.name)
    if value is None:
        return f'<td class="{_kind(metric)} none">{NONE}</td>'
    sign = "+" if "error" in metric.name else ""
    digits = 0 if isinstance(value, int) else metric.digits
    return f'<td class="{_kind(metric)}" data-v="{float(value):.9g}">{value:{sign}.{digits}f}</td>'


def definition_list(rows: Sequence[Row]) -> str:
    """What each number means: the metrics that have one, then the means, intervals and outcomes."""
    entries = [
        (f"{metric.title} ({metric.unit})" if metric.unit else metric.title, metric.definition)
        for metric in METRICS
        if any(getattr(row, metric.name) is not None for row in rows)
    ]
    entries += [
        (title, DEFINITIONS[name])
        for name, title in (
            ("interval", "95 % interval"),
            ("mean_of_regions", "Mean of regions"),
            ("outcome", "Outcome"),
        )
    ]
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in entries) + "</dl>"


def swatch(region: str, labels: LabelTable) -> str:
    """A small square in the region's colour; empty for an unknown name."""
    for known in labels.regions:
        if known.name == region:
            return f'<span class="swatch" style="background:{colour(known)}"></span>'
    return ""
