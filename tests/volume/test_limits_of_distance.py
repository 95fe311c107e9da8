"""A distance or a size equal to a limit is within it, though files keep spacings in 32 bits or with six digits."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.labels import Cleanup, LabelTable
from volseg.metrics import added_path_length_mm, match_objects, slices_to_correct, surface_distances
from volseg.volume import Crop, spacing_mm
from volseg.volume.crop import grown


def rotated(degrees, spacing=(1.0, 1.0, 1.0)):
    """The spacing of a tilted grid whose affine went through 32 bits."""
    t, u = np.radians(degrees), np.radians(degrees / 3)
    one = np.array([[1, 0, 0], [0, np.cos(t), -np.sin(t)], [0, np.sin(t), np.cos(t)]])
    other = np.array([[np.cos(u), 0, np.sin(u)], [0, 1, 0], [-np.sin(u), 0, np.cos(u)]])
    affine = np.eye(4, dtype=np.float32)
    affine[:3, :3] = one @ other * np.array(spacing)
    return spacing_mm(affine.astype(np.float64))


def short_by_three():
    """A block, and the same without its first three layers along the first axis."""
    reference = np.zeros((30, 20, 12), bool)
    reference[5:25, 5:15, 3:9] = True
    prediction = reference.copy()
    prediction[5:8] = False
    return prediction, reference


SPACINGS = [rotated(degrees) for degrees in (0, 1, 2, 3, 4, 5, 7, 10)] + [
    tuple(float(np.float32(mm)) for mm in (1, 1, 1.2)),
    (1.0000005, 1, 1),  # six digits
]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("reading", ["directed", "pooled", "surfel"])
def test_a_distance_of_the_tolerance_is_within_it(spacing, reading):
    distances = surface_distances(*short_by_three(), spacing, reading=reading)
    assert distances.surface_dice(3.0) == 1
    assert distances.surface_dice(2.999) < 1


@pytest.mark.parametrize("spacing", SPACINGS)
def test_so_it_is_in_the_effort(spacing):
    pair = short_by_three()
    assert slices_to_correct(*pair, spacing, tolerance_mm=3.0, slice_axis=2) == 0
    assert slices_to_correct(*pair, spacing, tolerance_mm=2.999, slice_axis=2) == 6
    assert added_path_length_mm(*pair, spacing, tolerance_mm=3.0, slice_axis=2) == 0
    assert added_path_length_mm(*pair, spacing, tolerance_mm=2.999, slice_axis=2) > 0


@pytest.mark.parametrize(("step", "tolerance_mm"), [(0.1, 0.3), (0.2, 0.6), (0.7, 2.1), (1 / 3, 1.0), (2 / 3, 2.0)])
def test_three_steps_are_within_a_tolerance_of_three_steps(step, tolerance_mm):
    prediction, reference = np.zeros((2, 9, 9, 9), bool)
    prediction[:, :, 0] = reference[:, :, 3] = True
    for mm in (step, float(np.float32(step)), round(step, 6)):
        assert surface_distances(prediction, reference, (1, 1, mm)).surface_dice(tolerance_mm) == 1


def test_diagonals_are_distances_too():
    prediction, reference = np.zeros((2, 9, 9, 1), bool)
    prediction[0, 0] = reference[3, 4] = True
    spacing = rotated(7)
    assert surface_distances(prediction, reference, spacing).surface_dice(5.0) == 1
    assert surface_distances(prediction, reference, spacing).surface_dice(4.9999) == 0


@pytest.mark.parametrize("hundredths", range(50, 100))
def test_an_overlap_of_the_threshold_is_no_match_whatever_the_threshold(hundredths):
    """0.57 * 100 is 56.99..., so that 57 of 100 voxels passed for more."""
    reference = np.ones((1, 100), bool)
    prediction = np.arange(100)[None] < hundredths
    assert match_objects(prediction, reference, iou_threshold=hundredths / 100).matched == 0
    assert match_objects(prediction, reference, iou_threshold=max(0.5, hundredths / 100 - 0.001)).matched == (
        hundredths > 50
    )


@pytest.mark.parametrize("degrees", [0, 1, 2, 3, 5, 7, 10])
def test_a_part_of_the_smallest_size_stays(degrees):
    label = np.zeros((12, 12, 12), np.uint8)
    label[1:11, 1:11, 1:11] = 1
    table = LabelTable.exclusive(["a"])
    voxel_ml = float(np.prod(rotated(degrees, (0.8, 0.8, 2.5)))) / 1000
    whole_ml = 1000 * 0.8 * 0.8 * 2.5 / 1000
    assert Cleanup(min_ml={"a": whole_ml}).apply(label, table, voxel_ml=voxel_ml).any()
    assert not Cleanup(min_ml={"a": whole_ml * 1.001}).apply(label, table, voxel_ml=voxel_ml).any()


@pytest.mark.parametrize("degrees", [0, 1, 2, 3, 5, 7, 10])
def test_a_margin_of_whole_voxels_is_so_many(degrees):
    """At 100 mm the rounding of 32 bits is above a millionth of a millimetre."""
    line = np.arange(250).reshape(250, 1, 1) == 120
    spacing = rotated(degrees)
    assert grown(line, spacing_mm=spacing, margin_mm=100).sum() == 201
    crop = Crop.around(line, spacing_mm=spacing, margin_mm=100)
    assert (crop.starts[0], crop.stops[0]) == (20, 221)
