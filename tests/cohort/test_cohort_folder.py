"""The cohort folder: what is opened, what is refused with which words, and how it is split."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volseg.cohort import CaseRow, Cohort, patient_of, read_table, split_by_patient, write_cohort, write_splits
from volseg.cohort.folds import Fold, read_splits
from volseg.cohort.table import COLUMNS, write_table
from volseg.errors import CohortError, GeometryError, LabelError, UsageError, VolumeError
from volseg.volume import Volume, write_volume

DATASET = {
    "channel_names": {"0": "MR", "1": "CT"},
    "labels": {"background": 0, "organ": 1},
    "numTraining": 3,
    "file_ending": ".nii.gz",
}
SHAPE = (4, 5, 6)
AFFINE = np.diag([-1.5, -1.5, 3, 1])


def put(path, *, shape=SHAPE, affine=AFFINE):
    write_volume(path, Volume(np.zeros(shape, np.uint8), affine))


def row(key, patient="p", *, warnings=(), shape=SHAPE, spacing=(1.5, 1.5, 3.0), axes="LPS"):
    return CaseRow(key, patient, "day1", shape, spacing, axes, "a source", warnings)


@pytest.fixture
def folder(tmp_path):
    """Two labelled cases of two channels and one without label, as nnU-Net users make them: no cases.csv."""
    folder = tmp_path / "Dataset001_Test"
    for part, key in (("imagesTr", "b"), ("imagesTr", "a_1"), ("imagesTs", "c")):
        for channel in range(2):
            put(folder / part / f"{key}_{channel:04d}.nii.gz")
        if part == "imagesTr":
            put(folder / "labelsTr" / f"{key}.nii.gz")
    (folder / "dataset.json").write_text(json.dumps(DATASET))
    return folder


def test_a_folder_of_nnunet_is_opened_by_its_headers(folder):
    cohort = Cohort.open(folder)
    assert cohort.keys == ("a_1", "b", "c")
    assert cohort.labelled == {"a_1", "b"}
    assert (cohort.channel_names, cohort.channels, cohort.labels.names) == (("MR", "CT"), 2, ("organ",))
    assert cohort.rows["c"] == CaseRow("c", "c", "", SHAPE, (1.5, 1.5, 3.0), "LPS", "c_0000.nii.gz", ())
    assert cohort.patient("a_1") == "a_1"
    assert [path.relative_to(folder).as_posix() for path in cohort.image_paths("c")] == [
        "imagesTs/c_0000.nii.gz",
        "imagesTs/c_0001.nii.gz",
    ]
    assert cohort.label_path("c") is None
    assert cohort.label_path("b") == folder / "labelsTr" / "b.nii.gz"


def test_what_is_no_case_is_passed_over(folder):
    for name in (".partial-x-b_0000.nii.gz", "._b_0000.nii.gz", "notes.txt"):
        (folder / "imagesTr" / name).write_text("not a case")
    assert Cohort.open(folder).keys == ("a_1", "b", "c")


def test_cases_csv_knows_more_than_the_headers(folder):
    write_table(folder / "cases.csv", [row("b", "p7"), row("gone", "p8")])
    cohort = Cohort.open(folder)
    assert [cohort.patient(key) for key in cohort.keys] == ["a_1", "p7", "c"]


def test_an_empty_patient_is_told_by_the_key_and_spaces_count_for_nothing(tiny_cohort, tmp_path):
    copy = shutil.copytree(tiny_cohort, tmp_path / "cohort")
    there = Cohort.open(copy)
    first, second = there.keys[:2]
    rows = [replace(row, patient="", session="") for row in there.rows.values() if row.key != first]
    write_table(copy / "cases.csv", [replace(there.rows[first], patient="Ann "), *rows])
    opened = Cohort.open(copy)
    assert opened.patient(first) == "Ann"
    assert opened.patient(second) == patient_of(second)[0]
    assert len({opened.patient(key) for key in opened.keys}) > 2


def test_two_rows_of_one_case_are_refused_if_they_differ(tiny_cohort, tmp_path):
    copy = shutil.copytree(tiny_cohort, tmp_path / "cohort")
    there = Cohort.open(copy)
    rows = list(there.rows.values())
    write_table(copy / "cases.csv", [*rows, rows[0]])
    assert dict(Cohort.open(copy).rows) == dict(there.rows)
    write_table(copy / "cases.csv", [*rows, replace(rows[0], patient="another")])
    with pytest.raises(CohortError, match=f"several rows of {rows[0].key}"):
        Cohort.open(copy)


def test_the_datalist_carries_key_images_and_label(folder):
    cohort = Cohort.open(folder)
    write_splits(folder, [Fold(("a_1",), ("b",))])
    (item,) = cohort.datalist("validation")
    images, label = folder / "imagesTr", folder / "labelsTr"
    assert item == {
        "key": "b",
        "image": [str(images / "b_0000.nii.gz"), str(images / "b_0001.nii.gz")],
        "label": str(label / "b.nii.gz"),
    }
    assert [item["key"] for item in cohort.datalist("training", fold=0)] == ["a_1"]
    assert [(item["key"], "label" in item) for item in cohort.datalist("all")] == [
        ("a_1", True),
        ("b", True),
        ("c", False),
    ]
    with pytest.raises(UsageError, match="is kept for a test"):
        cohort.datalist("test")
    with pytest.raises(UsageError, match=r"must be all, .* got 'tests'"):
        cohort.datalist("tests")


def test_the_digest_tells_cohorts_apart_and_not_their_places(tiny_cohort, tmp_path):
    def changed(name, change):
        place = tmp_path / name
        shutil.copytree(tiny_cohort, place)
        change(place)
        return Cohort.open(place).digest

    def swap(place):
        fold = json.loads((place / "splits.json").read_text())[0]
        (place / "splits.json").write_text(
            json.dumps([{"training": fold["validation"], "validation": fold["training"]}])
        )

    def rename(place):
        (place / "dataset.json").write_text((place / "dataset.json").read_text().replace('"small"', '"tiny"'))

    def regrid(place):
        path = place / "imagesTr" / "case0_day0_0000.nii.gz"
        write_volume(path, Volume(np.zeros((4, 4, 4), np.uint8), np.eye(4)))

    same = Cohort.open(tiny_cohort).digest
    assert len(same) == 16
    assert changed("copy", lambda _: None) == same
    others = {changed(change.__name__, change) for change in (swap, rename, regrid)}
    others.add(changed("no folds", lambda place: (place / "splits.json").unlink()))
    assert len({same, *others}) == 5


def remove(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


def change(**entries):
    return lambda folder: (folder / "dataset.json").write_text(json.dumps(DATASET | entries))


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (remove("dataset.json"), CohortError, "has no dataset.json"),
        (write("dataset.json", "{"), CohortError, "dataset.json is not JSON"),
        (lambda folder: (folder / "dataset.json").write_bytes(b"\xff\xfe"), CohortError, "dataset.json is not JSON"),
        (write("dataset.json", "[]"), CohortError, "holds no JSON object"),
        (change(channel_names={}), CohortError, '"channel_names"'),
        (change(channel_names={"1": "MR"}), CohortError, '"channel_names"'),
        (change(channel_names=["MR"]), CohortError, '"channel_names"'),
        (change(labels={}), LabelError, "no region"),
        (change(file_ending=".mha"), CohortError, "has the file ending '.mha'"),
        (remove("labelsTr/b.nii.gz"), CohortError, "^b has an image in imagesTr and no label"),
        (
            remove("imagesTr/b_0000.nii.gz", "imagesTr/b_0001.nii.gz"),
            CohortError,
            "^b has a file in labelsTr and no image",
        ),
        (remove("imagesTr/b_0001.nii.gz"), CohortError, r"\['0000'\] of case 'b', expected \['0000', '0001'\]"),
        (change(channel_names={"0": "MR"}), CohortError, r"\['0000', '0001'\] of case 'a_1', expected \['0000'\]"),
        (lambda folder: put(folder / "imagesTr/d.nii.gz"), CohortError, "name each file KEY_0000.nii.gz"),
        (
            lambda folder: [put(folder / f"imagesTr/c_000{i}.nii.gz") for i in range(2)],
            CohortError,
            "^c stands in imagesTr and in imagesTs",
        ),
        (write("imagesTs/c_0000.nii.gz", ""), VolumeError, "^c: c_0000.nii.gz cannot be read"),
        (write("cases.csv", "key,patient\na_1,p\n"), CohortError, "cases.csv is damaged .*no session, shape"),
        (write("cases.csv", ",".join(COLUMNS) + "\na_1,p,,4x5x6,1x1"), CohortError, "cases.csv is damaged"),
        (write("cases.csv", ",".join(COLUMNS) + "\na_1,p,,4x5,1x1,LP,,\n"), CohortError, "without three axes"),
        (write("cases.csv", ",".join(COLUMNS) + "\na_1,p,,4x5x6,1x1x1,LLS,,\n"), CohortError, "without three axes"),
        (write("cases.csv", ",".join(COLUMNS) + "\na_1,p,,4xax6,1x1x1,LPS,,\n"), CohortError, "cases.csv is damaged"),
        (lambda folder: (folder / "cases.csv").write_bytes(b"\x89\xff"), CohortError, "cases.csv is damaged"),
        (
            lambda folder: (folder / "cases.csv").write_text(",".join(COLUMNS) + "\n" + "a" * 200_000),
            CohortError,
            "cases.csv is damaged",
        ),
    ],
)
def test_each_damage_has_its_own_words(folder, damage, error, message):
    damage(folder)
    with pytest.raises(error, match=message):
        Cohort.open(folder)


def test_a_case_of_two_axes_is_one_slice(folder):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5), np.uint8), AFFINE), folder / "imagesTs" / "c_0000.nii.gz")
    assert Cohort.open(folder).rows["c"].shape == (4, 5, 1)


def test_a_singular_affine_is_refused_by_key_and_file(folder):
    image = nibabel.Nifti1Image(np.zeros(SHAPE, np.uint8), None)
    image.header.set_sform(np.diag([0, 0, 0, 1]), code=1)
    (folder / "imagesTs" / "c_0000.nii.gz").write_bytes(gzip.compress(image.to_bytes()))
    with pytest.raises(GeometryError, match=r"^c: c_0000\.nii\.gz: the affine is singular"):
        Cohort.open(folder)


def test_an_empty_and_an_absent_folder_are_told(folder, tmp_path):
    with pytest.raises(CohortError, match="there is no folder"):
        Cohort.open(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "dataset.json").write_text(json.dumps(DATASET))
    with pytest.raises(CohortError, match="holds no case; convert some"):
        Cohort.open(tmp_path / "empty")


@pytest.mark.parametrize("ask", [Cohort.patient, Cohort.image_paths, Cohort.label_path])
def test_an_unknown_key_is_told(folder, ask):
    with pytest.raises(CohortError, match="there is no case 'z'"):
        ask(Cohort.open(folder), "z")


def test_without_two_patients_no_split_is_asked_for(folder):
    def without_labels(keys):
        (folder / "imagesTs").mkdir(exist_ok=True)
        for key in keys:
            (folder / "labelsTr" / f"{key}.nii.gz").unlink()
            for image in (folder / "imagesTr").glob(f"{key}_000?.nii.gz"):
                image.rename(folder / "imagesTs" / image.name)
        return Cohort.open(folder)

    (folder / "splits.json").unlink(missing_ok=True)
    first, *others = sorted(Cohort.open(folder).labelled)
    cohort = without_labels(others)
    with pytest.raises(CohortError, match=r"needs 2 patients with labels, and there is 1; `volseg train --fold all`"):
        cohort.folds()
    assert cohort.fold("all").training == (first,)
    with pytest.raises(CohortError, match=r"has no splits.json; no case has a label"):
        without_labels([first]).folds()


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (None, "has no splits.json; write it with `volseg split"),
        ("{", "is not JSON"),
        ("{}", "must be a list of folds, each with train and val keys, got an object with no entry"),
        ("[]", "must be a list of folds, .* got a list of 0"),
        ("3", "must be a list of folds, .* got int"),
        ("null", "must be a list of folds, .* got NoneType"),
        ('["a_1"]', "fold 0 of .* must hold two lists of keys, train and val, got str"),
        ('[{"train": ["a_1"], "validation": ["b"]}]', "got an object with train, validation"),
        ('[{"training": ["a_1"]}]', "got an object with training"),
        ('[{"train": "a_1", "val": ["b"]}]', "must hold two lists"),
        ('[{"training": [["a_1"]], "validation": ["b"]}]', "must hold two lists"),
        ('[{"training": ["a_1"], "validation": ["z"]}]', "fold 0 of .* names z, which has no label here"),
        ('[{"training": ["a_1"], "validation": ["c"]}]', "fold 0 of .* names c, which has no label here"),
        (
            '[{"training": ["a_1"], "validation": ["b"]}, {"training": ["b"], "validation": ["b"]}]',
            "fold 1 of .* has patient b on both sides",
        ),
    ],
)
def test_a_wrong_split_is_told(folder, splits, message):
    if splits is not None:
        (folder / "splits.json").write_text(splits)
    with pytest.raises(CohortError, match=message):
        Cohort.open(folder).folds()


def test_two_days_of_one_patient_on_both_sides_are_told(folder):
    write_table(folder / "cases.csv", [row("a_1", "p7"), row("b", "p7"), row("c")])
    write_splits(folder, [Fold(("a_1",), ("b",))])
    with pytest.raises(CohortError, match="has patient p7 on both sides"):
        Cohort.open(folder).folds()


@pytest.mark.parametrize("number", [-1, 1, 7])
def test_a_fold_out_of_range_is_told(folder, number):
    write_splits(folder, [Fold(("a_1",), ("b",))])
    assert Cohort.open(folder).fold(0) == Fold(("a_1",), ("b",))
    with pytest.raises(UsageError, match=f"the fold must be 0 or all in .*, got {number}; name one"):
        Cohort.open(folder).fold(number)


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8)
words = st.text("abcABC019_-.", min_size=1, max_size=8)
case_rows = st.builds(
    CaseRow,
    key=words,
    patient=words,
    session=words | st.just(""),
    shape=st.tuples(*[st.integers(1, 999)] * 3),
    spacing_mm=st.tuples(*[st.integers(1, 99999).map(lambda n: n / 1000)] * 3),
    orientation=st.permutations(["RL", "AP", "SI"]).flatmap(
        lambda axes: st.tuples(*[st.sampled_from(list(axis)) for axis in axes]).map("".join)
    ),
    source=texts,
    warnings=st.lists(texts.filter(lambda text: text and "; " not in text and text[-1] != ";"), max_size=3).map(tuple),
)


@given(st.lists(case_rows, unique_by=lambda row: row.key))
def test_the_table_survives_the_disk(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "cases.csv"
    write_table(path, rows)
    assert read_table(path) == sorted(rows, key=lambda row: row.key)


# Patients with 1 to 9 cases each, some cases suspect.
cohorts = st.lists(st.lists(st.booleans(), min_size=1, max_size=9), min_size=2, max_size=20).map(
    lambda patients: [
        row(f"case{p}_day{d}", f"case{p}", warnings=("suspect: cropped",) if suspect else ("a note",))
        for p, days in enumerate(patients)
        for d, suspect in enumerate(days)
    ]
)


@given(cohorts, st.integers(2, 6), st.integers(0, 9), st.booleans())
def test_a_split_validates_each_case_once_and_keeps_patients_together(rows, count, seed, suspects):
    patient = {row.key: row.patient for row in rows}
    expected = {row.key for row in rows if suspects or not row.suspect}
    patients = {patient[key] for key in expected}
    if len(patients) < count:
        with pytest.raises(UsageError):
            split_by_patient(rows, folds=count, seed=seed, suspects=suspects)
        return
    folds = split_by_patient(rows, folds=count, seed=seed, suspects=suspects)
    assert len(folds) == count
    assert sorted(key for fold in folds for key in fold.validation) == sorted(expected)
    for fold in folds:
        assert fold.training and fold.validation  # noqa: PT018 - one statement
        assert {*fold.training, *fold.validation} == expected
        assert not {patient[key] for key in fold.training} & {patient[key] for key in fold.validation}
    # Dealt to the smallest: sizes differ by no more than the cases of one patient.
    sizes = [len(fold.validation) for fold in folds]
    most = max(sum(patient[key] == name for key in expected) for name in patients)
    assert max(sizes) - min(sizes) <= most
    assert split_by_patient(reversed(rows), folds=count, seed=seed, suspects=suspects) == folds


def test_another_seed_is_another_split():
    rows = [row(f"case{p}", f"case{p}") for p in range(20)]
    assert len({split_by_patient(rows, seed=seed)[0].validation for seed in range(5)}) == 5
    sizes = [len(fold.validation) for fold in split_by_patient(rows, folds=3)]
    assert sorted(sizes) == [6, 7, 7]


@pytest.mark.parametrize(
    ("patients", "folds", "cure"), [(3, 4, "ask for 2 to 3"), (3, 1, "ask for 2"), (1, 2, "at least 2 patients")]
)
def test_too_many_folds_are_refused_with_what_is_possible(patients, folds, cure):
    with pytest.raises(UsageError, match=cure):
        split_by_patient([row(f"case{p}", f"case{p}") for p in range(patients)], folds=folds)


def test_the_split_survives_the_disk_in_nnunets_form(tmp_path):
    folds = split_by_patient([row(f"case{p}", f"case{p}") for p in range(6)], folds=3)
    write_splits(tmp_path, folds)
    assert read_splits(tmp_path / "splits.json") == folds
    assert all(set(fold) == {"train", "val"} for fold in json.loads((tmp_path / "splits.json").read_text()))


def test_a_sagittal_case_counts_along_the_axes_of_the_body():
    # Array axes run P, I, R: spacing 1 mm back, 2 mm down, 5 mm to the right.
    sagittal = row("a", shape=(200, 100, 30), spacing=(1.0, 2.0, 5.0), axes="PIR")
    assert sagittal.along_ras(sagittal.spacing_mm) == (5.0, 1.0, 2.0)
    assert sagittal.along_ras(sagittal.shape) == (30, 200, 100)


@given(st.lists(st.permutations([0, 1, 2]), min_size=1, max_size=7), st.data())
def test_medians_do_not_depend_on_how_the_axes_are_stored(orders, data):
    shapes = [data.draw(st.tuples(*[st.integers(10, 99)] * 3)) for _ in orders]
    spacings = [data.draw(st.tuples(*[st.integers(50, 500).map(lambda n: n / 100)] * 3)) for _ in orders]

    def cohort(permuted):
        rows = {}
        for i, order in enumerate(orders):
            axes = order if permuted else (0, 1, 2)
            rows[f"k{i}"] = row(
                f"k{i}",
                shape=tuple(shapes[i][axis] for axis in axes),
                spacing=tuple(spacings[i][axis] for axis in axes),
                axes="".join("LAI"[axis] for axis in axes),
            )
        return Cohort(None, None, ("MR",), rows, frozenset(rows))

    plain, permuted = cohort(False), cohort(True)
    assert permuted.median_spacing_mm() == plain.median_spacing_mm()
    spacing = plain.median_spacing_mm()
    assert permuted.median_shape(spacing) == plain.median_shape(spacing)


def test_medians_are_of_the_labelled_cases():
    rows = {
        "a": row("a", shape=(10, 20, 30), spacing=(1.0, 1.0, 2.0)),
        "b": row("b", shape=(99, 99, 99), spacing=(9.0, 9.0, 9.0)),
        "c": row("c", shape=(99, 99, 99), spacing=(9.0, 9.0, 9.0)),
    }
    cohort = Cohort(None, None, ("MR",), rows, frozenset({"a"}))
    assert cohort.median_spacing_mm() == [1, 1, 2]
    assert cohort.median_shape([1, 1, 2]) == [10, 20, 30]
    assert cohort.median_shape([2, 2, 2]) == [5, 10, 30]
    assert Cohort(None, None, ("MR",), rows, frozenset()).median_spacing_mm() == [9, 9, 9]


@pytest.mark.skipif(importlib.util.find_spec("nnunetv2") is None, reason="nnunetv2 is not installed")
def test_nnunet_accepts_a_converted_cohort(tmp_path):
    from volseg.datasets import write_phantom
    from volseg.formats import UwMadison

    folder = tmp_path / "Dataset501_Phantom"
    write_cohort(UwMadison(write_phantom(tmp_path / "raw", patients=2, days=1)), folder)
    check = "from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity as verify"
    done = subprocess.run(
        [sys.executable, "-c", f"{check}; verify({str(folder)!r}, num_processes=1)"],
        env=os.environ | {name: str(tmp_path) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "verify_dataset_integrity Done" in done.stdout
    assert "Error" not in done.stdout
    assert "mismatch" not in done.stdout
