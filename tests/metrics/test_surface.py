from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from volseg.errors import GeometryError, LabelError, UsageError
from volseg.metrics import READING_NOTES, READINGS, bounding_box, surface_distances
from volseg.metrics.surface import boundary, hausdorff_mm, mean_surface_distance_mm, surface_dice
from volseg.volume import read_volume

SPACINGS = st.tuples(*[st.sampled_from([0.5, 1.0, 1.5, 3, 2])] * 3)
PAIRS = array_shapes(min_dims=3, max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)


def directed_distances_mm(prediction, reference, spacing_mm):
    """Those of the prediction's boundary to the reference's, and back."""
    found = surface_distances(prediction, reference, spacing_mm)
    return found.from_prediction, found.from_reference


def monai_distances_mm(prediction, reference, spacing_mm):
    """MONAI's own directed distances, both ways."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from monai.metrics.utils import get_edge_surface_distance

        masks = [torch.from_numpy(np.ascontiguousarray(mask)) for mask in (prediction, reference)]
        spacing = tuple(float(step) for step in spacing_mm)  # MONAI refuses mixed int and float
        _, distances, _ = get_edge_surface_distance(*masks, spacing=spacing, symmetric=True)
    return [one.numpy().astype(np.float64) for one in distances]


def monai_hausdorff_mm(prediction, reference, spacing_mm, *, percentile=95.0):
    """MONAI's definition on MONAI's distances, the percentile in double precision."""
    return max(np.percentile(one, percentile) for one in monai_distances_mm(prediction, reference, spacing_mm))


def monai_as_it_is_mm(prediction, reference, spacing_mm, *, percentile=95.0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from monai.metrics import compute_hausdorff_distance

        masks = [torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (prediction, reference)]
        spacing = tuple(float(step) for step in spacing_mm)
        return float(
            compute_hausdorff_distance(*masks, include_background=True, percentile=percentile, spacing=spacing)
        )


def by_hand_boundary(mask):
    """Voxel by voxel: True where a face neighbour is outside the mask or the grid."""
    found = np.zeros_like(mask)
    for index in np.argwhere(mask):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            other = index.copy()
            other[axis] += step
            outside = not 0 <= other[axis] < mask.shape[axis]
            if outside or not mask[tuple(other)]:
                found[tuple(index)] = True
    return found


def by_hand_hausdorff_mm(prediction, reference, spacing_mm, percentile):
    """Every boundary voxel against every other."""
    points = [np.argwhere(by_hand_boundary(mask)) * np.array(spacing_mm, float) for mask in (prediction, reference)]
    between = np.sqrt(((points[0][:, None] - points[1][None]) ** 2).sum(axis=2))
    return max(np.percentile(between.min(axis=1), percentile), np.percentile(between.min(axis=0), percentile))


def ball(shape, centre, radius_mm, spacing_mm):
    grid = np.indices(shape, dtype=float)
    return sum(((grid[i] - centre[i]) * spacing_mm[i]) ** 2 for i in range(3)) <= radius_mm**2


def test_boundary_of_a_cube_by_hand():
    cube = np.zeros((5, 5, 5), bool)
    cube[1:4, 1:4, 1:4] = True
    shell = boundary(cube)
    assert shell.sum() == 26
    assert not shell[2, 2, 2]


def test_a_mask_at_the_edge_of_the_grid_has_its_boundary_there():
    assert boundary(np.ones((3, 3, 3), bool)).sum() == 26


@settings(deadline=None)
@given(arrays(bool, array_shapes(min_dims=1, max_dims=3, max_side=6)))
def test_boundary_equals_the_voxel_by_voxel_one(mask):
    before = mask.copy()
    assert np.array_equal(boundary(mask), by_hand_boundary(mask))
    assert np.array_equal(mask, before)


def test_bounding_box_by_hand():
    a, b = np.zeros((2, 6, 7, 8), bool)
    a[1, 2, 3], b[4, 2, 6] = True, True
    assert bounding_box(a, b) == (slice(1, 5), slice(2, 3), slice(3, 7))
    assert bounding_box(np.zeros((3, 3), bool)) == (slice(0, 0), slice(0, 0))


@pytest.mark.parametrize(
    ("shift", "spacing_mm", "expected"),
    [
        ((2, 0, 0), (1.5, 1, 1), 3.0),
        ((0, 1, 0), (1, 2.5, 1), 2.5),
        ((0, 3, 4), (1, 1, 1), 5.0),
        ((0, 0, 0), (1, 1, 1), 0),
    ],
)
def test_one_voxel_each_by_hand(shift, spacing_mm, expected):
    a, b = np.zeros((2, 6, 6, 6), bool)
    a[1, 1, 1] = True
    b[tuple(1 + step for step in shift)] = True
    assert hausdorff_mm(a, b, spacing_mm) == expected


def test_the_larger_directed_percentile_counts_not_the_pooled_one():
    # The prediction holds the reference (20 voxels in a row) and two islands 10 and 20 mm beyond its end. From the
    # prediction: 20 zeros, 10, 20; the 95th percentile lies at position 0.95 * 21 = 19.95 of 0..21: 9.5 mm. From the
    # reference: zeros. Pooled over 42 values, position 38.95: 0 mm.
    reference = np.zeros((60, 1, 1), bool)
    reference[:20] = True
    prediction = reference.copy()
    prediction[29] = prediction[39] = True
    assert hausdorff_mm(prediction, reference, (1, 1, 1)) == pytest.approx(9.5)
    assert hausdorff_mm(prediction, reference, (1, 1, 1), percentile=100) == 20
    assert hausdorff_mm(prediction, reference, (1, 1, 1), percentile=50) == 0


@settings(deadline=None)
@given(PAIRS, SPACINGS, st.sampled_from([0, 50, 95, 100]))
def test_hausdorff_equals_brute_force(pair, spacing_mm, percentile):
    value = hausdorff_mm(*pair, spacing_mm, percentile=percentile)
    if not (pair[0].any() and pair[1].any()):
        assert math.isnan(value)
        return
    assert value == pytest.approx(by_hand_hausdorff_mm(*pair, spacing_mm, percentile), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(PAIRS, SPACINGS)
def test_hausdorff_is_symmetric_and_blind_to_flips_axis_order_and_memory_layout(pair, spacing_mm):
    a, b = pair
    if not (a.any() and b.any()):
        return
    value = pytest.approx(hausdorff_mm(a, b, spacing_mm), abs=1e-9)
    assert hausdorff_mm(b, a, spacing_mm) == value
    for axis in range(3):
        assert hausdorff_mm(np.flip(a, axis), np.flip(b, axis), spacing_mm) == value
    for axes in itertools.permutations(range(3)):
        permuted = [spacing_mm[axis] for axis in axes]
        assert hausdorff_mm(a.transpose(axes), b.transpose(axes), permuted) == value
    assert hausdorff_mm(np.asfortranarray(a), b, spacing_mm) == value
    assert hausdorff_mm(np.pad(a, 2), np.pad(b, 2), spacing_mm) == value
    assert hausdorff_mm(a, b, [2 * step for step in spacing_mm]) == pytest.approx(2 * value.expected, abs=1e-9)
    assert hausdorff_mm(a, a, spacing_mm) == 0


@settings(max_examples=30, deadline=None)
@given(PAIRS, SPACINGS)
def test_hausdorff_equals_monai_on_random_masks(pair, spacing_mm):
    if not (pair[0].any() and pair[1].any()):
        return
    assert hausdorff_mm(*pair, spacing_mm) == pytest.approx(monai_hausdorff_mm(*pair, spacing_mm), rel=1e-6)
    whole = monai_as_it_is_mm(*pair, spacing_mm, percentile=None)
    assert hausdorff_mm(*pair, spacing_mm, percentile=100) == pytest.approx(whole, rel=1e-6)
    # torch.quantile finds the rank 0.95 * (n - 1) in float32, so MONAI's percentile is off by about n * 1e-7 of the
    # step between two neighbouring distances.
    assert hausdorff_mm(*pair, spacing_mm) == pytest.approx(monai_as_it_is_mm(*pair, spacing_mm), abs=1e-3)


@pytest.mark.parametrize("spacing_mm", [(1.5, 1.5, 3), (1, 1, 1), (0.7, 2, 5.0)])
def test_hausdorff_equals_monai_on_balls_with_false_islands(spacing_mm):
    shape = (40, 36, 24)
    reference = ball(shape, (18, 18, 12), 11, spacing_mm)
    prediction = ball(shape, (20, 17, 12), 10, spacing_mm)
    prediction |= np.random.default_rng(0).random(shape) < 0.003
    value = hausdorff_mm(prediction, reference, spacing_mm)
    assert value == pytest.approx(monai_hausdorff_mm(prediction, reference, spacing_mm), rel=1e-6)
    assert value == pytest.approx(monai_as_it_is_mm(prediction, reference, spacing_mm), rel=1e-4)
    ours, theirs = (
        distances(prediction, reference, spacing_mm) for distances in (directed_distances_mm, monai_distances_mm)
    )
    for one, other in zip(ours, theirs, strict=True):
        assert np.sort(one) == pytest.approx(np.sort(other), rel=1e-6)


def test_hausdorff_equals_monai_on_real_hippocampi(shared_data):
    files = sorted((shared_data / "Task04_Hippocampus" / "labelsTr").glob("[!.]*.nii.gz"))[:12]
    for one, other in itertools.pairwise(map(read_volume, files)):
        x, y, z = (min(sides) for sides in zip(one.shape, other.shape, strict=True))
        for value in (1, 2):
            a, b = (volume.voxels[:x, :y, :z] == value for volume in (one, other))
            ours = hausdorff_mm(a, b, (1.5, 1, 3))
            assert ours == pytest.approx(monai_hausdorff_mm(a, b, (1.5, 1, 3)), rel=1e-6)
            assert ours == pytest.approx(monai_as_it_is_mm(a, b, (1.5, 1, 3)), rel=1e-4)


def test_a_shift_of_a_real_hippocampus_is_at_most_its_length(shared_data):
    path = min((shared_data / "Task04_Hippocampus" / "labelsTr").glob("[!.]*.nii.gz"))
    mask = np.pad(read_volume(path).voxels == 1, 4)
    shifted = np.roll(mask, 3, axis=2)
    assert 0 < hausdorff_mm(mask, shifted, (1, 1, 2)) <= 6.0
    # The shifted image of a boundary voxel is one of the other boundary, so none is further than the shift.
    assert hausdorff_mm(mask, shifted, (1, 1, 2), percentile=100) <= 6.0


def test_spacing_of_mixed_types_which_monai_refuses():
    a, b = np.zeros((2, 5, 5, 5), bool)
    a[0, 0, 0] = b[0, 0, 2] = True
    for spacing_mm in [(1.5, 1.5, 3), [1, 1.0, np.float32(3)], np.array([1, 1, 3])]:
        assert hausdorff_mm(a, b, spacing_mm) == 6.0


@pytest.mark.parametrize(("a", "b"), [(0, 1), (1, 0), (0, 0)])
def test_an_empty_mask_has_no_distance(a, b):
    prediction, reference = np.full((3, 3, 3), bool(a)), np.full((3, 3, 3), bool(b))
    assert math.isnan(hausdorff_mm(prediction, reference, (1, 1, 1)))
    from_prediction, from_reference = directed_distances_mm(prediction, reference, (1, 1, 1))
    assert np.isnan(from_prediction).all()
    assert np.isnan(from_reference).all()
    assert (from_prediction.size, from_reference.size) == (26 * a, 26 * b)


def test_directed_distances_leave_the_masks_alone():
    a, b = np.random.default_rng(0).random((2, 6, 6, 6)) < 0.3
    before = a.copy(), b.copy()
    directed_distances_mm(a, b, (1, 1, 1))
    assert np.array_equal(a, before[0])
    assert np.array_equal(b, before[1])


def test_what_cannot_be_is_refused():
    mask = np.ones((3, 3, 3), bool)
    with pytest.raises(GeometryError, match="must have one shape"):
        hausdorff_mm(mask, mask[:2], (1, 1, 1))
    with pytest.raises(GeometryError, match="spacing"):
        hausdorff_mm(mask, mask, (1, 1))
    with pytest.raises(LabelError, match="bool"):
        hausdorff_mm(mask.astype(np.uint8), mask, (1, 1, 1))
    with pytest.raises(UsageError, match="percentile must be from 0 to 100, got 950"):
        hausdorff_mm(mask, mask, (1, 1, 1), percentile=950)


def monai_mean_and_dice(prediction, reference, spacing_mm, tolerance_mm):
    """MONAI's average symmetric surface distance and surface Dice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from monai.metrics import compute_average_surface_distance, compute_surface_dice

        masks = [torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (prediction, reference)]
        spacing = tuple(float(step) for step in spacing_mm)
        mean = compute_average_surface_distance(*masks, include_background=True, symmetric=True, spacing=spacing)
        share = compute_surface_dice(*masks, [tolerance_mm], include_background=True, spacing=spacing)
    return float(mean), float(share)


@settings(max_examples=30, deadline=None)
@given(PAIRS, SPACINGS, st.sampled_from([0.0, 0.9, 1.6, 3.1]))
def test_mean_distance_and_surface_dice_equal_monai_on_random_masks(pair, spacing_mm, tolerance_mm):
    # The tolerances lie between distances: MONAI's are float32, so one on the edge may fall on either side.
    if not (pair[0].any() and pair[1].any()):
        return
    mean, share = monai_mean_and_dice(*pair, spacing_mm, tolerance_mm)
    assert mean_surface_distance_mm(*pair, spacing_mm) == pytest.approx(mean, rel=1e-6)
    assert surface_dice(*pair, spacing_mm, tolerance_mm=tolerance_mm) == pytest.approx(share, rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(PAIRS, SPACINGS, st.sampled_from(READINGS))
def test_every_reading_is_symmetric_and_perfect_on_identical_masks(pair, spacing_mm, reading):
    there = surface_distances(*pair, spacing_mm, reading=reading)
    back = surface_distances(*pair[::-1], spacing_mm, reading=reading)
    for one, other in (
        (there.hausdorff_mm(), back.hausdorff_mm()),
        (there.hausdorff_mm(100), back.hausdorff_mm(100)),
        (there.mean_mm(), back.mean_mm()),
        (there.surface_dice(1.6), back.surface_dice(1.6)),
    ):
        assert one == pytest.approx(other, abs=1e-9, nan_ok=True)
    if pair[0].any():
        same = surface_distances(pair[0], pair[0], spacing_mm, reading=reading)
        assert (same.hausdorff_mm(100), same.mean_mm(), same.surface_dice(0)) == (0, 0, 1)


@settings(max_examples=30, deadline=None)
@given(PAIRS, SPACINGS, st.sampled_from(["directed", "pooled"]))
def test_mean_and_surface_dice_are_blind_to_flips_and_axis_order(pair, spacing_mm, reading):
    def values(a, b, spacing):
        found = surface_distances(a, b, spacing, reading=reading)
        return pytest.approx([found.hausdorff_mm(), found.mean_mm(), found.surface_dice(1.6)], abs=1e-9, nan_ok=True)

    expected = values(*pair, spacing_mm)
    for axis in range(3):
        assert values(*(np.flip(mask, axis) for mask in pair), spacing_mm).expected == expected
    for axes in ((1, 2, 0), (0, 2, 1)):
        permuted = [spacing_mm[axis] for axis in axes]
        assert values(*(mask.transpose(axes) for mask in pair), permuted).expected == expected


def test_pooled_takes_one_percentile_of_both_directions():
    # The masks of the test above: pooled over 42 values, the 95th percentile lies at position 38.95, among the zeros.
    reference = np.zeros((60, 1, 1), bool)
    reference[:20] = True
    prediction = reference.copy()
    prediction[29] = prediction[39] = True
    assert hausdorff_mm(prediction, reference, (1, 1, 1), reading="pooled") == 0
    assert hausdorff_mm(prediction, reference, (1, 1, 1), reading="pooled", percentile=100) == 20
    both = np.concatenate(directed_distances_mm(prediction, reference, (1, 1, 1)))
    assert hausdorff_mm(prediction, reference, (1, 1, 1), reading="pooled", percentile=97) == np.percentile(both, 97)


def test_surface_dice_by_hand():
    # Two plates 2 mm apart: no voxel within 1.9 mm, all within 2 mm (the tolerance itself counts).
    a, b = np.zeros((2, 4, 5, 5), bool)
    a[0], b[1] = True, True
    assert surface_dice(a, b, (2, 1, 1), tolerance_mm=1.9) == 0
    assert surface_dice(a, b, (2, 1, 1), tolerance_mm=2) == 1
    half = a.copy()
    half[3, 0, 0] = True  # one island 4 mm from plate b: 50 of 51 voxels are near
    assert surface_dice(half, b, (2, 1, 1), tolerance_mm=2) == pytest.approx(50 / 51)


@pytest.mark.parametrize(("a", "b", "expected"), [(0, 1, 0.0), (1, 0, 0.0), (0, 0, math.nan)])
@pytest.mark.parametrize("reading", READINGS)
def test_emptiness_in_every_reading(a, b, expected, reading):
    found = surface_distances(np.full((3, 3, 3), bool(a)), np.full((3, 3, 3), bool(b)), (1, 1, 1), reading=reading)
    assert found.surface_dice(1) == pytest.approx(expected, nan_ok=True)
    assert math.isnan(found.hausdorff_mm())
    assert math.isnan(found.mean_mm())


def test_far_masks_are_left_to_the_tree_and_near_ones_to_the_shells():
    # Islands at every distance from the plate, near and far: all equal to their distance along X.
    plate = np.zeros((80, 9, 9), bool)
    plate[0] = True
    for far in range(1, 80):
        other = np.zeros_like(plate)
        other[far, 4, 4] = True
        from_other, _ = directed_distances_mm(other, plate, (1.5, 1.5, 3))
        assert from_other == pytest.approx([1.5 * far])


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (1.5, 1.5, 3), (0.2, 0.2, 9), (50, 0.1, 1)])
def test_shells_and_tree_equal_scipys_distance_transform(spacing_mm):
    from scipy import ndimage

    generator = np.random.default_rng(1)
    a = ball((30, 24, 20), (14, 12, 9), 8 * min(spacing_mm[:2]), spacing_mm) | (generator.random((30, 24, 20)) < 0.002)
    b = ball((30, 24, 20), (17, 11, 10), 7 * min(spacing_mm[:2]), spacing_mm) | (generator.random((30, 24, 20)) < 0.002)
    for one, other, found in zip((a, b), (b, a), directed_distances_mm(a, b, spacing_mm), strict=True):
        to_other = ndimage.distance_transform_edt(~boundary(other), sampling=spacing_mm)
        assert np.sort(found) == pytest.approx(np.sort(to_other[boundary(one)]), rel=1e-9)


def test_readings_are_named_and_others_refused():
    mask = np.ones((3, 3, 3), bool)
    assert set(READING_NOTES) == set(READINGS)
    with pytest.raises(UsageError, match="directed, pooled, surfel"):
        surface_distances(mask, mask, (1, 1, 1), reading="nearest")
    with pytest.raises(UsageError, match="three axes"):
        surface_distances(mask[None], mask[None], (1, 1, 1, 1), reading="surfel")
    with pytest.raises(UsageError, match="tolerance"):
        surface_dice(mask, mask, (1, 1, 1), tolerance_mm=-1)
    with pytest.raises(UsageError, match="tolerance"):
        surface_dice(mask, mask, (1, 1, 1), tolerance_mm=math.nan)


@pytest.mark.parametrize(("name", "value"), [("mr", 6), ("mr", 13), ("mr", 15), ("ct", 6)])
def test_every_measure_equals_monai_and_scipy_on_a_real_abdomen(shared_data, name, value):
    """An organ against itself moved, worn away on one side and with an island: stomach, small bowel, colon."""
    from scipy import ndimage

    volume = read_volume(shared_data / "abdomen" / f"{name}_labels.nii.gz")
    reference = volume.voxels == value
    prediction = np.roll(ndimage.binary_opening(reference, iterations=1), (2, -1, 1), axis=(0, 1, 2))
    prediction[1:3, 1:3, 1:3] = True
    spacing_mm = volume.spacing_mm
    found = surface_distances(prediction, reference, spacing_mm)
    theirs = monai_distances_mm(prediction, reference, spacing_mm)
    for one, other in zip((found.from_prediction, found.from_reference), theirs, strict=True):
        assert np.sort(one) == pytest.approx(np.sort(other), rel=1e-6)
    mean, share = monai_mean_and_dice(prediction, reference, spacing_mm, 3.1)
    assert (found.mean_mm(), found.surface_dice(3.1)) == (pytest.approx(mean, rel=1e-6), pytest.approx(share, rel=1e-6))
    to_reference = ndimage.distance_transform_edt(~boundary(reference), sampling=spacing_mm)
    assert found.hausdorff_mm(100) >= np.sort(to_reference[boundary(prediction)])[-1] - 1e-9
    assert np.sort(found.from_prediction) == pytest.approx(np.sort(to_reference[boundary(prediction)]), rel=1e-9)
