"""The scores of the days: means by way, region, day and gap, the gain over no prior, and the files that tell them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from volseg.cohort import (
    Predictions,
)
from volseg.crossval.days_settings import MODES, TITLES, DayCase, DaysSettings, day_cases
from volseg.evaluation import EvaluationSettings, RegionScores, evaluate
from volseg.files import atomic
from volseg.metrics import mean_interval

_METRICS = (
    "dice",
    "hd95_mm",
    "surface_dice",
    "added_path_length_mm",
    "correction_minutes",
    "tolerant_path_length_mm",
    "tolerant_minutes",
)
_SUMMARISED = (("dice", "dice"), ("minutes", "correction_minutes"), ("tolerant_minutes", "tolerant_minutes"))
_COLUMNS = ("dice", "gain_dice", "minutes", "gain_minutes", "tolerant_minutes", "gain_tolerant_minutes")


def conclude_days(settings: DaysSettings, folder: Path) -> dict[str, Any]:
    """Score what is predicted, and write `table.csv`, `summary.json`, `days.md` and `days.html`."""
    cohort = settings.cohort
    keys = [key for fold in settings.folds for key in cohort.fold(fold).validation]
    cases = {case.key: case for case in day_cases(cohort, keys)}
    method = EvaluationSettings(apl_tolerance_mm=settings.apl_tolerance_mm)
    rows: dict[str, list[RegionScores]] = {}
    for mode in settings.modes:
        there = Predictions(folder / "oof" / mode)
        mine = [key for key in cases if there.path(key).is_file()]
        rows[mode] = evaluate(there.folder, cohort, keys=mine, method=method) if mine else []
    content = {
        "schema": "volseg.days/1",
        **settings.facts,
        "path_tolerance": method.path_tolerance,
        "modes": {mode: _mode_summary(rows[mode], rows.get("none", []), cases) for mode in settings.modes},
        "definitions": {mode: MODES[mode] for mode in settings.modes},
        "titles": {mode: TITLES[mode] for mode in settings.modes},
    }
    _write_table(folder / "table.csv", rows, cases)
    with atomic(folder / "summary.json") as partial:
        partial.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    with atomic(folder / "days.md") as partial:
        partial.write_text(days_page(content), encoding="utf-8")
    from volseg.report import write_days_page

    write_days_page(content, folder)
    return content


def _mode_summary(
    rows: Sequence[RegionScores], base: Sequence[RegionScores], cases: Mapping[str, DayCase]
) -> dict[str, Any]:
    """Means from the second day on, by region, and the gain over no prior on the same cases."""
    later = [row for row in rows if row.error is None and cases[row.key].number > 0]
    of_base = {(row.key, row.region): row for row in base if row.error is None}
    found: dict[str, Any] = {"regions": {}, "cases": len({row.key for row in later})}
    for region in dict.fromkeys(row.region for row in later):
        mine = [row for row in later if row.region == region]
        found["regions"][region] = {name: _interval(mine, name) for name in _METRICS}
    pairs = [(row, of_base[row.key, row.region]) for row in later if (row.key, row.region) in of_base]
    for name, metric in _SUMMARISED:
        found[name] = _interval(later, metric)
        found[f"gain_{name}"] = _of_values([(_value(a, metric) - _value(b, metric), a.patient) for a, b in pairs])
    numbers = sorted({cases[row.key].number for row in rows if row.error is None})
    found["by_day"] = {
        str(n): _interval([row for row in rows if row.error is None and cases[row.key].number == n], "dice")
        for n in numbers
    }
    gaps = {"1 to 3 days": (0, 3), "4 to 7 days": (3, 7), "more": (7, float("inf"))}
    found["by_gap"] = {
        name: _interval([row for row in later if _within(cases[row.key].gap_days, *ends)], "dice")
        for name, ends in gaps.items()
    }
    return found


def _within(gap: float | None, low: float, high: float) -> bool:
    return gap is not None and low < gap <= high


def _value(row: RegionScores, metric: str) -> float:
    value = getattr(row, metric)
    return float("nan") if value is None else float(value)


def _interval(rows: Sequence[RegionScores], metric: str) -> dict[str, Any]:
    return _of_values([(_value(row, metric), row.patient) for row in rows])


def _of_values(values: Sequence[tuple[float, str]]) -> dict[str, Any]:
    there = [(value, patient) for value, patient in values if not np.isnan(value)]
    if not there:
        return {"mean": None, "low": None, "high": None, "values": 0}
    found = mean_interval([value for value, _ in there], [patient for _, patient in there])
    ends = [None if np.isnan(end) else round(float(end), 4) for end in (found.low, found.high)]
    return {"mean": round(float(found.mean), 4), "low": ends[0], "high": ends[1], "values": len(there)}


def _write_table(path: Path, rows: Mapping[str, Sequence[RegionScores]], cases: Mapping[str, DayCase]) -> None:
    import csv

    columns = ["mode", "key", "patient", "day_number", "gap_days", "region", *_METRICS, "error"]
    with atomic(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for mode, found in rows.items():
            for row in found:
                case = cases[row.key]
                facts = {"mode": mode, "day_number": case.number, "gap_days": case.gap_days}
                values = {**asdict(row), **facts}
                writer.writerow({name: "" if values.get(name) is None else values[name] for name in columns})


def days_page(content: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    titles = content["titles"]
    lines = [
        "# Day after day",
        "",
        f"{content['bundle']}, patients held out by fold; day k is predicted from days before k alone. Means from the "
        "second day on, with 95 % intervals by patient.",
        "",
        "| row | Dice | gain over no prior | minutes to correct | gain, minutes | with tolerance, minutes | gain, "
        "minutes | cases |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for mode, found in content["modes"].items():
        cells = [_cell(found[name]) for name in _COLUMNS]
        lines.append(f"| {titles[mode]} | {' | '.join(cells)} | {found['cases']} |")
    lines += ["", "| row | region | Dice | HD95 mm | surface Dice | added path mm |", "|---|---|---|---|---|---|"]
    for mode, found in content["modes"].items():
        for region, metrics in found["regions"].items():
            cells = [_cell(metrics[name]) for name in ("dice", "hd95_mm", "surface_dice", "added_path_length_mm")]
            lines.append(f"| {titles[mode]} | {region.replace('_', ' ')} | {' | '.join(cells)} |")
    for name, title in (("by_day", "number of the day"), ("by_gap", "gap to the day before")):
        heads = list(dict.fromkeys(head for found in content["modes"].values() for head in found[name]))
        lines += ["", f"Dice by {title}:", "", f"| row | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
        for mode, found in content["modes"].items():
            cells = [_cell(found[name].get(head, {"mean": None})) for head in heads]
            lines.append(f"| {titles[mode]} | {' | '.join(cells)} |")
    lines += [
        "",
        "The minutes are the added path length, in which a pixel of contour counts as drawn only if the prediction's "
        "contour runs through that very pixel, times an assumed 2 minutes per metre. With tolerance, contour counts as "
        f"drawn if the prediction's lies within {content['path_tolerance']}.",
        "",
        *(f"- **{titles[mode]}** (`{mode}`): {text}." for mode, text in content["definitions"].items()),
    ]
    return "\n".join(lines) + "\n"


def _cell(found: Mapping[str, Any]) -> str:
    if found.get("mean") is None:
        return "–"
    digits = 3 if abs(found["mean"]) < 10 else 1
    text = f"{found['mean']:.{digits}f}"
    if found.get("low") is None:
        return text
    return f"{text} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"
