"""A corrected label in a cohort that tells objects apart keeps a map of objects, through kills and back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from volseg.cohort import Cohort, Correction, inspect_cohort, replace_label, undo_adoption
from volseg.cohort.adoption import finish_adoption
from volseg.evaluation import EvaluationSettings, evaluate
from volseg.volume import Volume, read_volume, write_volume

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
METHOD = EvaluationSettings(objects=True, instances=True)


def row(number: int, key: str) -> Correction:
    return Correction(number, key, "cell", 1.0, 1.0, 1.0, 1, 1, None, "label", "a", "b")


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """Two labelled cases of two cells each, which touch, and one without a label."""
    folder = tmp_path / "cohort"
    for key in ("a", "b", "new"):
        image = np.arange(12 * 10 * 4, dtype=np.int16).reshape(12, 10, 4)
        part = "imagesTs" if key == "new" else "imagesTr"
        write_volume(folder / part / f"{key}_0000.nii.gz", Volume(image, AFFINE))
        if key != "new":
            numbers = np.zeros((12, 10, 4), np.uint16)
            numbers[1:4, 1:5, 1:3], numbers[4:7, 1:5, 1:3] = 1, 2
            write_volume(folder / "labelsTr" / f"{key}.nii.gz", Volume((numbers > 0).astype(np.uint8), AFFINE))
            write_volume(folder / "instancesTr" / f"{key}.nii.gz", Volume(numbers, AFFINE))
    entries = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "cell": 1, "ignore": 2}}
    (folder / "dataset.json").write_text(json.dumps({**entries, "file_ending": ".nii.gz"}))
    return Cohort.open(folder)


def corrected(cohort: Cohort, key: str) -> Volume:
    """The label with a third cell, a rim, and voxels that nobody looked at."""
    path = cohort.label_path(key)
    voxels = np.zeros((12, 10, 4), np.uint8) if path is None else read_volume(path).voxels.copy()
    voxels[1:7, 5, 1:3] = 1
    voxels[9:11, 7:9, 2] = 1
    voxels[0, 0, 0] = 2
    return Volume(voxels, AFFINE)


@pytest.mark.parametrize("key", ["a", "new"])
def test_a_corrected_case_is_checked_and_scored_with_its_objects(cohort, key, tmp_path):
    """`check` and `evaluate` failed it for want of a map, and another conversion made none."""
    replace_label(cohort.folder, key, corrected(cohort, key), [row(1, key)], channels=1)
    opened = Cohort.open(cohort.folder)
    assert inspect_cohort(opened).failed == {}
    numbers = read_volume(opened.instances_path(key)).voxels
    if key == "a":
        assert numbers[2, 5, 1] == numbers[2, 4, 1] == 1
        assert numbers[5, 5, 1] == numbers[5, 4, 1] == 2
        assert numbers[9, 7, 2] == 3
    predictions = tmp_path / "predictions"
    shutil.copytree(opened.folder / "labelsTr", predictions)
    found = {one.key: (one.error, one.reference_objects) for one in evaluate(predictions, opened, method=METHOD)}
    assert found == {"a": (None, 3 if key == "a" else 2), "b": (None, 2), **({} if key == "a" else {"new": (None, 2)})}


@pytest.mark.parametrize("key", ["a", "new"])
@pytest.mark.parametrize("undone", [False, True])
def test_a_kill_at_any_step_loses_no_map(cohort, key, undone, monkeypatch, tmp_path):
    replace_label(cohort.folder, key, corrected(cohort, key), [row(1, key)], channels=1)
    target = Cohort.open(cohort.folder).instances_path(key)
    new = target.read_bytes()
    if undone:
        undo_adoption(cohort.folder, key, 1)
    expected = target.read_bytes() if target.is_file() else None
    journal = cohort.folder / ".volseg" / "adopting.json"
    for _ in range(2):  # killed before the journal was removed
        journal.write_text(json.dumps({"key": key, "round": 1, "undo": undone}))
        finish_adoption(cohort.folder)
        assert (target.read_bytes() if target.is_file() else None) == expected
    assert expected != new or not undone
    if not undone:
        undo_adoption(cohort.folder, key, 1)
    assert inspect_cohort(Cohort.open(cohort.folder)).failed == {}
    assert target.is_file() is (key == "a")
