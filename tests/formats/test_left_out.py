"""Raw folders with more, fewer or other files than they list: nothing is left out or mixed up without a word."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from volseg.cohort import Cohort, inspect_cohort, read_table, write_cohort
from volseg.errors import LabelError, SourceError
from volseg.formats import Decathlon
from volseg.labels import LabelTable
from volseg.volume import Volume, write_volume

LABELS = {"background": 0, "organ": 1}


def put(path, value=0):
    write_volume(path, Volume(np.full((4, 3, 2), value, np.uint8), np.diag([1.0, 1, 2, 1])))


def describe(raw, **entries):
    (raw / "dataset.json").write_text(json.dumps({"channel_names": {"0": "MR"}, "labels": LABELS, **entries}))


@pytest.fixture
def found(tmp_path):
    """nnU-Net's form, two cases."""
    for key in "ab":
        put(tmp_path / f"raw/imagesTr/{key}_0000.nii.gz", 7)
        put(tmp_path / f"raw/labelsTr/{key}.nii.gz", 1)
    describe(tmp_path / "raw", numTraining=2)
    return tmp_path / "raw"


def entries(keys, **more):
    return [{"image": f"imagesTr/{k}_0000.nii.gz", "label": f"labelsTr/{k}.nii.gz", **more} for k in keys]


@pytest.mark.parametrize(
    "name",
    [
        "labelsTr/z.nii.gz",  # no image
        "imagesTr/z.nii.gz",  # no number
        "imagesTr/z_0001.nii.gz",  # no first channel
        "imagesTr/z_0000.NII.GZ",
        "imagesTr/more/z_0000.nii.gz",
        "imagesTs/z.mha",
        "labelsTs/z.seg.nrrd",
    ],
)
def test_files_of_no_case_are_told_by_convert_and_check(found, tmp_path, caplog, name):
    (found / name).parent.mkdir(parents=True, exist_ok=True)
    (found / name).write_bytes(b"of no case")
    with caplog.at_level(logging.WARNING):
        assert write_cohort(Decathlon(found), tmp_path / "cohort").written == ("a", "b")
    told = f"files that belong to no case were left out, 1 in all: {name} "
    assert told in caplog.text
    assert any(told in warning for warning in inspect_cohort(Cohort.open(tmp_path / "cohort")).warnings)


def test_hidden_files_and_texts_are_no_images(found):
    (found / "imagesTr/._z_0000.nii.gz").write_bytes(b"of macOS")
    (found / "imagesTr/notes.txt").write_text("notes")
    assert Decathlon(found).warnings == ()


def test_files_that_a_list_does_not_name(found):
    put(found / "imagesTr/c_0000.nii.gz")
    put(found / "labelsTr/c.nii.gz")
    describe(found, training=entries("ab"))
    told = "files that dataset.json does not list were left out, 2 in all: imagesTr/c_0000.nii.gz, labelsTr/c.nii.gz"
    assert Decathlon(found).warnings == (told,)


@pytest.mark.parametrize("stated", [5, "5", 2, 1, None, "?"])
def test_fewer_cases_than_the_folder_says(found, stated):
    describe(found, numTraining=stated)
    told = "dataset.json states 5 training cases (numTraining), and 2 are there; copy the others"
    assert Decathlon(found).warnings == ((told,) if stated in (5, "5") else ())


def test_labels_of_several_images_and_swapped_ones(found):
    put(found / "imagesTr/c_0000.nii.gz", 7)
    shared, other = entries("ac"), entries("b")
    shared[1]["label"] = shared[0]["label"]
    describe(found, training=[*shared, *other])
    assert Decathlon(found).warnings == ("a.nii.gz is the label of 2 images: a, c",)
    swapped = entries("ab")
    swapped[0]["label"], swapped[1]["label"] = swapped[1]["label"], swapped[0]["label"]
    describe(found, training=[*swapped, {"image": "imagesTr/c_0000.nii.gz"}])
    assert Decathlon(found).warnings == (
        "the labels of 2 cases are called as other images are: a has b.nii.gz, b has a.nii.gz; are they swapped?",
    )


@pytest.mark.parametrize("name", ["patient", "patient_id", "subject"])
def test_patients_that_a_list_names(found, tmp_path, name):
    put(found / "imagesTr/c_0000.nii.gz", 7)
    put(found / "labelsTr/c.nii.gz", 1)
    describe(found, training=[*entries("ac", **{name: " P1 "}), *entries("b", **{name: 2})])
    write_cohort(Decathlon(found), tmp_path / "cohort")
    assert {row.key: row.patient for row in read_table(tmp_path / "cohort/cases.csv")} == {
        "a": "P1",
        "b": "2",
        "c": "P1",
    }


def test_blanks_around_paths(found):
    first, second = entries("ab")
    first = {"image": f"{first['image']} ", "label": f" {first['label']}"}
    describe(found, training=[first, second])
    source = Decathlon(found)
    assert source.keys() == ["a", "b"]
    assert source.load("a").label is not None


def test_an_object_of_cases_is_no_list(found):
    describe(found, training={"0": entries("ab")})
    with pytest.raises(SourceError, match="must hold a list under 'training', got dict"):
        Decathlon(found)


@pytest.mark.parametrize("name", ["splits.json", "splits_final.json"])
def test_folds_in_a_raw_folder_are_taken(found, tmp_path, name):
    put(found / "imagesTr/c_0000.nii.gz", 7)
    put(found / "labelsTr/c.nii.gz", 1)
    splits = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["c"], "val": ["a", "b"]}]
    (found / name).write_text(json.dumps(splits))
    write_cohort(source := Decathlon(found), tmp_path / "cohort", given=source.folds)
    assert json.loads((tmp_path / "cohort/splits.json").read_text()) == splits


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        (
            '[{"train": ["a.nii.gz"], "val": ["b.nii.gz"]}]',
            "names 2 keys that are of no labelled case, such as a.nii.gz",
        ),
        ('[{"train": ["a"], "validation": ["b"]}]', "other folds are drawn: fold 0 of"),
        ('[{"train": ["a", "z"], "val": ["b"]}]', "names 1 keys that are of no labelled case, such as z"),
    ],
)
def test_folds_in_a_raw_folder_that_do_not_fit(found, caplog, splits, told):
    (found / "splits_final.json").write_text(splits)
    with caplog.at_level(logging.WARNING):
        folds = Decathlon(found).folds
    assert told in caplog.text
    assert len(folds) == ('"z"' in splits)


def test_texts_that_windows_marks_as_utf8(found, tmp_path):
    """A byte order mark in front of dataset.json, the folds and the table, and a table with semicolons."""
    write_cohort(Decathlon(found), cohort := tmp_path / "cohort")
    for name in ("dataset.json", "splits.json", "cases.csv"):
        text = (cohort / name).read_text()
        (cohort / name).write_text(text.replace(",", ";") if name == "cases.csv" else text, encoding="utf-8-sig")
    opened = Cohort.open(cohort)
    assert opened.keys == ("a", "b")
    assert len(opened.folds()) == 2
    describe(found)
    (found / "dataset.json").write_text((found / "dataset.json").read_text(), encoding="utf-8-sig")
    assert Decathlon(found).keys() == ["a", "b"]


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        ({"background": "0", "a": "1", "b": "12"}, [(1,), (12,)]),
        ({"background": 0.0, "a": 1.0, "b": [1.0, "2"]}, [(1,), (1, 2)]),
        ({"0": "background", "1": "7", "2": "8.0"}, [(1,), (2,)]),  # names that are numbers
    ],
)
def test_values_as_texts_and_decimals(labels, values):
    table = LabelTable.from_dataset_json({"labels": labels})
    assert [region.values for region in table.regions] == values


@pytest.mark.parametrize("value", ["one", "1.5", 1.5, "-1", True, "(1, 2)"])
def test_values_that_are_no_whole_numbers(value):
    with pytest.raises(LabelError, match="expected a whole number"):
        LabelTable.from_dataset_json({"labels": {"background": 0, "a": value}})
