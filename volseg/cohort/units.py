"""Units of the values: a network that is trained on counts and on Bq/ml at once learns neither."""

from __future__ import annotations

from collections.abc import Iterable

from volseg.cohort.table import CaseRow

_WORDS = {
    "HU": "Hounsfield units",
    "US": "unspecified numbers",
    "CNTS": "counts",
    "PROPCNTS": "numbers in proportion to counts",
    "CPS": "counts per second",
    "BQML": "Bq/ml",
    "GML": "SUV in g/ml",
}


def units_note(rows: Iterable[CaseRow]) -> str | None:
    """A warning if the cases of a cohort state several units.

    Args:
        rows: Rows of the cohort's table by key.
    """
    keys: dict[str, list[str]] = {}
    for row in rows:
        if row.units:
            keys.setdefault(row.units, []).append(row.key)
    if len(keys) < 2:
        return None
    told = []
    for units, found in sorted(keys.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        words = ", ".join(map(_told, units.split(",")))
        told.append(f"{words} in {len(found)} cases ({sorted(found)[0]}{', ...' * (len(found) > 1)})")
    return f"the values of the cases are in several units: {', '.join(told)}; convert those of one unit to a cohort"


def _told(unit: str) -> str:
    return f"{_WORDS[unit]} ({unit})" if unit in _WORDS else unit or "no unit"
