"""The page over the rounds: mm and cases are sums up to a round, Dice is of fixed test cases."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from volseg.cli import main
from volseg.cohort import Correction, read_corrections, write_corrections
from volseg.errors import CohortError, UsageError
from volseg.labels import LabelTable
from volseg.report import RoundCurve, round_point, write_rounds
from volseg.volume import Volume, write_volume

TABLE = LabelTable.exclusive(["liver", "spleen"])


def correction(number, key, region, mm, minutes=None):
    return Correction(number, key, region, 1.0, 0.5, mm, 5, 2, minutes, "prediction", "a", "b")


ROWS = [
    correction(1, "c1", "liver", 100.0, 6.0),
    correction(1, "c1", "spleen", 50.0, 6.0),
    correction(1, "c2", "liver", 25.0),
    correction(2, "c3", "liver", 10.0, 4.0),
    correction(2, "c1", "liver", 1.0, 2.0),
]
PATIENTS = {"t1": "t1", "t2": "t2"}


def point(number, liver=0.8, spleen=0.6):
    dice = {("t1", "liver"): liver, ("t1", "spleen"): spleen, ("t2", "liver"): liver, ("t2", "spleen"): None}
    return round_point(f"r{number}", number, ROWS, dice, PATIENTS)


def test_a_point_sums_up_to_its_round():
    """A case that was corrected twice is one case, and its minutes count both times; a table checked by hand."""
    assert (point(0).mm, point(0).cases, point(0).minutes) == (0.0, 0, None)
    assert (point(1).mm, point(1).cases, point(1).minutes, point(1).timed) == (175.0, 2, 6.0, 1)
    assert (point(2).mm, point(2).cases, point(2).minutes, point(2).timed) == (186.0, 3, 12.0, 2)
    assert point(1).dice.mean == pytest.approx(0.7)
    assert point(1).by_region["spleen"].cases == 1


def test_a_region_that_no_test_case_holds_does_not_hide_the_others():
    """A bladder that was removed in the few test patients: no Dice of it, and the mean over regions was undefined."""
    dice = {(key, region): value for key in PATIENTS for region, value in (("liver", 0.8), ("spleen", None))}
    found = round_point("r1", 1, ROWS, dice, PATIENTS)
    assert (found.dice.mean, found.dice.cases) == (0.8, 2)
    assert math.isnan(found.by_region["spleen"].mean)
    nothing = round_point("r1", 1, ROWS, dict.fromkeys(dice), PATIENTS)
    assert math.isnan(nothing.dice.mean)


def test_the_page_opens_alone_and_names_are_text(tmp_path):
    with pytest.raises(UsageError, match="no round to show"):
        write_rounds([RoundCurve("a", ())], tmp_path, title="t", details={})
    curves = [RoundCurve("<b>one", (point(0, 0.5), point(1))), RoundCurve("two", (point(0, 0.5), point(2, 0.9)))]
    page, _ = write_rounds(curves, tmp_path, title="Rounds & more", details={"cohort": "<i>"})
    text = page.read_text()
    assert "<b>one" not in text
    assert "&lt;b&gt;one" in text
    assert "http:" not in text
    assert "https:" not in text
    assert text.count("<polyline") == 2
    with (tmp_path / "rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["way"], row["mm"], row["cases"], row["dice"]) for row in rows][1:] == [
        ("<b>one", "175", "2", "0.7000"),
        ("two", "0", "0", "0.5500"),
        ("two", "186", "3", "0.7500"),
    ]
    same = write_rounds(curves, tmp_path / "again", title="Rounds & more", details={"cohort": "<i>"})
    assert same[0].read_text() == text


def run(*words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)


def test_compare_writes_it_for_a_corrected_cohort(tmp_path, capsys):
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    label = np.zeros((8, 8, 4), np.uint8)
    label[1:4, 1:6], label[5:7, 1:6] = 1, 2
    cohort = tmp_path / "cohort"
    entries = {"channel_names": {"0": "CT"}, "numTraining": 2, "file_ending": ".nii.gz", **TABLE.to_dataset_json()}
    for key in PATIENTS:
        write_volume(cohort / "imagesTr" / f"{key}_0000.nii.gz", Volume(label.astype(np.int16), affine))
        write_volume(cohort / "labelsTr" / f"{key}.nii.gz", Volume(label, affine))
    (cohort / "dataset.json").write_text(json.dumps(entries))
    worse = label.copy()
    worse[3] = 0
    for name, voxels in (("before", worse), ("after", label)):
        for key in PATIENTS:
            write_volume(tmp_path / name / f"{key}.nii.gz", Volume(voxels, affine))
        (tmp_path / name / "dataset.json").write_text(json.dumps(entries))
    words = ["compare", cohort, tmp_path / "before", tmp_path / "after", "-o", tmp_path / "out"]
    assert run(*words, "--corrections", cohort) == 2
    assert "has no corrections; take edits in with `volseg adopt`" in capsys.readouterr().err
    write_corrections(cohort, ROWS)
    assert run(*words, "--rounds", "0,1") == 2
    assert run(*words, "--corrections", cohort, "--rounds", "0,7") == 2
    assert "--rounds must be 2 of the numbers 0, 1, 2, one per set, got '0,7'" in capsys.readouterr().err
    assert run(*words, "--corrections", cohort, "--metric", "hd95_mm") == 2
    assert run(*words, "--corrections", cohort, "--rounds", "0,2") == 0
    with (tmp_path / "out" / "rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["mm"], row["dice liver"]) for row in rows] == [
        ("before", "0", "0.8000"),
        ("after", "186", "1.0000"),
    ]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_that_a_spreadsheet_saved_is_read(tmp_path: Path, mark: str) -> None:
    """Semicolons and decimal commas; moving the file away, as the error had it, would lose its history."""
    rows = [replace(ROWS[0], ml=456.722, case_minutes=2.5), *ROWS[1:]]
    write_corrections(tmp_path, rows)
    path = tmp_path / "corrections.csv"
    before = read_corrections(tmp_path)
    text = path.read_text().replace(",", ";").replace(".", ",")
    path.write_bytes((mark + text).replace("\n", "\r\n").encode())
    assert read_corrections(tmp_path) == before
    assert before[0].case_minutes == 2.5
    path.write_bytes("öde".encode("latin-1"))
    with pytest.raises(CohortError, match="no table of corrections"):
        read_corrections(tmp_path)
