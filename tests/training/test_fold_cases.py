"""What is told of a fold's cases before a training: labels and images that nothing can be learnt from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from volseg.cohort import Cohort
from volseg.errors import CohortError, VolsegError
from volseg.labels import LabelTable
from volseg.training.checks import check_cases
from volseg.transforms import preprocessing
from volseg.volume import Volume, write_volume

KEYS = ("a", "b", "c", "d")
SHAPE = (24, 20, 16)


def box(value: int = 1, *, z: slice = slice(4, 12)) -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[6:16, 6:14, z] = value
    return label


def image(seed: int, label: np.ndarray) -> np.ndarray:
    return (np.random.default_rng(seed).normal(100, 20, SHAPE) + 30.0 * (label > 0)).astype(np.float32)


def cohort_of(
    folder: Path, labels: dict, images: dict | None = None, *, names=("organ",), mm=1.0, up: bool = True
) -> Cohort:
    """Four cases; `a` and `b` are trained on."""
    for number, key in enumerate(KEYS):
        label = labels.get(key, box())
        voxels = (images or {}).get(key, image(number, label))
        affine = np.diag([mm, mm, mm if up else -mm, 1.0])
        write_volume(folder / "imagesTr" / f"{key}_0000.nii.gz", Volume(voxels, affine))
        write_volume(folder / "labelsTr" / f"{key}.nii.gz", Volume(label, affine))
    dataset = {"channel_names": {"0": "MR"}, **LabelTable.exclusive(list(names)).to_dataset_json()}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "splits.json").write_text(json.dumps([{"training": KEYS[:2], "validation": KEYS[2:]}]))
    return Cohort.open(folder)


def told(cohort: Cohort, *, spacing_mm=(1.0, 1.0, 1.0), **options) -> list[str]:
    steps = preprocessing(cohort.labels, channels=1, spacing_mm=spacing_mm)
    return check_cases(cohort, fold=0, spacing_mm=spacing_mm, preprocessing=steps, **options)


EMPTY = np.zeros(SHAPE, np.uint8)


def test_nothing_is_told_of_cases_that_can_be_learnt(tmp_path):
    assert told(cohort_of(tmp_path, {})) == []


@pytest.mark.parametrize(("empty", "word"), [("cd", "validates nothing"), ("ab", "teaches nothing")])
def test_a_side_without_a_labelled_voxel_is_refused(tmp_path, empty, word):
    cohort = cohort_of(tmp_path, dict.fromkeys(empty, EMPTY))
    with pytest.raises(CohortError, match=f"fold 0 {word}: none of its 2 .* has a labelled voxel .*volseg split"):
        told(cohort)


def test_some_cases_without_a_labelled_voxel_are_named(tmp_path):
    [warning] = told(cohort_of(tmp_path, {"d": EMPTY}))
    assert "1 of 2 validation cases have no labelled voxel (d)" in warning
    assert told(cohort_of(tmp_path / "healthy", {"a": EMPTY})) == []  # half of the training cases: controls


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"c": box(2), "d": box(1)}, "small is in no training case of fold 0: a network cannot learn it"),
        ({"a": box(2)}, "small is in no validation case of fold 0: its Dice is undefined"),
    ],
)
def test_a_region_that_a_side_does_not_have(tmp_path, labels, expected):
    [warning] = told(cohort_of(tmp_path, labels, names=("organ", "small")))
    assert expected in warning


def test_a_region_too_thin_for_the_grid_is_named(tmp_path):
    thin = box()
    thin[2:4, 2:4, 7] = 2  # one slice, and two voxels wide
    labels = {"a": thin, "b": box(2), "c": box(2), "d": np.where(box(1, z=slice(0, 8)), 1, box(2))}
    cohort = cohort_of(tmp_path, labels, names=("organ", "lesion"))
    assert told(cohort) == []
    warnings = told(cohort, spacing_mm=(1.0, 1.0, 4.0))
    assert any("lesion has no voxel left on the network's grid of 1x1x4 mm in 1 case (a)" in one for one in warnings)


@pytest.mark.parametrize("up", [True, False], ids=["to the head", "to the feet"])
def test_a_thin_region_of_a_case_that_is_too_large_to_be_preprocessed_is_named(tmp_path, monkeypatch, up):
    monkeypatch.setattr("volseg.training.checks.images._MOST_SECONDS", 0.0)  # of one case
    spacing_mm = (1.0, 1.0, 3.5)
    for first in range(0, SHAPE[2], len(KEYS)):
        thin = {key: box(z=slice(0, 16)) for key in KEYS}
        for number, key in enumerate(KEYS):
            thin[key][2:4, 2:4, first + number] = 2
        cohort = cohort_of(tmp_path / str(first), thin, names=("organ", "lesion"), up=up)
        steps = preprocessing(cohort.labels, channels=1, spacing_mm=spacing_mm)
        items = {
            key: {"image": [str(cohort.image_paths(key)[0])], "label": str(cohort.label_path(key))} for key in KEYS
        }
        lost = {key for key, item in items.items() if not bool((steps({"key": key, **item})["label"] == 2).any())}
        warnings = [one for one in told(cohort, spacing_mm=spacing_mm) if "has no voxel left" in one]
        named = {key for key in KEYS for one in warnings if key in one.partition("(")[2].partition(")")[0]}
        assert named == lost


def test_constant_images(tmp_path):
    flat = np.full(SHAPE, 7, np.float32)
    dots = np.zeros(SHAPE, np.float32)
    dots[10, 10, 8:11] = 100  # 3 of 7680 voxels
    [whole, clipped] = told(cohort_of(tmp_path, {}, {"b": flat, "d": dots}))
    assert "the image of 1 case (b) has one value everywhere, so" in whole
    assert "the image of 1 case (d) has one value everywhere once clipped" in clipped
    with pytest.raises(CohortError, match=r"all 2 training images are constant .* \(a, b\)"):
        told(cohort_of(tmp_path / "all", {}, {"a": dots, "b": flat}))


def test_a_region_that_is_clipped_to_one_value_is_named(tmp_path):
    lesion = np.zeros(SHAPE, np.uint8)
    lesion[10:12, 10:12, 6:9] = 1  # 12 of 7680 voxels
    hot = image(1, EMPTY)
    hot[lesion > 0] = 900 + np.arange(12)
    hot[2:4, 2:6, 2:6] = 500  # 32 more
    outside = image(2, EMPTY)
    outside[:, :4] = outside.min()
    border = np.zeros(SHAPE, np.uint8)
    border[:, 1:3] = 1  # where the scanner saw nothing
    warnings = told(cohort_of(tmp_path, {"a": lesion, "c": border}, {"a": hot, "c": outside}))
    assert [one.split(":")[0] for one in warnings] == [
        "organ is clipped to one value in 1 case (a)",
        "organ lies where the image is empty, at its lowest value, in 1 case (c)",
    ]


def test_one_image_under_two_keys_and_a_batch_that_is_never_full(tmp_path):
    same = image(9, box())
    [batch, twice] = told(cohort_of(tmp_path, {}, {"b": same, "c": same}), batch_size=3)
    assert "--batch_size is 3 and fold 0 trains on 2 cases" in batch
    assert "1 validation cases are images that are trained on under another key (b = c)" in twice


def test_of_a_large_cohort_some_labels_are_read_and_it_says_so(tmp_path):
    cohort = cohort_of(tmp_path, {"c": EMPTY, "d": EMPTY})
    (tmp_path / "splits.json").write_text(json.dumps([{"training": ["a"], "validation": ["b", "c", "d"]}]))
    warnings = told(cohort, label_seconds=0.0, image_seconds=0.0)
    assert "3 of 4 labels were looked at before the start" in warnings[-1]


def test_a_label_that_cannot_be_read_is_told_with_its_key(tmp_path):
    cohort = cohort_of(tmp_path, {})
    (tmp_path / "labelsTr" / "b.nii.gz").write_bytes(b"")
    with pytest.raises(VolsegError, match=r"^b: "):
        told(cohort)
