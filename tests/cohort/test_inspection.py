"""Inspection: every file is read, and what training would stumble over is told by key."""

from __future__ import annotations

import gzip
import json

import nibabel
import numpy as np
import pytest

from volseg.cli import main
from volseg.cohort import CaseRow, Cohort, inspect_cohort, write_splits
from volseg.cohort.folds import Fold
from volseg.cohort.table import write_table
from volseg.volume import Volume, read_volume, write_volume

SHAPE = (5, 5, 4)
AFFINE = np.diag([-2.0, -2, 5, 1])  # 0.02 ml a voxel


def run(*words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return left.value.code


def put(path, voxels=None, affine=AFFINE):
    grey = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE) + ord(path.name[0])  # each case is another scan
    write_volume(path, Volume(grey if voxels is None else voxels, affine))


@pytest.fixture
def folder(tmp_path):
    for key in "abc":
        for channel in range(2):
            put(tmp_path / ("imagesTs" if key == "c" else "imagesTr") / f"{key}_000{channel}.nii.gz")
    label = np.zeros(SHAPE, np.uint8)
    put(tmp_path / "labelsTr" / "b.nii.gz", label.copy())
    label.flat[:50] = 1
    put(tmp_path / "labelsTr" / "a.nii.gz", label)
    entries = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "organ": 1, "lesion": 2}}
    (tmp_path / "dataset.json").write_text(json.dumps(entries))
    return tmp_path


def test_a_sound_cohort_is_described(folder):
    calls = []
    found = inspect_cohort(Cohort.open(folder), progress=lambda done, total: calls.append((done, total)))
    assert found.failed == {}
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert found.text.splitlines() == [
        f"{folder}: 3 cases, 2 with labels, 3 patients, 0 suspect",
        "channels T1, T2; median spacing 2 x 2 x 5 mm",
        "  organ: in 1 of 2 labels, median 1.0 ml",
        "  lesion: in 0 of 2 labels, in no case",
        f"folds: {folder} has no splits.json; write it with `volseg split {folder}`",
    ]


def test_folds_patients_and_suspects_are_counted(folder):
    rows = [CaseRow(key, "p1", "", SHAPE, (2, 2, 5), "LPS", "", ("suspect: cut",)) for key in "ac"]
    write_table(folder / "cases.csv", rows)
    write_splits(folder, [Fold(("a",), ("b",)), Fold(("b",), ("a",))])
    text = inspect_cohort(Cohort.open(folder)).text
    assert "3 cases, 2 with labels, 2 patients, 2 suspect" in text
    assert text.splitlines()[-2:] == ["folds: 1/1, 1/1", "warning: suspect: cut: in 2 of 3 cases (a, c)"]


def not_finite(value):
    voxels = np.ones(SHAPE, np.float32)
    voxels[1, 2, 3] = value
    return voxels


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def without_orientation(path):
    image = nibabel.Nifti1Image(np.ones(SHAPE, np.float32), None)
    path.write_bytes(gzip.compress(image.to_bytes()))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("imagesTr/a_0001.nii.gz", lambda path: put(path, not_finite(np.nan)), "holds NaN or infinity"),
        ("imagesTs/c_0000.nii.gz", lambda path: put(path, not_finite(np.inf)), "holds NaN or infinity"),
        ("imagesTr/a_0001.nii.gz", lambda path: put(path, affine=np.eye(4)), "lie on different grids"),
        ("labelsTr/a.nii.gz", lambda path: put(path, np.zeros((5, 5, 5), np.uint8)), "against 5 x 5 x 5"),
        ("labelsTr/a.nii.gz", lambda path: put(path, np.full(SHAPE, 3, np.uint8)), "the label map holds 3"),
        ("labelsTr/a.nii.gz", lambda path: put(path, np.full(SHAPE, 0.5, np.float32)), "the label map holds 0.5"),
        ("imagesTr/a_0001.nii.gz", cut, "a_0001.nii.gz cannot be read"),
        ("labelsTr/a.nii.gz", cut, "a.nii.gz cannot be read"),
        ("imagesTr/a_0001.nii.gz", without_orientation, "a_0001.nii.gz states no orientation"),
    ],
)
def test_each_fault_is_told_by_key_and_the_others_are_counted(folder, name, damage, message):
    cohort = Cohort.open(folder)
    damage(folder / name)
    found = inspect_cohort(cohort)
    key = "c" if "/c" in name else "a"
    assert list(found.failed) == [key]
    assert message in found.failed[key]
    assert ("of 1 labels" if key == "a" else "of 2 labels") in found.text


@pytest.mark.parametrize("warned", [False, True])
def test_strict_allows_no_warning(folder, capsys, warned):
    if warned:
        write_table(folder / "cases.csv", [CaseRow("a", "p1", "", SHAPE, (2, 2, 5), "LPS", "", ("odd", "odder"))])
    assert not run("check", folder)
    assert bool(run("check", folder, "--strict")) == warned
    assert capsys.readouterr().err == "failed  2 warnings, and --strict allows none\n" * warned


def test_many_different_warnings_are_counted(folder):
    rows = [CaseRow("a", "p1", "", SHAPE, (2, 2, 5), "LPS", "", tuple(f"odd {n}" for n in range(23)))]
    write_table(folder / "cases.csv", rows)
    lines = inspect_cohort(Cohort.open(folder)).text.splitlines()
    assert lines[-2] == "warning: odd 19: in 1 of 3 cases (a)"
    assert lines[-1] == f"warning: 3 more warnings in {folder / 'cases.csv'}"


def test_a_lack_of_memory_is_one_case_s_and_the_others_are_read(folder, monkeypatch):
    key = Cohort.open(folder).keys[0]

    def read(path):
        if path.name.startswith(key):
            raise MemoryError("Unable to allocate 90 GiB")
        return read_volume(path)

    monkeypatch.setattr("volseg.cohort.inspection.read_volume", read)
    report = inspect_cohort(Cohort.open(folder))
    assert list(report.failed) == [key]
    assert "the memory ran out (Unable to allocate 90 GiB)" in report.failed[key]
