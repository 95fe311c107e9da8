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
        ("10005_1000006", "10005", "1000006"),
        ("10005_100000", "10005_100000", ""),
        ("UPENN-GBM-00001_21", "UPENN-GBM-00001", "21"),
        ("UCSF-PDGM-0004", "UCSF-PDGM-0004", ""),
        ("OAS1_0001_MR2", "OAS1_0001", "MR2"),
        ("OAS30001_MR_d0129", "OAS30001", "d0129"),
        ("PETCT_0011f3deaf_10445", "PETCT_0011f3deaf", "10445"),
        ("psma_95b833d65be26d2f_2018-05-01", "psma_95b833d65be26d2f", "2018-05-01"),
        ("Patient-001_week-000-1", "Patient-001", "week-000-1"),
        ("Patient-001_week-044", "Patient-001", "week-044"),
        ("p7_slice012", "p7", "slice012"),
        ("TCGA-02-0001", "TCGA-02-0001", ""),
        ("LUNG1-001", "LUNG1-001", ""),
        ("BraTS20_Training_001", "BraTS20_Training_001", ""),
    ],
)
def test_the_patient_and_the_session_of_a_key(key: str, patient: str, session: str) -> None:
    assert patient_of(key) == (patient, session)


def row(key: str, patient: str = "") -> CaseRow:
    return CaseRow(key, patient or key, "", (1, 1, 1), (1.0, 1.0, 1.0), "RAS", "", ())


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["p1_L", "p1_R", "p2_L", "p2_R"], "4 cases look like visits or sides of 2 patients"),
        (["p1-left", "p1-right", "p2-left", "p3-left", "p4_right", "p4_left"], "4 cases look like"),
        (["anna-20200101", "anna-20210304", "bob_20200101", "bob_2022-03-03"], "of 2 patients"),
        (["scan_20200101", "scan_20200102", "scan_20200103"], ""),  # dates that tell patients apart
        (["p1_L", "p2_R", "p3_L"], ""),
        (["anna-12345678", "anna-12345679", "bob-12345678", "bob-12345679"], ""),  # no dates
        (["P001_V1", "P001_V2", "P002_V1", "P002_V2"], "4 cases look like"),
        (["pat01_ED", "pat01_ES", "pat02_ED", "pat02_es", "pat03_ED"], "4 cases look like"),
        (["patient0001_2CH_ED", "patient0001_2CH_ES", "patient0001_4CH_ED", "patient0001_4CH_ES"], "4 cases look like"),
        (["0001_1", "0001_2", "0002_1", "0002_2", "0003_1"], "4 cases look like"),
        (["p1-OD", "p1-OS", "p2-OD", "p2-OS"], "4 cases look like"),
        (["TCGA-02-0001", "TCGA-02-0003", "TCGA-06-0119", "TCGA-06-0120"], ""),  # the middle is a hospital
        ([f"center{c}_{n:03d}" for c in (1, 2, 3) for n in range(30)], ""),
        ([f"{organ}_{n}" for organ in ("liver", "spleen") for n in (1, 2)], ""),
        (["BraTS20_Training_001", "BraTS20_Training_002", "BraTS20_Validation_001"], ""),
        (["LUNG1-001", "LUNG1-002"], ""),
        (["P1_V1", "P1_V2", "P2_V1", "P2_V2", "phantom"], ""),  # names of several kinds
    ],
)
def test_keys_that_may_be_of_one_patient_are_warned_about(keys: list[str], told: str) -> None:
    assert told in (patients_note(map(row, keys)) or "")
    assert bool(patients_note(map(row, keys))) == bool(told)


def test_a_case_that_came_after_a_pattern_had_told_the_patients_is_told() -> None:
    """`volseg split` without the pattern put it on the other side of its patient's cases."""
    rows = [row("genius_0801", "08"), row("genius_0802", "08"), row("genius_0901", "09")]
    assert patients_note([*rows, row("genius_1001", "10")]) is None
    assert patients_note([*rows, row("genius_1001"), row("genius_08012")]) is None
    told = patients_note([*rows, row("genius_0805")])
    assert told is not None
    assert told.startswith("1 cases look like visits or sides of 1 patients (genius_0805 of '08'), and each counts as")
