"""The grid that images are worked on: as fine as they are, unless a window would show little of what is large."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from volseg.cohort import Cohort
from volseg.labels import LabelTable
from volseg.plan import fit_spacing
from volseg.plan.spacing import mean_width_px, narrowest_px
from volseg.volume import Volume, write_volume

SHAPE = (250, 300, 1)
COLUMN, ROW, _ = np.mgrid[:250, :300, :1]


def disc(column, row, diameter, *, long=1.0):
    return (COLUMN - column) ** 2 + ((ROW - row) / long) ** 2 <= (diameter / 2) ** 2


LUNGS = disc(70, 150, 80, long=2.5) | disc(180, 150, 80, long=2.5)
NUCLEI = np.zeros(SHAPE, bool)
for _column in range(20, 240, 30):
    for _row in range(20, 290, 30):
        NUCLEI |= disc(_column, _row, 12)


def cohort_of(folder, *masks, spacing_mm=(1.0, 1.0, 1.0), objects=False):
    """Three cases, in which each mask is a region."""
    labels = LabelTable.overlapping([f"region{number}" for number in range(len(masks))])
    label = sum((mask * 2**number for number, mask in enumerate(masks)), np.zeros(SHAPE, np.uint8)).astype(np.uint8)
    affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])  # as an image has it
    for key in "abc":
        write_volume(folder / "imagesTr" / f"{key}_0000.nii.gz", Volume(np.zeros(SHAPE, np.uint8), affine))
        write_volume(folder / "labelsTr" / f"{key}.nii.gz", Volume(label, affine))
        if objects:
            numbers = np.where(masks[0], 1 + COLUMN // 6, 0).astype(np.uint16)
            write_volume(folder / "instancesTr" / f"{key}.nii.gz", Volume(numbers, affine))
    dataset = {"channel_names": {"0": "grey"}, **labels.to_dataset_json(), "numTraining": 3, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return Cohort.open(folder)


def test_what_is_large_is_coarsened_until_a_window_shows_it_all(tmp_path):
    cohort = cohort_of(tmp_path, LUNGS)
    spacing = fit_spacing(cohort, voxels=150 * 150)
    assert spacing == pytest.approx([300 / 160, 300 / 160, 1.0], rel=1e-5)
    assert cohort.median_shape(spacing) == [133, 160, 1], "within 150 x 150 voxels, the longer side a multiple of 32"
    width = narrowest_px(cohort, list(cohort.rows.values()))
    assert 40 < width < 60
    # A smaller window shows less than all, rather than lungs of a few pixels.
    assert fit_spacing(cohort, voxels=50 * 50)[0] == pytest.approx(width / 16, rel=1e-5)


@pytest.mark.parametrize("masks", [[NUCLEI], [LUNGS, NUCLEI]])
def test_what_is_small_keeps_its_resolution(tmp_path, masks):
    assert fit_spacing(cohort_of(tmp_path, *masks), voxels=50 * 50) == [1, 1, 1]


def test_touching_objects_are_as_wide_as_each(tmp_path):
    cohort = cohort_of(tmp_path, LUNGS, objects=True)  # cut into strips of 6 pixels
    assert 4 < narrowest_px(cohort, list(cohort.rows.values())) < 8
    assert fit_spacing(cohort, voxels=50 * 50) == [1, 1, 1]


def test_an_image_not_much_larger_than_a_window_stays_and_so_does_its_exact_spacing(tmp_path):
    cohort = cohort_of(tmp_path, LUNGS, spacing_mm=(0.143, 0.143, 1.0))
    assert fit_spacing(cohort, voxels=225 * 225) == [0.143, 0.143, 1]
    fine = cohort_of(tmp_path / "fine", LUNGS, spacing_mm=(0.00025, 0.00025, 1.0))
    assert fit_spacing(fine, voxels=225 * 225) == [0.00025, 0.00025, 1]
    assert fine.median_spacing_mm() == [0.00025, 0.00025, 1]
    assert fine.median_shape([0.0005, 0.0005, 0.5]) == [125, 150, 1], "one slice is one on any grid"


def test_a_cohort_without_labels_and_empty_labels_keep_their_grid(tmp_path):
    empty = cohort_of(tmp_path / "empty", np.zeros(SHAPE, bool))
    assert fit_spacing(empty, voxels=50 * 50) == [1, 1, 1]
    bare = Cohort(empty.folder, empty.labels, empty.channel_names, empty.rows, frozenset())
    assert fit_spacing(bare, voxels=50 * 50) == [1, 1, 1]


def test_volumes_have_their_median(tiny_cohort):
    cohort = Cohort.open(tiny_cohort)
    assert fit_spacing(cohort, voxels=8) == cohort.median_spacing_mm() == [1.5, 1.5, 3]


def test_the_width_of_a_disc_is_half_its_diameter():
    for diameter in (20, 60, 120):
        assert mean_width_px(disc(125, 150, diameter)) == pytest.approx(diameter / 2, rel=0.06)
    whole = np.ones(SHAPE, bool)
    assert mean_width_px(whole) == pytest.approx(2 * 250 * 300 / (2 * (250 + 300)) * 4 / math.pi)
