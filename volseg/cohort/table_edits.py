"""What a person, or `volseg split`, changed in `cases.csv` after a conversion wrote it; the next one keeps it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from volseg.cohort.table import CaseRow, read_table, rows_of_cases, write_table
from volseg.errors import CohortError, first_names

logger = logging.getLogger(__name__)

_CONVERTED = ".volseg/converted.csv"
"""The table as the source gave it when `cases.csv` was last written."""
_UNREADABLE = "cases.unreadable.csv"
"""What a table becomes that a person has saved so that it cannot be read."""
_FIELDS = ("patient", "session", "day")


def write_edited_table(folder: Path, rows: Mapping[str, CaseRow], *, before: Iterable[CaseRow]) -> dict[str, CaseRow]:
    """Write the `cases.csv` of a cohort folder with what was changed in the one that is there.

    Changed patients, sessions and days stay as long as the source says of the case what it said when they were changed;
    what the source says anew counts. Warnings that were added stay, and those that were taken out stay out. A table
    that cannot be read is kept as `cases.unreadable.csv`.

    Args:
        folder: Cohort folder.
        rows: Rows of all cases by key, as the source gives them.
        before: Rows as the source gave them before this conversion, for folders of earlier versions of volseg, which
            kept no such table.

    Returns:
        The rows that were written, by key.
    """
    table, kept = folder / "cases.csv", folder / _CONVERTED
    there = rows_of_cases(_rows(table, keep_as=folder / _UNREADABLE).values(), rows)
    former = _rows(kept) or {row.key: row for row in before}
    written = {
        key: _edited(row, there[key], former[key]) if key in there and key in former else row
        for key, row in rows.items()
    }
    for name in (*_FIELDS, "warnings"):
        changed = [key for key, row in written.items() if getattr(row, name) != getattr(_as_read(rows[key]), name)]
        if changed:
            logger.info("%s keeps what was changed in its column %s: %s", table, name, first_names(changed))
    # The first of the two: what a kill leaves then is no change of anybody's.
    write_table(table, written.values())
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_table(kept, rows.values())
    return written


def _edited(row: CaseRow, there: CaseRow, former: CaseRow) -> CaseRow:
    """The row as the source gives it, with what was changed in the table since the former one."""
    row = _as_read(row)
    values = {
        name: getattr(there, name)
        for name in _FIELDS
        if getattr(there, name) != getattr(former, name) == getattr(row, name)
    }
    added = tuple(warning for warning in there.warnings if warning not in (*former.warnings, *row.warnings))
    left = tuple(warning for warning in row.warnings if warning in there.warnings or warning not in former.warnings)
    return replace(row, **values, warnings=(*left, *added))


def _as_read(row: CaseRow) -> CaseRow:
    """The row as it comes back from a table."""
    return CaseRow.from_csv(row.to_csv())


def _rows(path: Path, *, keep_as: Path | None = None) -> dict[str, CaseRow]:
    """The rows of a table by key; none if it is absent, or damaged: then it is told, and kept under another name."""
    if not path.is_file():
        return {}
    try:
        return {row.key: row for row in read_table(path)}
    except (CohortError, OSError) as error:
        logger.warning("%s cannot be read (%s): writing it anew", path, error)
        if keep_as is not None:
            path.replace(keep_as)
            logger.warning("the former table, with what was changed in it, is now %s", keep_as)
        return {}
