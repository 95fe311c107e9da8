"""The tables of a comparison: CSV, JSON and Markdown, and the figure beside them. Equal input gives equal bytes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volseg.evaluation import TEST_DEFINITIONS, Comparison, Difference
from volseg.metrics import DRAWS, LEVEL, SEED
from volseg.report.cells import NONE, grid, number, plain, rounded, write_files
from volseg.report.comparison_figure import comparison_figure

SCHEMA = "volseg.comparison/1"


def write_comparison(comparison: Comparison, folder: Path, *, title: str, details: Mapping[str, str]) -> list[Path]:
    """Write `comparison.csv`, `.json`, `.md` and `.svg`, each whole or not at all.

    Args:
        comparison: Comparison of the sets.
        folder: Folder, which is created if absent; files of these names are replaced.
        title: Heading of the page.
        details: Facts for the reader by name, in order.

    Returns:
        The paths of the four files.
    """
    content = comparison_as_json(comparison, title=title, details=details)
    contents = {
        "comparison.csv": comparison_as_csv(comparison),
        "comparison.json": json.dumps(content, indent=1, allow_nan=False) + "\n",
        "comparison.md": comparison_as_markdown(comparison, title=title, details=details),
        "comparison.svg": comparison_figure(comparison),
    }
    return write_files(folder, contents)


def comparison_as_csv(comparison: Comparison) -> str:
    """One row per shared case and region, one column per set; an undefined value is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["key", "patient", "region", "metric", *comparison.sets])
    for key, patient in comparison.patients.items():
        for region in comparison.regions:
            values = [comparison.values.get((name, key, region)) for name in comparison.sets]
            writer.writerow([key, patient, region, comparison.metric.name, *map(rounded, values)])
    return text.getvalue()


def comparison_as_json(comparison: Comparison, *, title: str, details: Mapping[str, str]) -> dict[str, Any]:
    """The content of `comparison.json`, schema `volseg.comparison/1`."""
    content = {
        "schema": SCHEMA,
        "title": title,
        "details": dict(details),
        "metric": {"name": comparison.metric.name, "higher_is_better": comparison.metric.higher_is_better},
        "tolerance": comparison.tolerance,
        "sets": list(comparison.sets),
        "cases": {"shared": len(comparison.patients), "patients": len(set(comparison.patients.values()))},
        "means": {
            name: {region: comparison.means[name, region] for region in comparison.regions} for name in comparison.sets
        },
        "differences": [vars(difference) for difference in comparison.differences],
        "bootstrap": {"unit": "patient", "draws": DRAWS, "level": LEVEL, "seed": SEED},
        "not_shared": {key: list(names) for key, names in comparison.not_shared.items()},
        "failed": dict(comparison.failed),
        "definitions": _definitions(comparison),
    }
    result: dict[str, Any] = rounded(content)
    return result


def comparison_as_markdown(comparison: Comparison, *, title: str, details: Mapping[str, str]) -> str:
    """The page for readers: the means, the differences with their tests, what is not shared, the definitions."""
    metric, form = comparison.metric, f".{comparison.metric.digits}f"
    unit = f" ({metric.unit})" if metric.unit else ""
    lines = [f"# {plain(title)}", ""]
    lines += [f"- {plain(name)}: {plain(value)}" for name, value in details.items()]
    lines += [f"- Shared: {len(comparison.patients)} cases of {len(set(comparison.patients.values()))} patients"]
    better = "more" if metric.higher_is_better else "less"
    lines += [f"- {metric.title}{unit}: {better} is better; differences up to {comparison.tolerance:g} are ties"]
    lines += ["", f"## Mean {metric.title}{unit}", ""]
    means = [
        [name, *(_mean_of_set(comparison, name, region, form) for region in comparison.regions)]
        for name in comparison.sets
    ]
    lines += grid(["Set", *comparison.regions], means)
    lines += ["", "## Paired differences: second minus first", ""]
    header = ["First", "Second", "Region", "Cases", f"Mean difference [95 % CI]{unit}", "Median"]
    header += ["Second wins / ties / loses", "p", "p (Holm)", "Left out"]
    lines += grid(header, [_line(difference, form) for difference in comparison.differences])
    lines += ["", "![Paired differences](comparison.svg)", "", "## Cases left out", ""]
    missing = [[key, f"no prediction in {', '.join(names)}"] for key, names in comparison.not_shared.items()]
    missing += [[key, error] for key, error in comparison.failed.items() if key not in comparison.not_shared]
    lines += grid(["Case", "Why"], missing) if missing else ["None."]
    lines += ["", "## Definitions", "", *(f"- {text}" for text in _definitions(comparison))]
    return "\n".join(lines) + "\n"


def short_comparison(comparison: Comparison) -> str:
    """The differences as aligned text, for a terminal."""
    form = f"+.{comparison.metric.digits}f"
    lines = [("second − first", "region", "cases", "mean [95 % CI]", "win/tie/loss", "p (Holm)")]
    lines += [
        (
            f"{found.second} − {found.first}",
            found.region,
            str(found.cases),
            _mean(found, form),
            f"{found.wins}/{found.ties}/{found.losses}",
            p_text(found.p_holm) if found.p_holm is not None else found.reason,
        )
        for found in comparison.differences
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)


def p_text(p: float | None) -> str:
    """A p-value as it is printed.

    >>> p_text(0.0123), p_text(0.00001), p_text(None)
    ('0.012', '< 0.001', '–')
    """
    return "< 0.001" if p is not None and p < 0.001 else number(p, ".3f")


def _mean_of_set(comparison: Comparison, name: str, region: str, form: str) -> str:
    """The mean of a set, with its number of cases where it has no value of some."""
    there = sum(comparison.values.get((name, key, region)) is not None for key in comparison.patients)
    cases = f" ({there} of {len(comparison.patients)} cases)" if 0 < there < len(comparison.patients) else ""
    return f"{number(comparison.means[name, region], form)}{cases}"


def _line(found: Difference, form: str) -> list[str]:
    p = p_text(found.p) if found.p is not None else f"{NONE} ({found.reason})"
    left_out = found.undefined_first + found.undefined_second + found.undefined_both
    which = f" ({found.undefined_first} first, {found.undefined_second} second, {found.undefined_both} both)"
    return [
        found.first,
        found.second,
        found.region,
        str(found.cases),
        _mean(found, f"+{form}"),
        number(found.median, f"+{form}"),
        f"{found.wins} / {found.ties} / {found.losses}",
        p,
        p_text(found.p_holm),
        f"{left_out}{which if left_out else ''}",
    ]


def _mean(found: Difference, form: str) -> str:
    if found.low is None or found.high is None:
        return f"{number(found.mean, form)} [{NONE}]"
    return f"{number(found.mean, form)} [{number(found.low, form)}, {number(found.high, form)}]"


def _definitions(comparison: Comparison) -> list[str]:
    return [
        comparison.metric.definition,
        "Each mean covers the cases in which that set has a value, in brackets where these are not all; means of other "
        "cases must not be compared, but the paired differences.",
        "A case is compared where every set has a prediction of it that could be scored. Of these, a case in which "
        "one of the two sets has no value of the region is left out of that difference and counted under Left out.",
        f"Interval = {LEVEL * 100:.0f} % of the mean difference: percentile bootstrap that resamples patients with "
        f"all their cases, {DRAWS} draws, seed {SEED}.",
        *TEST_DEFINITIONS,
    ]
