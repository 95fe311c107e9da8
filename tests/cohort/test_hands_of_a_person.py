"""Cohorts that a person has worked on: a table from a spreadsheet, images that were replaced, names of one's own."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from command import told

from volseg.cohort import (
    Cohort,
    Correction,
    Fold,
    RegionBounds,
    corrected_keys,
    corrections,
    inspect_cohort,
    read_bounds,
    read_uncertainty,
    write_cohort,
    write_corrections,
    write_splits,
    write_uncertainty,
)
from volseg.cohort.table import write_table
from volseg.datasets import write_phantom
from volseg.errors import CohortError
from volseg.formats import Decathlon, UwMadison, export_slicer
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


def numbered(cohort, names):
    """The cohort with other keys, and a patient for each two cases."""
    rows = []
    for number, (key, name) in enumerate(zip(cohort.keys, names, strict=True)):
        for path in (*cohort.image_paths(key), cohort.label_path(key)):
            path.rename(path.with_name(path.name.replace(key, name)))
        rows.append(replace(cohort.rows[key], key=name, patient=f"p{number // 2}"))
    write_table(cohort.folder / "cases.csv", rows)
    (cohort.folder / "splits.json").unlink(missing_ok=True)
    return Cohort.open(cohort.folder)


def saved_by_a_spreadsheet(table, form):
    """Save a table as a spreadsheet does that takes keys for something else."""
    head, *lines = table.read_text().splitlines()
    table.write_text("\n".join([head, *(f"{form(line.split(',')[0])},{line.partition(',')[2]}" for line in lines)]))


@pytest.mark.parametrize(
    ("first", "form"),
    [("{:03d}", lambda key: str(int(key))), ("{}e5", lambda key: f"{float(key):.2E}"), ("{}.50", lambda key: key[:-1])],
)
def test_keys_that_a_spreadsheet_took_for_numbers_keep_their_patients(first, form, cohort, caplog):
    """Each case became a patient of its own, so that a split had one patient on both sides."""
    before = numbered(cohort, [first.format(number) for number in range(1, len(cohort.keys) + 1)])
    saved_by_a_spreadsheet(cohort.folder / "cases.csv", form)
    assert Cohort.open(cohort.folder).rows == before.rows
    assert "has keys that a spreadsheet took for numbers" in caplog.text


def test_keys_that_a_spreadsheet_took_for_dates_are_refused(cohort, tmp_path, caplog):
    numbered(cohort, [f"2024-01-0{number}" for number in range(1, len(cohort.keys) + 1)])
    table = cohort.folder / "cases.csv"
    saved_by_a_spreadsheet(table, lambda key: f"{key[-2:]}.01.2024")
    with pytest.raises(CohortError, match=r"in its rows, such as 2024-01-01, got 01\.01\.2024.*put them back where"):
        Cohort.open(cohort.folder)


def test_check_tells_of_rows_without_a_case_beside_cases_without_a_row(cohort):
    key = cohort.keys[0]
    table = cohort.folder / "cases.csv"
    table.write_text(table.read_text().replace(f"\n{key},", "\nJan 01,"))
    found = [one for one in inspect_cohort(Cohort.open(cohort.folder)).warnings if "if they are the same" in one]
    assert found == [
        f"cases.csv has no row of {key}, whose patients are those that their keys tell, and rows of Jan 01, which are "
        "no cases: if they are the same, put the keys back"
    ]


def test_a_conversion_keeps_what_was_changed_beside_keys_that_became_numbers(cohort, tmp_path):
    raw, folder = numbered(cohort, [f"{number:03d}" for number in range(len(cohort.keys))]).folder, tmp_path / "again"
    write_cohort(Decathlon(raw), folder, workers=1)
    table = folder / "cases.csv"
    table.write_text(table.read_text().replace(",p0,", ",Meyer,"))
    saved_by_a_spreadsheet(table, lambda key: str(int(key)))
    write_cohort(Decathlon(raw), folder, workers=1)
    assert [line.split(",")[:2] for line in table.read_text().splitlines()[1:3]] == [["000", "Meyer"], ["001", "Meyer"]]


def test_corrections_and_uncertainties_find_their_cases_after_a_spreadsheet(cohort):
    key = numbered(cohort, [f"{number:03d}" for number in range(len(cohort.keys))]).keys[1]
    one = Correction(1, key, "a", 1.0, 0.5, 2.0, 4, 1, None, "label", "0a", "0b")
    write_corrections(cohort.folder, [one])
    saved_by_a_spreadsheet(cohort.folder / "corrections.csv", lambda _: "1")
    text = (cohort.folder / "corrections.csv").read_text()
    (cohort.folder / "corrections.csv").write_text(text.replace(f",{key},", ",1,"))
    assert corrected_keys(cohort.folder) == (key,)
    folder = cohort.folder / "labelsTr"
    write_uncertainty(folder, {key: {"a": 0.75}}, bounds={key: {"a": RegionBounds(0.5, level=0.9)}})
    saved_by_a_spreadsheet(folder / "uncertainty.csv", lambda key: str(int(key)))
    assert list(read_uncertainty(folder)) == list(read_bounds(folder)) == [key]


def test_a_table_of_corrections_is_read_once_for_many_cases(cohort, monkeypatch):
    """A conversion read it anew for each case: 0.3 s a case for 5,000 rows on a busy core."""
    write_corrections(cohort.folder, [Correction(1, "a", "b", 1.0, 0.5, 2.0, 4, 1, None, "label", "0a", "0b")])
    path = cohort.folder / "corrections.csv"
    os.utime(path, (1e9, 1e9))
    read = []
    true = corrections.read_corrections
    monkeypatch.setattr(corrections, "read_corrections", lambda folder: read.append(folder) or true(folder))
    assert corrected_keys(cohort.folder) == corrected_keys(cohort.folder) == ("a",)
    assert len(read) == 1
    write_corrections(cohort.folder, [])
    assert corrected_keys(cohort.folder) == ()


def test_patients_on_both_sides_of_a_test_are_told(cohort, capsys):
    """A network was trained on other cases of a test's patient, and neither `split` nor `check` said so."""
    names = [f"p{number // 2}_day{number % 2}" for number in range(len(cohort.keys))]
    opened = numbered(cohort, names)
    assert told(capsys, "split", opened.folder, "--folds", 2)[0] == 0
    assert not any("kept for a test" in one for one in inspect_cohort(opened).warnings)
    rows = [replace(row, warnings=("test",) if row.key == names[0] else ()) for row in opened.rows.values()]
    write_table(opened.folder / "cases.csv", rows)
    line = "1 patients have cases that are kept for a test and others in the folds (p0), so that the test is not of new"
    assert line in told(capsys, "split", opened.folder, "--folds", 2)[1]
    assert any(one.startswith(line) for one in inspect_cohort(Cohort.open(opened.folder)).warnings)


@pytest.mark.parametrize("word", ["Suspect", "spacing unknown;suspect", " suspect: moved", "TEST", "a;Test: kept"])
def test_a_case_that_a_person_marks_stays_out_of_folds_however_the_word_is_written(word, cohort, capsys):
    """`Suspect`, or `;` without a space, said nothing, and the case was trained on."""
    marked = cohort.keys[0]
    table = cohort.folder / "cases.csv"
    head, *lines = table.read_text().splitlines()
    table.write_text("\n".join([head, *(line + word if line.startswith(f"{marked},") else line for line in lines)]))
    assert told(capsys, "split", cohort.folder, "--folds", 2)[0] == 0
    assert not any(marked in (*fold.training, *fold.validation) for fold in Cohort.open(cohort.folder).folds())


def test_labelled_cases_in_no_fold_are_told(cohort):
    """A training left out what `volseg adopt` had labelled, and `check` was content."""
    assert not any("in no fold" in one for one in inspect_cohort(cohort).warnings)
    left = cohort.fold(0).validation[0]
    folds = [
        Fold(*(tuple(key for key in keys if key != left) for keys in (fold.training, fold.validation)))
        for fold in cohort.folds()
    ]
    write_splits(cohort.folder, folds)
    assert (
        f"1 labelled cases are in no fold ({left}), so that no training takes them; draw folds anew with"
        in " ".join(inspect_cohort(cohort).warnings)
    )
