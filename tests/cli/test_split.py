"""`volseg split`: what a mistyped pattern may not do."""

from __future__ import annotations

import shutil

import pytest
from command import told

from volseg.cohort import CaseRow, Cohort
from volseg.cohort.table import write_table


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--patient-pattern", "case"), "a split needs at least 2 patients with labels, got 1"),
        (("--patient-pattern", r"case\d+", "--folds", "9"), "9 folds were asked for and there are 5 patients"),
    ],
)
def test_a_pattern_that_gives_no_folds_leaves_the_patients_as_they_are(words, line, tiny_cohort, tmp_path, capsys):
    folder = tmp_path / "cohort"
    shutil.copytree(tiny_cohort, folder)
    rows = Cohort.open(folder).rows.values()
    write_table(folder / "cases.csv", [CaseRow(**{**vars(row), "patient": f"told {row.key}"}) for row in rows])
    before = (folder / "cases.csv").read_bytes()
    code, text = told(capsys, "split", folder, *words)
    assert (code, line in text) == (2, True), text
    assert (folder / "cases.csv").read_bytes() == before
