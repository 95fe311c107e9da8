"""The tables of a report: rows as CSV, the summary as JSON and as Markdown. Equal input gives equal bytes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from volseg.evaluation import METRICS, STANDARD, EvaluationSettings, Metric, RegionScores
from volseg.metrics import DRAWS
from volseg.report.cells import NONE, grid, number, plain, rounded, write_files
from volseg.report.promises import promises_as_json, promises_as_markdown
from volseg.report.summary import RegionSummary, Spread, Summary, summarise
from volseg.report.summary_file import (
    DEFINITIONS,  # the pages import it from here
    summary_as_json,
)

# Metrics of the first table; the second has the others.
_MAIN = ("dice", "hd95_mm", "surface_dice", "volume_error_ml")


def write_report(
    rows: Sequence[RegionScores],
    folder: Path,
    *,
    title: str,
    details: Mapping[str, str],
    method: EvaluationSettings = STANDARD,
    summary: Summary | None = None,
) -> list[Path]:
    """Write `cases.csv`, `summary.json` and `report.md`, each whole or not at all.

    No date is written unless `details` holds one, so that the same evaluation gives the same files.

    Args:
        rows: Rows of one evaluation.
        folder: Folder, which is created if absent; files of these names are replaced.
        title: Heading of the page.
        details: Facts for the reader by name, in order: cohort, model, checkpoint, version, ...
        method: Settings of the evaluation, listed after the details.
        summary: Summary of these rows, if it has been made; by default it is made here.

    Returns:
        The paths of the three files.

    Raises:
        UsageError: A case occurs twice.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in write_report([], Path(folder), title="Test", details={})]
    ['cases.csv', 'summary.json', 'report.md']
    """
    summary = summarise(rows) if summary is None else summary
    contents = {
        "cases.csv": rows_as_csv(rows),
        "summary.json": json.dumps(
            {
                **summary_as_json(summary, title=title, details=details, method=method),
                **({"promises": rounded(promises)} if (promises := promises_as_json(rows)) else {}),
            },
            indent=1,
            allow_nan=False,
        )
        + "\n",
        "report.md": summary_as_markdown(
            summary, title=title, details={**details, **method.details}, promises=promises_as_markdown(rows)
        ),
    }
    return write_files(folder, contents)


def rows_as_csv(rows: Sequence[RegionScores]) -> str:
    """One line per row, in their order; an undefined value is an empty field.

    >>> print(rows_as_csv([RegionScores("a", "p", "colon", dice=1 / 3)]))
    key,patient,region,outcome,dice,hd95_mm,...,error
    a,p,colon,,0.333333,,...
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ["key", "patient", "region", "outcome", *(metric.name for metric in METRICS), "error"]
    writer.writerow(columns)
    writer.writerows([rounded(getattr(row, column)) for column in columns] for row in rows)
    return text.getvalue()


def summary_as_markdown(
    summary: Summary, *, title: str, details: Mapping[str, str], promises: Sequence[str] = ()
) -> str:
    """The page for readers: the table, the cases behind each mean, the failures, the worst cases, the definitions."""
    lines = [f"# {plain(title)}", ""]
    lines += [f"- {plain(name)}: {plain(value)}" for name, value in details.items()]
    lines += [f"- Scored: {summary.cases} cases of {summary.patients} patients"]
    lines += [f"- Failed: {len(summary.failures)}, in no number below", "", "## Result", ""]
    if summary.regions:
        lines += _result(summary)
        lines += ["", "## What each mean covers", "", *_coverage(summary)]
        lines += ["", "## Further metrics", "", *_further(summary)]
    else:
        lines += ["No case could be scored."]
    lines += [*promises, "", "## Failed cases", ""]
    failed = [[row.key, row.patient or NONE, row.error or ""] for row in summary.failures]
    lines += grid(["Case", "Patient", "Error"], failed) if failed else ["None."]
    if summary.worst:
        lines += ["", f"## Worst cases: the {len(summary.worst)} lowest Dice", "", *_worst(summary.worst)]
    lines += ["", "## Definitions", "", *(f"- {text}" for text in _definitions(summary))]
    return "\n".join(lines) + "\n"


def short_table(summary: Summary) -> str:
    """The regions' Dice, HD95, surface Dice and, if counted, objects as aligned text, for a terminal."""
    counted = any(region.spreads["reference_objects"].cases for region in summary.regions)
    heads = ["region", "cases", "Dice mean [95 % CI]", "median", "HD95 mm", "surface Dice"]
    lines: list[tuple[str, ...]] = [(*heads, "objects", "of", "F1") if counted else tuple(heads)]
    for region in summary.regions:
        dice = region.dice
        lines.append(
            (
                region.region,
                str(dice.cases),
                _mean(dice, ".3f"),
                number(dice.median, ".3f"),
                number(region.hd95_mm.mean, ".2f"),
                number(region.spreads["surface_dice"].mean, ".3f"),
                *(_objects(region) if counted else ()),
            )
        )
    if len(summary.regions) > 1:
        distance = number(summary.mean_hd95_mm.mean, ".2f")
        near = number(summary.means["surface_dice"].mean, ".3f")
        means = ("mean of regions", _covered(summary, "dice"), _mean(summary.mean_dice, ".3f"), "", distance, near)
        lines.append((*means, "", "", number(summary.means["object_f1"].mean, ".3f")) if counted else means)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)


def _covered(summary: Summary, metric: str) -> str:
    """The number of cases behind the mean of each region, from the fewest to the most."""
    return _range([region.spreads[metric].cases for region in summary.regions])


def _left_out(summary: Summary, metric: str) -> str:
    """The number of cases that the mean of each region leaves out, from the fewest to the most."""
    return _range([region.cases - region.spreads[metric].cases for region in summary.regions])


def _range(counts: Sequence[int]) -> str:
    fewest, most = min(counts), max(counts)
    return str(most) if fewest == most else f"{fewest} to {most}"


def _objects(region: RegionSummary) -> tuple[str, ...]:
    """Numbers of predicted and reference objects, of all cases together, and the mean F1."""
    predicted, reference = (region.spreads[name] for name in ("predicted_objects", "reference_objects"))
    sums = (number(None if one.mean is None else one.mean * one.cases, ".0f") for one in (predicted, reference))
    return (*sums, number(region.spreads["object_f1"].mean, ".3f"))


def _result(summary: Summary) -> list[str]:
    header = ["Region", "Cases", "Dice mean [95 % CI]", "Dice median", "HD95 mean [95 % CI] (mm)", "HD95 median (mm)"]
    header += ["Surface Dice mean [95 % CI]", "Volume error mean [95 % CI] (ml)", "Missed", "Invented", "Both empty"]
    lines = [_result_of(region) for region in summary.regions]
    if len(summary.regions) > 1:
        means = [_mean(summary.mean_dice, ".3f"), "", _mean(summary.mean_hd95_mm, ".2f"), ""]
        means += [_mean(summary.means["surface_dice"], ".3f")]
        lines.append(["Mean of regions", str(summary.cases), *means, "", "", "", ""])
    drawn = f"bootstrap by patient, {summary.patients} patients, {DRAWS} draws"
    note = f"95 % CI: {drawn}; where a mean covers fewer, the next table says so. {NONE}: undefined."
    return [*grid(header, lines), "", note]


def _result_of(region: RegionSummary) -> list[str]:
    return [
        region.region,
        str(region.cases),
        _mean(region.dice, ".3f"),
        number(region.dice.median, ".3f"),
        _mean(region.hd95_mm, ".2f"),
        number(region.hd95_mm.median, ".2f"),
        _mean(region.spreads["surface_dice"], ".3f"),
        _mean(region.volume_error_ml, "+.2f"),
        *(str(region.outcomes[outcome]) for outcome in ("missed", "invented", "both empty")),
    ]


def _coverage(summary: Summary) -> list[str]:
    means = {"Dice": "dice", "HD95": "hd95_mm", "surface Dice": "surface_dice", "volume error": "volume_error_ml"}
    lines = []
    for region in summary.regions:
        for name, metric in means.items():
            spread = region.spreads[metric]
            counts = [str(spread.cases), str(region.cases - spread.cases)]
            lines.append([region.region, name, *counts, spread.method if spread.draws else "no interval"])
    if len(summary.regions) > 1:
        for name, metric in list(means.items())[:3]:
            spread = summary.means[metric]
            counts = [_covered(summary, metric), _left_out(summary, metric)]
            lines.append(["Mean of regions", name, *counts, spread.method if spread.draws else "no interval"])
    return grid(["Region", "Mean of", "Cases covered", "Left out (undefined)", "Interval"], lines)


def _further(summary: Summary) -> list[str]:
    """One row per metric and region, with the cases behind the mean; metrics without values are left out."""
    lines = []
    for metric in summary.metrics:
        if metric.name in _MAIN:
            continue
        form = f"{'+' if 'error' in metric.name else ''}.{metric.digits}f"
        for region in summary.regions:
            spread = region.spreads[metric.name]
            if spread.cases:
                cells = [_mean(spread, form), number(spread.median, form), str(spread.cases)]
                lines.append([_headed(metric), region.region, *cells, str(region.cases - spread.cases)])
        mean = summary.means[metric.name]
        if len(summary.regions) > 1 and mean.mean is not None:
            cells = [_mean(mean, form), "", _covered(summary, metric.name), _left_out(summary, metric.name)]
            lines.append([_headed(metric), "Mean of regions", *cells])
    if not lines:
        return ["None."]
    return grid(["Metric", "Region", "Mean [95 % CI]", "Median", "Cases covered", "Left out (undefined)"], lines)


def _headed(metric: Metric) -> str:
    return f"{metric.title} ({metric.unit})" if metric.unit else metric.title


def _definitions(summary: Summary) -> list[str]:
    held = {metric.name for metric in summary.metrics}
    known = {metric.name for metric in METRICS}
    return [text for name, text in DEFINITIONS.items() if name in held or name not in known or name in _MAIN]


def _worst(rows: Sequence[RegionScores]) -> list[str]:
    header = [
        "Case",
        "Patient",
        "Region",
        "Dice",
        "HD95 (mm)",
        "Reference (ml)",
        "Predicted (ml)",
        "Error (ml)",
        "Outcome",
    ]
    return grid(
        header,
        [
            [
                row.key,
                row.patient,
                row.region,
                number(row.dice, ".3f"),
                number(row.hd95_mm, ".2f"),
                number(row.reference_ml, ".2f"),
                number(row.predicted_ml, ".2f"),
                number(row.volume_error_ml, "+.2f"),
                row.outcome or NONE,
            ]
            for row in rows
        ],
    )


def _mean(spread: Spread, form: str) -> str:
    if spread.mean is None:
        return NONE
    if spread.low is None or spread.high is None:
        return f"{number(spread.mean, form)} [{NONE}]"
    return f"{number(spread.mean, form)} [{number(spread.low, form)}, {number(spread.high, form)}]"
