"""Uncertainty: what a network thinks of its own predictions, in `uncertainty.csv` beside them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from volseg.errors import UsageError
from volseg.files import atomic

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


def write_uncertainty(folder: Path, cases: Mapping[str, Uncertainty], *, forget: Iterable[str] = ()) -> None:
    """Add cases to the `uncertainty.csv` of a folder of predictions, or replace them.

    One line per case: `key`, `expected_dice` (the mean over the predicted regions) and one column per region.

    Args:
        folder: Folder of the predictions.
        cases: Uncertainties by key.
        forget: Keys whose lines are taken out.
    """
    before = read_uncertainty(folder)
    known: dict[str, Uncertainty] = {key: case for key, case in before.items() if key not in set(forget)}
    known.update(cases)
    if known == before:
        return
    regions = list(dict.fromkeys(region for case in known.values() for region in case))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["key", _MEAN, *(f"{_MEAN} {region}" for region in regions)])
    for key, case in sorted(known.items()):
        writer.writerow([key, *map(_cell, (mean_expected_dice(case), *(case.get(region) for region in regions)))])
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
    path = Path(folder) / FILE
    try:
        lines = list(csv.DictReader(io.StringIO(path.read_bytes().decode())))
        return {
            line["key"]: {
                name.removeprefix(f"{_MEAN} "): float(value) if value else None
                for name, value in line.items()
                if name.startswith(f"{_MEAN} ")
            }
            for line in lines
        }
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, AttributeError, csv.Error) as error:
        raise UsageError(f"{path} is no table of uncertainties as `volseg predict` writes it; remove it") from error


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
