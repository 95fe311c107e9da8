"""What `check` tells of scans that stand twice, and of folds that name a case twice or validate none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from volseg.cohort import Cohort, inspect_cohort
from volseg.errors import CohortError
from volseg.volume import Volume, read_volume, write_volume


def warnings(folder: Path) -> tuple[str, ...]:
    return inspect_cohort(Cohort.open(folder)).warnings


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Cases a to d of two channels, each with images of its own."""
    rng = np.random.default_rng(0)
    for key in "abcd":
        for channel in range(2):
            voxels = rng.integers(0, 900, (6, 5, 4)).astype(np.int16)
            write_volume(tmp_path / f"imagesTr/{key}_000{channel}.nii.gz", Volume(voxels, np.diag([1.0, 1, 2, 1])))
        label = Volume(np.ones((6, 5, 4), np.uint8), np.diag([1.0, 1, 2, 1]))
        write_volume(tmp_path / f"labelsTr/{key}.nii.gz", label)
    content = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "liver": 1},
        "file_ending": ".nii.gz",
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    return tmp_path


def copied(cohort: Path, one: str, other: str, channel: int) -> Path:
    path = cohort / f"imagesTr/{other}_000{channel}.nii.gz"
    shutil.copy(cohort / f"imagesTr/{one}_000{channel}.nii.gz", path)
    return path


def test_a_scan_under_two_keys_is_told(cohort: Path) -> None:
    """Whatever its header, its type of number and its compression are: the voxels decide."""
    assert warnings(cohort) == ()
    copied(cohort, "a", "c", 0)
    assert warnings(cohort) == (), "another second channel"
    path = copied(cohort, "a", "c", 1)
    image = read_volume(path)
    write_volume(path, Volume(image.voxels, np.diag([1.0, 1, 2.001, 1])))
    (told,) = [line for line in warnings(cohort) if "same voxels" in line]
    assert told.startswith("the images of a, c hold the same voxels")


def test_empty_images_are_no_scans(cohort: Path) -> None:
    nothing = Volume(np.zeros((6, 5, 4), np.int16), np.diag([1.0, 1, 2, 1]))
    for key in "ab":
        for channel in range(2):
            write_volume(cohort / f"imagesTr/{key}_000{channel}.nii.gz", nothing)
    assert not any("same voxels" in line for line in warnings(cohort))


def test_folds_that_were_written_by_hand_are_looked_at(cohort: Path) -> None:
    folds = [{"train": ["a", "a", "b"], "val": ["c", "c", "d"]}, {"train": ["a", "b", "c", "d"], "val": []}]
    (cohort / "splits.json").write_text(json.dumps(folds))
    assert warnings(cohort) == (
        "fold 0 names a more than once, and trains on it as often",
        "fold 0 names c more than once, and validates it as often",
        "fold 1 validates no case",
    )
    (cohort / "splits.json").write_text(json.dumps([{"train": ["a", 2], "val": ["c"]}]))
    with pytest.raises(CohortError, match=r"must name cases by their keys, got 2; write each key as a text"):
        Cohort.open(cohort).folds()
