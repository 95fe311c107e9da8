"""The patients and sessions of a cohort that its keys tell by a pattern, and the table with them."""

from __future__ import annotations

from dataclasses import replace

from volseg.cohort.folder import Cohort
from volseg.cohort.patients import patient_of
from volseg.cohort.table import write_table


def with_patients(cohort: Cohort, pattern: str) -> Cohort:
    """The cohort with the patients and sessions that a pattern of the keys tells; nothing is written.

    Args:
        cohort: Cohort, which is not changed.
        pattern: Pattern of the keys, see `volseg.cohort.patient_of`.

    Raises:
        SourceError: The pattern does not match a key.
    """
    told = {key: patient_of(key, pattern=pattern) for key in cohort.rows}
    rows = {
        key: replace(row, patient=told[key][0], session=told[key][1] or row.session) for key, row in cohort.rows.items()
    }
    return replace(cohort, rows=rows)


def write_patients(cohort: Cohort, pattern: str) -> Cohort:
    """As `with_patients`, and write the table into `cases.csv`."""
    told = with_patients(cohort, pattern)
    write_table(cohort.folder / "cases.csv", told.rows.values())
    return told
