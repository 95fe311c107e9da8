"""The list of a quality control: the cases to check first, and why, as CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from volseg.evaluation import DEFINITIONS, Quality
from volseg.report.cells import NONE, grid, number, plain, rounded, write_files

FIRST = 20  # cases on the page
SCHEMA = "volseg.quality/1"


def write_quality(ranked: Sequence[Quality], folder: Path, *, title: str, details: Mapping[str, str]) -> list[Path]:
    """Write `quality.csv`, `quality.json` and `quality.md`, each whole or not at all.

    Args:
        ranked: Cases, the one to check first at the top.
        folder: Folder, which is created if absent; files of these names are replaced.
        title: Heading of the page.
        details: Facts for the reader by name, in order.

    Returns:
        The paths of the three files.
    """
    content = quality_as_json(ranked, title=title, details=details)
    contents = {
        "quality.csv": quality_as_csv(ranked),
        "quality.json": json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "quality.md": quality_as_markdown(ranked, title=title, details=details),
    }
    return write_files(folder, contents)


def quality_as_csv(ranked: Sequence[Quality]) -> str:
    """One row per case in the order of the list, with every measured value.

    >>> print(quality_as_csv([Quality("a", 0.5, (), {"x": 0.875}, {("volume", "x"): 1.0})]), end="")
    rank,key,alarm,expected_dice,score,reasons,disagreement,expected_dice x,volume x,error
    1,a,no,0.875,0.5,,,0.875,1.0,
    """
    regions = list(dict.fromkeys(region for quality in ranked for region in quality.uncertainty))
    names = list(dict.fromkeys(name for quality in ranked for name in quality.values or {}))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    bounded = list(dict.fromkeys(region for quality in ranked for region in quality.bounds))
    measured = [f"expected_dice {region}" for region in regions] + [" ".join(name).strip() for name in names]
    measured += [f"dice_at_least {region}" for region in bounded] + (["not_comparable"] if bounded else [])
    fixed = ["rank", "key", "alarm", "expected_dice", "score", "reasons", "disagreement"]
    writer.writerow([*fixed, *measured, "error"])
    for place, quality in enumerate(ranked, start=1):
        values = [quality.uncertainty.get(region) for region in regions]
        values += [(quality.values or {}).get(name) for name in names]
        given = [quality.bounds.get(region) for region in bounded]
        promised: list[object] = [None if one is None else one.dice_at_least for one in given]
        promised += [quality.not_comparable] if bounded else []
        alarm = "" if quality.error is not None else "yes" if quality.alarm else "no"
        score = quality.score if math.isfinite(quality.score) else None
        reasons = "; ".join(finding.reason for finding in quality.findings)
        line = [
            place,
            quality.key,
            alarm,
            quality.expected_dice,
            score,
            reasons,
            quality.disagreement,
            *values,
            *promised,
        ]
        writer.writerow([*map(rounded, line), quality.error])
    return text.getvalue()


def quality_as_json(ranked: Sequence[Quality], *, title: str, details: Mapping[str, str]) -> dict[str, Any]:
    """The content of `quality.json`, whose JSON Schema is `quality.schema.json` beside this file.

    >>> content = quality_as_json([Quality("a", math.inf, error="cut short")], title="Test", details={})
    >>> content["schema"], content["cases"], content["ranked"][0]["score"]
    ('volseg.quality/1', {'ranked': 1, 'alarms': 0, 'failed': 1}, None)
    """
    alarms = sum(quality.alarm for quality in ranked)
    failed = sum(quality.error is not None for quality in ranked)
    result: dict[str, Any] = rounded(
        {
            "schema": SCHEMA,
            "title": title,
            "details": dict(details),
            "cases": {"ranked": len(ranked), "alarms": alarms, "failed": failed},
            "ranked": [
                {
                    "rank": place,
                    "key": quality.key,
                    "alarm": quality.alarm,
                    "expected_dice": quality.expected_dice,
                    "expected_dice_by_region": dict(quality.uncertainty),
                    "score": quality.score if math.isfinite(quality.score) else None,
                    "disagreement": quality.disagreement,
                    "findings": [asdict(finding) for finding in quality.findings],
                    "values": [
                        {"check": check, "region": region, "value": value}
                        for (check, region), value in (quality.values or {}).items()
                    ],
                    "error": quality.error,
                    **(
                        {
                            "bound": quality.bound,
                            "bounds_by_region": {name: one.to_json() for name, one in quality.bounds.items()},
                        }
                        if quality.bounds
                        else {}
                    ),
                }
                for place, quality in enumerate(ranked, start=1)
            ],
            "definitions": list(DEFINITIONS),
        }
    )
    return result


def quality_as_markdown(ranked: Sequence[Quality], *, title: str, details: Mapping[str, str]) -> str:
    """The page for readers: the cases to check first."""
    lines = [f"# {plain(title)}", ""]
    lines += [f"- {plain(name)}: {plain(value)}" for name, value in details.items()]
    lines += [f"- {_counts(ranked)}", "", "## Look at these first", ""]
    bounded = any(quality.bounds for quality in ranked)
    table = [
        [
            str(place),
            quality.key,
            "yes" if quality.alarm else "",
            *([number(quality.bound, ".3f")] if bounded else []),
            number(quality.expected_dice, ".3f"),
            number(quality.score, ".2f") if quality.error is None else NONE,
            _why(quality),
        ]
        for place, quality in enumerate(ranked[:FIRST], start=1)
    ]
    promised = ["Dice at least"] if bounded else []
    lines += grid(["Rank", "Case", "Alarm", *promised, "Expected Dice", "Score", "Why"], table)
    if len(ranked) > FIRST:
        lines += ["", f"The other {len(ranked) - FIRST} are in quality.csv."]
    lines += ["", "## Definitions", "", *(f"- {definition}" for definition in DEFINITIONS)]
    return "\n".join(lines) + "\n"


def short_list(ranked: Sequence[Quality], *, first: int = 10) -> str:
    """The top of the list as text, for a terminal."""
    width = max((len(quality.key) for quality in ranked[:first]), default=0)
    lines = [
        f"{place:3d}  {quality.key.ljust(width)}  {'alarm' if quality.alarm else '':5}  "
        f"{_bound(quality)}{number(quality.expected_dice, '.3f'):>5}  {_why(quality)}"
        for place, quality in enumerate(ranked[:first], start=1)
    ]
    return "\n".join([_counts(ranked), *lines])


def _counts(ranked: Sequence[Quality]) -> str:
    alarms = sum(quality.alarm for quality in ranked)
    expected = sum(quality.expected_dice is not None for quality in ranked)
    return f"Cases: {len(ranked)}, {alarms} with an alarm, {expected} with an expected Dice"


def _bound(quality: Quality) -> str:
    return f"{number(quality.bound, '.3f'):>5}  " if quality.bounds else ""


def _why(quality: Quality) -> str:
    if quality.error is not None:
        return f"cannot be read: {quality.error}"
    apart = [f"not comparable: {quality.not_comparable}"] if quality.not_comparable else []
    return "; ".join([*apart, *(finding.reason for finding in quality.findings)]) or "nothing unusual"
