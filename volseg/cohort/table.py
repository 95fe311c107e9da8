"""The table of a cohort's cases, `cases.csv`: one row per case, without its voxels."""

from __future__ import annotations

import codecs
import csv
import logging
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from volseg.cohort.spreadsheet import decimal, read_rows, restored_keys
from volseg.errors import CohortError, first_names
from volseg.files import atomic

logger = logging.getLogger(__name__)

COLUMNS = ("key", "patient", "session", "shape", "spacing_mm", "orientation", "source", "warnings")
UNITS = "units"
"""A further column, which a table has if the files of some case state the units of their values."""
DAY = "day"
"""A further column: the day from the patient's first one, which orders his sessions whatever their names are."""
TEST = "test"
"""How the warning begins of a case that stays out of all folds, to be looked at once."""
AXIS_NAMES = ("right-left", "front-back", "head-feet")
"""The axes of a volume that is read in RAS, as they are told to users."""
_RAS_AXIS = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}


@dataclass(frozen=True)
class CaseRow:
    """One line of `cases.csv`: what a case is, without its voxels."""

    key: str
    patient: str
    session: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    orientation: str
    source: str
    warnings: tuple[str, ...]
    units: str = ""
    day: float | None = None

    @property
    def suspect(self) -> bool:
        """Whether the case carries a warning that keeps it out of folds."""
        return any(word.startswith("suspect") for word in self._words)

    @property
    def test(self) -> bool:
        """Whether the case is kept out of folds for a test."""
        return any(word.partition(":")[0].strip() == TEST for word in self._words)

    @property
    def _words(self) -> list[str]:
        """The warnings in small letters; a person may leave out the space behind a semicolon."""
        return [word.strip().casefold() for warning in self.warnings for word in warning.split(";")]

    def along_ras(self, values: Sequence[float]) -> tuple[float, float, float]:
        """One value an array axis, in the order right-left, anterior-posterior, superior-inferior."""
        x, y, z = (value for _, value in sorted(zip(map(_RAS_AXIS.get, self.orientation), values, strict=True)))
        return x, y, z

    def to_csv(self) -> dict[str, str]:
        """The row as text: sizes joined by `x`, warnings by `; `."""
        return {
            "key": self.key,
            "patient": self.patient,
            "session": self.session,
            "shape": "x".join(map(str, self.shape)),
            "spacing_mm": "x".join(f"{mm:.6g}" for mm in self.spacing_mm),
            "orientation": self.orientation,
            "source": self.source,
            "warnings": "; ".join(self.warnings),
            **({UNITS: self.units} if self.units else {}),
            **({DAY: repr(float(self.day)).removesuffix(".0")} if self.day is not None else {}),
        }

    @classmethod
    def from_csv(cls, row: Mapping[str, str]) -> CaseRow:
        """The inverse of `to_csv`.

        Raises:
            ValueError: A field is absent or makes no sense.
        """
        absent = [name for name in COLUMNS if row.get(name) is None]
        if absent:
            raise ValueError(f"a row has no {', '.join(absent)}")
        try:
            shape = tuple(int(n) for n in row["shape"].split("x"))
            spacing = tuple(float(mm) for mm in row["spacing_mm"].split("x"))
        except ValueError:
            raise ValueError(
                f"{row['key']} must have a shape and a spacing_mm such as 96x96x40 and 1.5x1.5x3, got {row['shape']!r} "
                f"and {row['spacing_mm']!r}"
            ) from None
        axes = sorted(_RAS_AXIS.get(letter, -1) for letter in row["orientation"])
        if not len(shape) == len(spacing) == 3 or axes != [0, 1, 2]:
            raise ValueError(f"{row['key']} has a shape, spacing or orientation without three axes")
        warnings = tuple(warning for warning in row["warnings"].split("; ") if warning)
        return cls(
            row["key"].strip(),
            row["patient"].strip(),
            row["session"].strip(),
            shape,
            spacing,
            row["orientation"],
            row["source"],
            warnings,
            row.get(UNITS) or "",
            _day(row),
        )


def _day(row: Mapping[str, str]) -> float | None:
    """The column `day`; None where it is absent or empty."""
    stated = (row.get(DAY) or "").strip()
    if not stated:
        return None
    try:
        day = decimal(stated)
    except ValueError:
        day = math.nan
    if not math.isfinite(day):
        raise ValueError(f"{row['key']} has the day {stated!r}, which is no number")
    return day


def is_case_table(path: Path) -> bool:
    """Whether a `cases.csv` has the columns of a cohort's, damaged or not: other data sets call tables of patients so.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        begin = file.readline(4096)
    if begin[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return True  # as spreadsheets may save it, which is told where it is read
    head = begin.decode("utf-8-sig", "replace")
    columns = {word.strip().strip('"') for word in re.split("[,;\t]", head)}
    return len(columns) < 2 or ("key" in columns and len(columns & {*COLUMNS}) > 1)


def read_table(path: Path) -> list[CaseRow]:
    """Read `cases.csv`; a row that stands in it twice counts once.

    Raises:
        CohortError: It is another table, a row makes no sense, or two rows say different things of one case.
    """
    if not is_case_table(path):
        raise CohortError(
            f"{path} must be the table of a cohort's cases, with the columns {', '.join(COLUMNS)}; it is another "
            "table, so give it another name"
        )
    try:
        rows = list(dict.fromkeys(CaseRow.from_csv(row) for row in read_rows(path)))
        twice = [key for key, times in Counter(row.key for row in rows).items() if times > 1]
        if twice:
            raise ValueError(f"it has several rows of {first_names(twice)}")
    except (ValueError, csv.Error) as error:
        raise CohortError(f"{path} is damaged ({error}); correct that, or convert again to write it anew") from error
    return rows


def read_table_of(path: Path, keys: Collection[str]) -> dict[str, CaseRow]:
    """The rows of a table by key, of which the cases are known; none if it is absent.

    Keys that a spreadsheet took for numbers become those of their cases, which is told.

    Args:
        path: Path of the table.
        keys: Keys of the cases.

    Raises:
        CohortError: The table is damaged, see `read_table`; or not one row is of a case, and all would lose their
            patients.
    """
    if not path.is_file():
        return {}
    rows = {row.key: row for row in read_table(path)}
    restored = restored_keys(rows, keys)
    lacking = sorted(set(keys).difference(rows, restored.values()))
    if restored:
        told = first_names(f"{old} for {key}" for old, key in restored.items())
        logger.warning("%s has keys that a spreadsheet took for numbers (%s); set that column to text", path, told)
    elif rows and len(lacking) == len(keys) > 0:
        raise CohortError(
            f"{path} must have the keys of the cases in its rows, such as {lacking[0]}, got {first_names(rows)}; put "
            "them back where a spreadsheet took keys for dates, or move the table away if it is of other cases"
        )
    found = {restored.get(key, key): row for key, row in rows.items()}
    return {key: row if row.key == key else replace(row, key=key) for key, row in found.items()}


def write_table(path: Path, rows: Iterable[CaseRow]) -> None:
    """Write `cases.csv`, sorted by key."""
    ordered = sorted(rows, key=lambda row: row.key)
    columns = list(COLUMNS)
    columns += [UNITS] if any(row.units for row in ordered) else []
    columns += [DAY] if any(row.day is not None for row in ordered) else []
    with atomic(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.to_csv() for row in ordered)


_PATIENT = re.compile(r"case(\d+)")
_FIRST_PHANTOM = 201  # patients of the phantom count from here, those of the UW-Madison data end before


def is_phantom(rows: Iterable[CaseRow]) -> bool:
    """Whether all patients are numbered as the phantom's, whose anatomy lay right with slices to the head too."""
    found = [_PATIENT.fullmatch(row.patient) for row in rows]
    return all(match and int(match[1]) >= _FIRST_PHANTOM for match in found)
