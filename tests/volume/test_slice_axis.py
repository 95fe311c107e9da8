"""The slice axis: largest spacing, else axial, in whatever order and direction the axes of the file run."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from volseg.evaluation.region import score_region
from volseg.evaluation.scores import EvaluationSettings
from volseg.labels import LabelTable
from volseg.metrics import added_path_length_mm, count_contours, slices_to_correct, widest_axis
from volseg.pictures.case import ReviewCase
from volseg.pictures.case_picture import draw_case
from volseg.volume import Volume, slice_axis

TURNS = [np.array([[a, s] for a, s in zip(order, signs, strict=True)]) for order in permutations(range(3))
         for signs in product((1, -1), repeat=3)]  # fmt: skip


def stored(voxels, affine, turn):
    """The same volume with its axes in another order and direction: nibabel's way."""
    turned = nib.orientations.apply_orientation(voxels, turn)
    return turned, affine @ nib.orientations.inv_ornt_aff(turn, voxels.shape)


def tilted(spacing, degrees, axis=0):
    t = np.radians(degrees)
    one, other = [i for i in range(3) if i != axis]
    turn = np.eye(3)
    turn[one, one] = turn[other, other] = np.cos(t)
    turn[one, other], turn[other, one] = -np.sin(t), np.sin(t)
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    return affine


@pytest.mark.parametrize(
    ("affine", "shape", "expected"),
    [
        (np.diag([0.8, 0.8, 3, 1]), (60, 60, 20), 2),
        (np.diag([3, 0.9, 0.9, 1]), (20, 60, 60), 0),  # a sagittal MR
        (np.diag([0.9, 5, 0.9, 1]), (60, 20, 60), 1),  # a coronal one
        (np.diag([0.8, 0.8, 0.5, 1]), (60, 60, 90), 2),  # a thin-slice CT: no axis is the thickest alone
        (np.eye(4), (60, 60, 60), 2),
        (np.diag([1.00000002, 1, 1, 1]), (60, 60, 60), 2),  # 32 bits
        (np.diag([0.9766, 0.9766, 0.9765625, 1]), (60, 60, 60), 2),  # few digits
        (np.eye(4), (1, 60, 60), 0),  # a single plane
        (np.diag([1, 1, 5, 1]), (60, 1, 60), 1),  # beyond any spacing
        (np.diag([1, 5, 1, 1]), (60, 1, 1), 1),  # several: the same rule among them
        (np.diag([1, 1, 1, 1]), (1, 1, 1), 2),
        (tilted((0.9, 0.9, 0.9), 30), (60, 60, 60), 2),
        (tilted((0.9, 0.9, 0.9), 60), (60, 60, 60), 1),  # by then the second axis is nearer to the head
        (tilted((0.9, 0.9, 0.9), 45), (60, 60, 60), 2),  # equally near: the last
        (tilted((0.9, 0.9, 4), 80), (60, 60, 20), 2),
    ],
)
def test_which_axis_counts_the_slices(affine, shape, expected):
    assert slice_axis(affine, shape) == expected


@pytest.mark.parametrize(
    "affine",
    [np.diag([0.8, 0.8, 3, 1]), np.diag([0.8, 0.8, 0.5, 1]), np.eye(4), tilted((1, 1, 1), 20), tilted((1, 2, 1), 9)],
)
def test_it_is_the_same_line_in_space_however_the_file_stores_it(affine):
    shape = (6, 7, 8)
    axis = slice_axis(affine, shape)
    for turn in TURNS:
        _, turned = stored(np.zeros(shape, bool), affine, turn)
        found = slice_axis(turned, tuple(np.array(shape)[np.argsort(turn[:, 0])]))
        assert found == turn[axis, 0]


def test_without_an_affine_the_largest_spacing_decides_too():
    for spacing in ((3, 1, 1), (1, 3, 1), (1, 1, 3), (1, 1, 1), (0.8, 0.8, 0.5), (1.00000002, 1, 1)):
        assert widest_axis(spacing) == slice_axis(np.diag([*spacing, 1]))
    assert widest_axis((2, 1)) == 0


def pair():
    reference = np.zeros((30, 30, 20), bool)
    reference[5:20, 5:20, 5:15] = True
    reference[10:12, 10:12, 8] = False
    prediction = reference.copy()
    prediction[:, :, 5:8] = False
    return prediction, reference


@pytest.mark.parametrize("spacing", [(0.8, 0.8, 3.0), (0.8, 0.8, 0.5)])
def test_all_that_is_counted_in_slices_is_the_same_however_the_file_stores_it(spacing):
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    rows = set()
    for turn in TURNS:
        (guess, turned), (truth, _) = (stored(mask, affine, turn) for mask in pair())
        row = score_region(
            "a", "a", "stomach", guess, truth, image_shape=truth.shape, method=EvaluationSettings(objects=True),
            spacing_mm=tuple(np.abs(turned[:3, :3]).max(axis=0)), slices_along=slice_axis(turned, truth.shape),
        )  # fmt: skip
        rows.add((round(row.added_path_length_mm, 6), row.slices_to_correct, round(row.time_saved, 6),
                  row.reference_contours, row.predicted_contours))  # fmt: skip
    # 3 slices missed of 10: their 56 contour pixels of 0.8 mm each; of 20 slices 17 give 2 points and 3 give -4.
    assert rows == {(134.4, 3, 1.1, 11, 8)}


def test_metrics_alone_take_the_axis_of_largest_spacing():
    prediction, reference = (np.moveaxis(mask, 2, 0) for mask in pair())
    assert slices_to_correct(prediction, reference, (3, 0.8, 0.8)) == 3
    assert added_path_length_mm(prediction, reference, (3, 0.8, 0.8)) == pytest.approx(3 * 56 * 0.8)
    assert count_contours(reference, slice_axis=0) == 11


@pytest.mark.parametrize(("spacing", "plane"), [((3, 1, 1), "sagittal"), ((1, 3, 1), "coronal"), ((1, 1, 3), "axial"),
                                                ((0.8, 0.8, 0.5), "axial"), ((1.2, 1, 1), "axial")])  # fmt: skip
def test_the_picture_of_a_case_shows_its_slices(spacing, plane):
    label = np.zeros((9, 9, 9), np.uint8)
    label[3:6, 3:6, 3:6] = 1
    for turn in TURNS[::7]:
        voxels, affine = stored(label, np.diag([*spacing, 1.0]), turn)
        volume = Volume(voxels, affine)
        scene = ReviewCase(
            key="a", image=volume, channel="CT", reference=volume, prediction=volume, labels=LabelTable.exclusive(["x"])
        )
        assert draw_case(scene).plane == plane
