"""Cohorts that a person has worked on: a table from a spreadsheet, images that were replaced, names of one's own."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from command import told

from volseg.cohort import Cohort, inspect_cohort, write_cohort
from volseg.cohort.table import write_table
from volseg.datasets import write_phantom
from volseg.errors import CohortError
from volseg.formats import UwMadison, export_slicer
from volseg.volume import Volume, read_volume, write_volume


@pytest.fixture
def cohort(tiny_cohort, tmp_path):
    shutil.copytree(tiny_cohort, tmp_path / "cohort")
    opened = Cohort.open(tmp_path / "cohort")
    write_table(opened.folder / "cases.csv", opened.rows.values())
    return opened


def test_a_row_that_was_cleared_is_none(cohort):
    table = cohort.folder / "cases.csv"
    text = table.read_text()
    table.write_text(f"{text},,,,,,,\n")
    assert Cohort.open(cohort.folder).rows == cohort.rows
    table.write_text(text.replace(",", ";") + ";;;;;;;\n\n")
    assert Cohort.open(cohort.folder).rows == cohort.rows


def test_a_table_of_another_encoding_says_how_to_save_it(cohort):
    table = cohort.folder / "cases.csv"
    first, *rest = table.read_text().splitlines()
    rest[1] = rest[1].replace(cohort.rows[cohort.keys[1]].patient, "Müller", 2).replace("Müller", cohort.keys[1], 1)
    table.write_bytes("\n".join([first, *rest]).encode("cp1252"))
    with pytest.raises(CohortError, match="line 3 is not in UTF-8; save the table as 'CSV UTF-8'"):
        Cohort.open(cohort.folder)


def test_a_size_that_cannot_be_read_names_its_case(cohort):
    table = cohort.folder / "cases.csv"
    size = "x".join(map(str, cohort.rows[cohort.keys[1]].shape))
    lines = table.read_text().splitlines()
    lines[2] = lines[2].replace(size, "Jan 96")
    table.write_text("\n".join(lines))
    with pytest.raises(CohortError, match=rf"{cohort.keys[1]} must have a shape and a spacing_mm such as .* 'Jan 96'"):
        Cohort.open(cohort.folder)


def test_a_table_in_utf_16_is_the_cohorts_own(cohort):
    table = cohort.folder / "cases.csv"
    table.write_bytes(table.read_text().encode("utf-16"))
    with pytest.raises(CohortError, match="is not in UTF-8; save the table as 'CSV UTF-8'"):
        Cohort.open(cohort.folder)


def test_a_table_that_cannot_be_read_is_kept_by_the_next_conversion(tmp_path, caplog):
    """What a person had written into it was lost."""
    raw, folder = tmp_path / "raw", tmp_path / "cohort"
    write_phantom(raw, patients=2, days=1, workers=1)
    write_cohort(UwMadison(raw), folder, workers=1)
    saved = (folder / "cases.csv").read_text().replace(",case201,", ",Müller,").encode("cp1252")
    (folder / "cases.csv").write_bytes(saved)
    write_cohort(UwMadison(raw), folder, workers=1)
    assert (folder / "cases.unreadable.csv").read_bytes() == saved
    assert "the former table, with what was changed in it, is now" in caplog.text
    assert len(Cohort.open(folder).rows) == 2


def test_check_tells_that_the_table_is_of_other_images(cohort):
    """The median spacing, by which a training is planned, was that of images which were there before."""
    assert not any("cases.csv states" in warning for warning in inspect_cohort(cohort).warnings)
    key = cohort.keys[0]
    for path in (*cohort.image_paths(key), cohort.label_path(key)):
        volume = read_volume(path)
        write_volume(path, Volume(volume.voxels[::2].copy(), volume.affine_ras @ np.diag([2.0, 1, 1, 1])))
    found = [one for one in inspect_cohort(cohort).warnings if "cases.csv states another size or spacing" in one]
    assert len(found) == 1
    assert f"in 1 of {len(cohort.keys)} cases ({key})" in found[0]


@pytest.mark.parametrize("name", ["Müller 1", "d'Arc #2 [a]"])
def test_names_of_ones_own_are_checked_and_exported(name, cohort, tmp_path, capsys):
    """Training, prediction and evaluation took such a case, and `check` and `export slicer` refused its name."""
    key = cohort.keys[0]
    (cohort.folder / "cases.csv").unlink()
    for path in (*cohort.image_paths(key), cohort.label_path(key)):
        path.rename(path.with_name(path.name.replace(key, name)))
    assert inspect_cohort(Cohort.open(cohort.folder)).failed == {}
    predictions = tmp_path / "predictions"
    shutil.copytree(cohort.folder / "labelsTr", predictions)
    assert export_slicer(predictions, tmp_path / "slicer", cohort.labels) == []
    assert (tmp_path / "slicer" / f"{name}.seg.nrrd").is_file()
    code, text = told(capsys, "evaluate", tmp_path / "slicer", cohort.folder, "-o", tmp_path / "report")
    assert code == 0, text
