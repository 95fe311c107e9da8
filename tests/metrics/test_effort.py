from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from volseg.errors import GeometryError, LabelError, UsageError
from volseg.metrics import POINT_RULES, added_path_length_mm, correction_effort, slices_to_correct, time_saved
from volseg.metrics.effort import PointRule

PAIRS = array_shapes(min_dims=3, max_dims=3, max_side=7).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)
TOLERANCES = st.sampled_from([0.0, 1.0, 1.5, 2.9])


def contour(mask):
    """scipy's: a pixel that erosion by the cross removes."""
    return mask & ~ndimage.binary_erosion(mask)


def far(one, other, spacing_mm, tolerance_mm):
    """The contour pixels of one slice further than the tolerance from the other's, by scipy's distance transform."""
    if not contour(other).any():
        return int(contour(one).sum())
    return int(
        (ndimage.distance_transform_edt(~contour(other), sampling=spacing_mm)[contour(one)] > tolerance_mm).sum()
    )


def slices(prediction, reference):
    return [(prediction[..., z], reference[..., z]) for z in range(prediction.shape[2])]


@settings(max_examples=60, deadline=None)
@given(PAIRS, TOLERANCES)
def test_path_and_slices_equal_the_slice_by_slice_ones(pair, tolerance_mm):
    spacing = (1.2, 0.8, 3.0)
    pixels = sum(far(r, p, spacing[:2], tolerance_mm) for p, r in slices(*pair))
    wrong = [far(r, p, spacing[:2], tolerance_mm) + far(p, r, spacing[:2], tolerance_mm) for p, r in slices(*pair)]
    path_mm = added_path_length_mm(*pair, spacing, tolerance_mm=tolerance_mm)
    assert path_mm == pytest.approx(pixels * math.sqrt(1.2 * 0.8))
    assert slices_to_correct(*pair, spacing, tolerance_mm=tolerance_mm) == np.count_nonzero(wrong)


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_effort_is_nothing_on_identical_masks_and_blind_to_flips_and_the_name_of_the_slice_axis(pair):
    prediction, reference = pair
    assert added_path_length_mm(reference, reference, (1, 1, 3)) == 0
    assert slices_to_correct(reference, reference, (1, 1, 3)) == 0
    path, count = added_path_length_mm(*pair, (1, 2, 3)), slices_to_correct(*pair, (1, 2, 3))
    assert slices_to_correct(reference, prediction, (1, 2, 3)) == count
    for axis in range(3):
        flipped = [np.flip(mask, axis) for mask in pair]
        assert added_path_length_mm(*flipped, (1, 2, 3)) == path
        assert slices_to_correct(*flipped, (1, 2, 3)) == count
    moved = [np.moveaxis(mask, 2, 0) for mask in pair]
    assert added_path_length_mm(*moved, (3, 1, 2), slice_axis=0) == path
    assert slices_to_correct(*moved, (3, 1, 2), slice_axis=0) == count


def test_missed_costs_the_whole_contour_and_invented_none():
    square = np.zeros((6, 6, 2), bool)
    square[1:5, 1:5] = True  # 12 contour pixels a slice
    nothing = np.zeros_like(square)
    assert added_path_length_mm(nothing, square, (1.5, 1.5, 3)) == 2 * 12 * 1.5
    assert added_path_length_mm(square, nothing, (1.5, 1.5, 3)) == 0
    assert slices_to_correct(nothing, square, (1.5, 1.5, 3)) == slices_to_correct(square, nothing, (1.5, 1.5, 3)) == 2
    assert added_path_length_mm(nothing, nothing, (1, 1, 1)) == slices_to_correct(nothing, nothing, (1, 1, 1)) == 0


def test_points_of_the_coursework_by_hand():
    # Large bowel: +5 above 0.80, else -2. Small bowel: +3 above 0.70, else -3. Stomach: +2 above 0.85, else -4.
    assert dict(POINT_RULES) == {
        "large_bowel": PointRule(0.80, 5, -2),
        "small_bowel": PointRule(0.70, 3, -3),
        "stomach": PointRule(0.85, 2, -4),
    }
    prediction, reference = np.zeros((2, 10, 1, 5), bool)
    reference[:, 0, :4] = True
    prediction[:, 0, 0] = True  # Dice 1
    prediction[:6, 0, 1] = True  # Dice 2 * 6 / 16 = 0.75
    prediction[:5, 0, 2] = True  # Dice 10 / 15 = 0.667
    # slice 3 missed; slice 4 empty in both
    found = {name: time_saved(prediction, reference, rule) for name, rule in POINT_RULES.items()}
    assert found["large_bowel"].points == pytest.approx((5 - 2 - 2 - 2 + 5) / 5)
    assert found["small_bowel"].points == pytest.approx((3 + 3 - 3 - 3 + 3) / 5)
    assert found["stomach"].points == pytest.approx((2 - 4 - 4 - 4 + 2) / 5)
    assert [saved.from_empty for saved in found.values()] == [1.0, 0.6, 0.4]
    assert {(saved.slices, saved.empty) for saved in found.values()} == {(5, 1)}


def test_a_dice_on_the_threshold_fails():
    prediction, reference = np.zeros((2, 5, 1, 1), bool)
    prediction[:4, 0, 0] = reference[1:5, 0, 0] = True  # 2 * 3 / 8 = 0.75
    assert time_saved(prediction, reference, PointRule(0.75, 1, -1)).points == -1
    assert time_saved(prediction, reference, PointRule(0.74, 1, -1)).points == 1


def test_slices_beyond_the_crop_are_empty_and_pass():
    ones = np.ones((2, 2, 3), bool)
    saved = time_saved(~ones, ones, POINT_RULES["stomach"], slices=144)
    assert saved.points == pytest.approx((3 * -4 + 141 * 2) / 144)
    assert saved.from_empty == pytest.approx(141 * 2 / 144)  # nearly the whole score of a missed stomach


def test_what_cannot_be_is_refused():
    mask = np.ones((3, 3, 3), bool)
    with pytest.raises(UsageError, match="at least the 3 of the masks, got 2"):
        time_saved(mask, mask, POINT_RULES["stomach"], slices=2)
    for function in (added_path_length_mm, slices_to_correct):
        with pytest.raises(GeometryError, match="spacing"):
            function(mask, mask, (1, 1, math.nan))
        with pytest.raises(GeometryError, match="must have one shape"):
            function(mask, mask[:2], (1, 1, 1))
        with pytest.raises(LabelError):
            function(mask, mask.astype(np.uint8), (1, 1, 1))
        with pytest.raises(UsageError, match="tolerance"):
            function(mask, mask, (1, 1, 1), tolerance_mm=-1)


@settings(max_examples=40, deadline=None)
@given(PAIRS, TOLERANCES, st.sampled_from([None, 0.0, 1.3, 5.0]))
def test_effort_at_once_is_each_measure_alone(pair, tolerance_mm, path_tolerance_mm):
    spacing = (1.2, 0.8, 3.0)
    found = correction_effort(*pair, spacing, tolerance_mm=tolerance_mm, path_tolerance_mm=path_tolerance_mm)
    taken = 3.0 if path_tolerance_mm is None else path_tolerance_mm
    assert found.path_tolerance_mm == taken
    assert found.added_path_mm == added_path_length_mm(*pair, spacing)
    assert found.tolerant_path_mm == added_path_length_mm(*pair, spacing, tolerance_mm=taken) <= found.added_path_mm
    assert found.slices == slices_to_correct(*pair, spacing, tolerance_mm=tolerance_mm)


def test_the_tolerance_is_a_pixel_where_pixels_are_larger_whatever_the_slices_are():
    truth = np.zeros((12, 12, 4), bool)
    truth[2:8, 2:8] = True
    for axis, spacing in ((2, (4.0, 4.0, 9.0)), (2, (4.0, 4.0, 1.0)), (0, (9.0, 4.0, 4.0))):
        mask = np.moveaxis(truth, 2, axis)
        moved = np.roll(mask, 1, axis=1)
        found = correction_effort(moved, mask, spacing, tolerance_mm=3, slice_axis=axis)
        assert found.path_tolerance_mm == 4
        assert found.tolerant_path_mm == 0 < found.added_path_mm
    strict = correction_effort(np.roll(truth, 1, axis=1), truth, (4, 4, 9), tolerance_mm=3, path_tolerance_mm=3)
    assert strict.tolerant_path_mm == strict.added_path_mm
    with pytest.raises(UsageError, match="tolerance must be 0 mm or more, got -1"):
        correction_effort(truth, truth, (4, 4, 9), tolerance_mm=3, path_tolerance_mm=-1)


@pytest.mark.parametrize("tolerance_mm", [0.3, 1.2, 1.5])
def test_a_search_tree_finds_the_same_contour_as_offsets_one_by_one(tolerance_mm, monkeypatch):
    rng = np.random.default_rng(5)
    for axis in range(3):
        one, other = (rng.random((2, 9, 8, 7)) < 0.3).astype(bool)
        other.swapaxes(0, axis)[1] = False  # a slice with one of them alone
        settings_of_both = {"tolerance_mm": tolerance_mm, "path_tolerance_mm": tolerance_mm, "slice_axis": axis}
        by_offsets = correction_effort(one, other, (0.3, 0.4, 0.5), **settings_of_both)
        with monkeypatch.context() as patch:
            patch.setattr("volseg.metrics.lattice._OFFSETS_WITHIN", 1)
            assert correction_effort(one, other, (0.3, 0.4, 0.5), **settings_of_both) == by_offsets


def test_pixels_of_micrometres_take_no_more_memory_than_others():
    """A tolerance of 3 mm is 750 pixels of 4 micrometres: 2,250,000 offsets, and a margin of as many pixels."""
    one, other = np.zeros((2, 40, 40, 1), bool)
    one[4:20, 4:20], other[8:30, 8:30] = True, True
    correction_effort(one, other, (0.004, 0.004, 1), tolerance_mm=1)  # which imports what is needed
    tracemalloc.start()
    near = correction_effort(one, other, (0.004, 0.004, 1), tolerance_mm=3)
    missed = correction_effort(np.zeros_like(other), other, (0.004, 0.004, 1), tolerance_mm=3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (near.tolerant_path_mm, near.slices) == (0, 0)
    assert missed.tolerant_path_mm == missed.added_path_mm == pytest.approx(84 * 0.004)
    assert missed.slices == 1
    assert peak < 2**20
