"""Uncertainty: what a network thinks of its own predictions, and what it promises, in `uncertainty.csv` beside them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from volseg.cohort.bounds import BOUND_COLUMNS, Bounds, RegionBounds, bound_cells, bounds_of_cells
from volseg.cohort.spreadsheet import decimal, read_rows, restored_keys
from volseg.errors import UsageError
from volseg.files import atomic
from volseg.volume import FILE_ENDING

FILE = "uncertainty.csv"
_MEAN = "expected_dice"

Uncertainty = Mapping[str, float | None]
"""The expected Dice by region; None for a region that was not predicted. See `volseg.metrics.confidence`."""


def mean_expected_dice(uncertainty: Uncertainty) -> float | None:
    """The mean over the regions that were predicted; None where there is none.

    >>> mean_expected_dice({"a": 0.75, "b": 0.5, "c": None}), mean_expected_dice({"a": None})
    (0.625, None)
    """
    held = [value for value in uncertainty.values() if value is not None]
    return math.fsum(held) / len(held) if held else None


def write_uncertainty(
    folder: Path,
    cases: Mapping[str, Uncertainty],
    *,
    bounds: Mapping[str, Bounds] | None = None,
    forget: Iterable[str] = (),
) -> None:
    """Add cases to the `uncertainty.csv` of a folder of predictions, or replace them.

    One line per case: `key`, `expected_dice` (the mean over the predicted regions) and one column per region; then, if
    some case has bounds, the columns of `volseg.cohort.RegionBounds` for each region.

    Args:
        folder: Folder of the predictions.
        cases: Uncertainties by key.
        bounds: Bounds by key, of the cases that a calibrated network predicted.
        forget: Keys whose lines are taken out.
    """
    forgotten = set(forget)
    before, promised = read_uncertainty(folder), read_bounds(folder)
    known: dict[str, Uncertainty] = {key: case for key, case in before.items() if key not in forgotten}
    known.update(cases)
    kept = {key: case for key, case in promised.items() if key not in forgotten and key not in cases}
    kept.update({key: dict(case) for key, case in (bounds or {}).items() if key in known and case})
    if known == before and kept == promised:
        return
    regions = list(dict.fromkeys(region for case in known.values() for region in case))
    bounded = list(dict.fromkeys(region for case in kept.values() for region in case))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [f"{name} {region}" for region in bounded for name in BOUND_COLUMNS]
    writer.writerow(["key", _MEAN, *(f"{_MEAN} {region}" for region in regions), *heads])
    for key, case in sorted(known.items()):
        line = [key, *map(_cell, (mean_expected_dice(case), *(case.get(region) for region in regions)))]
        writer.writerow(line + [cell for region in bounded for cell in bound_cells(kept.get(key, {}).get(region))])
    with atomic(folder / FILE) as partial:
        partial.write_bytes(text.getvalue().encode())


def read_uncertainty(folder: Path) -> dict[str, dict[str, float | None]]:
    """The cases of a folder's `uncertainty.csv` by key; none where there is no such file.

    Raises:
        UsageError: The file is something else.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_uncertainty(folder, {"case1": {"stomach": 0.875, "bowel": None}})
    >>> print((folder / "uncertainty.csv").read_text(), end="")
    key,expected_dice,expected_dice stomach,expected_dice bowel
    case1,0.875,0.875,
    >>> read_uncertainty(folder)
    {'case1': {'stomach': 0.875, 'bowel': None}}
    """

    def parse(line: Mapping[str, str]) -> dict[str, float | None]:
        named = {name.removeprefix(f"{_MEAN} "): text for name, text in line.items() if name.startswith(f"{_MEAN} ")}
        return {name: decimal(text) if text else None for name, text in named.items()}

    return _read(folder, parse)


def read_bounds(folder: Path) -> dict[str, dict[str, RegionBounds]]:
    """The bounds in a folder's `uncertainty.csv` by key and region; none where the network was not calibrated.

    Raises:
        UsageError: The file is something else.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> promised = {"case1": {"stomach": RegionBounds(0.8, 40.0, 60.0, 5.5, 0.01, 0.9)}}
    >>> write_uncertainty(folder, {"case1": {"stomach": 0.875}}, bounds=promised)
    >>> read_bounds(folder) == promised
    True
    """
    first = f"{BOUND_COLUMNS[0]} "

    def parse(line: Mapping[str, str]) -> dict[str, RegionBounds]:
        regions = [name.removeprefix(first) for name in line if name.startswith(first)]
        cells = {region: {name: line[f"{name} {region}"] for name in BOUND_COLUMNS} for region in regions}
        found = {region: bounds_of_cells(of_region) for region, of_region in cells.items()}
        return {region: one for region, one in found.items() if one is not None}

    return {key: case for key, case in _read(folder, parse).items() if case}


_Case = TypeVar("_Case")


def _read(folder: Path, parse: Callable[[Mapping[str, str]], _Case]) -> dict[str, _Case]:
    """What a function makes of each line, by key; keys that a spreadsheet took for numbers are those of their cases."""
    path = Path(folder) / FILE
    try:
        found = {line["key"]: parse(line) for line in read_rows(path)}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, AttributeError, TypeError, csv.Error) as error:
        raise UsageError(f"{path} is no table of uncertainties as `volseg predict` writes it; remove it") from error
    if all((path.with_name(f"{key}{FILE_ENDING}")).is_file() for key in found):
        return found
    predicted = {file.name.removesuffix(FILE_ENDING) for file in path.parent.glob(f"*{FILE_ENDING}")}
    restored = restored_keys(found, predicted)
    return {restored.get(key, key): case for key, case in found.items()}


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
