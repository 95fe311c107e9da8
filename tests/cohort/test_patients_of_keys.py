"""Which keys are of one patient: forms that count, and forms that are warned about alone."""

from __future__ import annotations

import pytest

from volseg.cohort import patient_of
from volseg.cohort.patients import patients_note
from volseg.cohort.table import CaseRow


@pytest.mark.parametrize(
    ("key", "patient", "session"),
    [
        ("BraTS-GLI-00005-001", "BraTS-GLI-00005", "001"),
        ("BraTS-MEN-00012-000", "BraTS-MEN-00012", "000"),
        ("BraTS-GLI-00005", "BraTS-GLI-00005", ""),
        ("abc_baseline", "abc", "baseline"),
        ("abc_followup2", "abc", "followup2"),
        ("p1-pre", "p1", "pre"),
        ("p1_post-op", "p1", "post-op"),
        ("center1_scan001", "center1_scan001", ""),
        ("p1_visit2_frame01", "p1", "visit2_frame01"),
        ("lamppost", "lamppost", ""),
        ("knee_L", "knee_L", ""),
        ("anna-20200101", "anna-20200101", ""),
    ],
)
def test_the_patient_and_the_session_of_a_key(key: str, patient: str, session: str) -> None:
    assert patient_of(key) == (patient, session)


def row(key: str) -> CaseRow:
    return CaseRow(key, key, "", (1, 1, 1), (1.0, 1.0, 1.0), "RAS", "", ())


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["p1_L", "p1_R", "p2_L", "p2_R"], "4 cases look like visits or sides of 2 patients"),
        (["p1-left", "p1-right", "p2-left", "p3-left", "p4_right", "p4_left"], "4 cases look like"),
        (["anna-20200101", "anna-20210304", "bob_20200101", "bob_2022-03-03"], "of 2 patients"),
        (["scan_20200101", "scan_20200102", "scan_20200103"], ""),  # dates that tell patients apart
        (["p1_L", "p2_R", "p3_L"], ""),
        (["anna-12345678", "anna-12345679", "bob-12345678", "bob-12345679"], ""),  # no dates
    ],
)
def test_keys_that_may_be_of_one_patient_are_warned_about(keys: list[str], told: str) -> None:
    assert told in (patients_note(map(row, keys)) or "")
    assert bool(patients_note(map(row, keys))) == bool(told)
