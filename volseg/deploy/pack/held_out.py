"""Dice on cases that were not trained on, from a cross-validation: by fold and in all, with intervals."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from volseg.bundle import Recipe
from volseg.cohort import decimal, read_rows
from volseg.errors import UsageError
from volseg.metrics import mean_interval

_TABLE = Path("oof") / "table.csv"


def held_out_scores(folder: str | Path, recipe: Recipe, *, network: str) -> dict[str, Any]:
    """The out-of-fold Dice of one network of `volseg crossval`: `folds`, and `all`.

    Each has `cases`, `patients`, and `regions` and `mean`: a mean with its 95 % interval by patient (bootstrap), to
    four digits. An undefined Dice (the region is absent and was not found) does not count.

    Args:
        folder: Folder of the cross-validation.
        recipe: Recipe of the packed network, whose regions are those of the table.
        network: Bundle of the packed network.

    Raises:
        UsageError: There is no table, or it has other regions or networks.
    """
    path = Path(folder) / _TABLE
    if not path.is_file():
        raise UsageError(f"{folder} has no {_TABLE}; name a folder that `volseg crossval` has finished")
    rows = _rows(path)
    candidates = sorted({row["candidate"] for row in rows})
    if network not in candidates:
        raise UsageError(f"{path} is of {', '.join(candidates)} and not of {network}")
    rows = [row for row in rows if row["candidate"] == network]
    regions = [str(name) for name in recipe.labels.names]
    if {row["region"] for row in rows} != set(regions):
        told = ", ".join(sorted({row["region"] for row in rows}))
        raise UsageError(f"{path} scores {told}, and the network segments {', '.join(regions)}")
    numbers = sorted({int(row["fold"]) for row in rows})
    return {
        "network": network,
        "folds": [
            {"fold": number, **_scores([row for row in rows if int(row["fold"]) == number], regions)}
            for number in numbers
        ],
        "all": _scores(rows, regions),
    }


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of the table, which a person may have saved with a spreadsheet."""
    columns = {"candidate", "fold", "key", "patient", "region", "dice"}
    try:
        rows = read_rows(path)
    except (ValueError, csv.Error) as error:
        raise UsageError(
            f"{path} cannot be read ({error}); run `volseg crossval` again, which writes it anew"
        ) from error
    if not rows or not columns <= rows[0].keys():
        raise UsageError(f"{path} must have the columns {', '.join(sorted(columns))}; run `volseg crossval` again")
    return rows


def _scores(rows: Sequence[Mapping[str, str]], regions: Sequence[str]) -> dict[str, Any]:
    patients = {row["key"]: row["patient"] for row in rows}
    keys = sorted(patients)
    dice = {(row["key"], row["region"]): decimal(row["dice"]) if row["dice"] else math.nan for row in rows}
    table = [[dice.get((key, region), math.nan) for region in regions] for key in keys]
    of = [patients[key] for key in keys]
    columns = {region: [line[column] for line in table] for column, region in enumerate(regions)}
    return {
        "cases": len(keys),
        "patients": len(set(of)),
        "regions": {region: _interval(values, of) for region, values in columns.items()},
        "mean": _interval(table, of),
    }


def _interval(values: Sequence[Any], patients: Sequence[str]) -> dict[str, Any]:
    found = mean_interval(values, patients)
    ends = [_number(found.low), _number(found.high)]
    return {"dice": _number(found.mean), "interval": None if None in ends else ends}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
