"""Affines and frames: laws of rotation, shift and flip, with ITK as oracle of the LPS frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from volseg.errors import GeometryError
from volseg.volume import check_affine, orientation, ras_to_lps, space_difference, spacing_mm
from volseg.volume.geometry import affine_lps_axes, same_space

spacings = st.tuples(*[st.floats(1e-4, 100)] * 3)
angles = st.tuples(*[st.floats(-180, 180)] * 3)
places = st.tuples(*[st.floats(-1000, 1000)] * 3)


def grid(spacing, angle=(0, 0, 0), place=(0, 0, 0)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angle, degrees=True).as_matrix() @ np.diag(spacing)
    affine[:3, 3] = place
    return affine


affines = st.builds(grid, spacings, angles, places)


@given(spacings, angles, places)
def test_spacing_survives_rotation_and_shift(spacing, angle, place):
    assert spacing_mm(grid(spacing, angle, place)) == pytest.approx(spacing)


@given(affines)
def test_ras_to_lps_is_its_own_inverse_and_keeps_the_spacing(affine):
    np.testing.assert_array_equal(ras_to_lps(ras_to_lps(affine)), affine)
    assert spacing_mm(ras_to_lps(affine)) == spacing_mm(affine)


@given(affines)
def test_any_size_of_voxel_is_accepted(affine):
    np.testing.assert_array_equal(check_affine(affine), affine)


@given(affines, affines, st.tuples(*[st.integers(1, 300)] * 3))
def test_same_space_is_symmetric_and_holds_for_itself(one, other, shape):
    assert same_space(shape, one, shape, one)
    assert same_space(shape, one, shape, other) == same_space(shape, other, shape, one)


@given(affines, st.tuples(*[st.integers(1, 300)] * 3), st.floats(0.021, 10), st.integers(0, 2))
def test_a_shift_is_judged_by_the_voxel_whatever_its_size(affine, shape, share, axis):
    moved = affine.copy()
    moved[:3, 3] += share * affine[:3, axis]
    assert not same_space(shape, affine, shape, moved)
    assert same_space(shape, affine, shape, moved, tolerance=share + 1e-3)
    moved[:3, 3] = affine[:3, 3] + 0.019 * affine[:3, axis]
    assert same_space(shape, affine, shape, moved)


def test_a_small_error_of_spacing_counts_by_what_it_moves_at_the_far_corner():
    # 0.0001 mm a voxel of 1 mm: 0.001 mm over 11 voxels, 0.027 mm over 271.
    a, b = np.diag([1.0, 1, 1, 1]), np.diag([1.0001, 1, 1, 1])
    assert same_space((11, 11, 11), a, (11, 11, 11), b)
    assert space_difference((271, 11, 11), a, (271, 11, 11), b) == (
        "a corner of the grid is 0.027 mm away (spacing 1 x 1 x 1 mm against 1 x 1 x 1 mm)"
    )
    # Of voxels of 0.01 mm, 0.001 mm is a tenth.
    small = np.diag([0.01, 0.01, 0.01, 1])
    shifted = small.copy()
    shifted[0, 3] = 0.001
    assert not same_space((11, 11, 11), small, (11, 11, 11), shifted)


def test_another_shape_is_told_as_such():
    assert space_difference((4, 4, 4), np.eye(4), (4, 4, 5), np.eye(4)) == "shape 4 x 4 x 4 against 4 x 4 x 5"


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.zeros((4, 4)), "last row"),
        (np.diag([0.0, 0, 0, 1]), "singular"),
        (np.diag([1.0, 1, 0, 1]), "singular"),
        (np.array([[1, 2, 3, 0], [1, 2, 3, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
        (np.diag([np.nan, 1, 1, 1]), "NaN"),
        (np.diag([np.inf, 1, 1, 1]), "beyond"),
        (np.diag([1e20, 1, 1, 1]), "beyond"),
        (np.eye(3), r"shape \(3, 3\)"),
    ],
)
def test_an_affine_that_maps_no_grid_is_refused(affine, message):
    with pytest.raises(GeometryError, match=message):
        check_affine(affine)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PIR", "SLA", "ARI"])
def test_the_orientation_names_where_each_axis_points(axes):
    world = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, letter in enumerate(axes):
        row, sign = world[letter]
        affine[row, column] = sign * (column + 1.5)
    assert orientation(affine) == axes
    assert spacing_mm(affine) == (1.5, 2.5, 3.5)


def test_an_axial_slice_runs_left_back_and_up():
    affine = affine_lps_axes((1.5, 2, 3))
    assert orientation(affine) == "LPS"
    np.testing.assert_array_equal(ras_to_lps(affine), np.diag([1.5, 2, 3, 1]))


def test_itk_finds_the_same_places_in_lps(tmp_path):
    import itk

    from volseg.volume import Volume, write_volume

    affine = grid((0.9, 1.2, 2.5), (10, -20, 30), (-12, 34, 56)).astype(np.float32)
    write_volume(tmp_path / "a.nii.gz", Volume(np.zeros((5, 6, 7), np.uint8), affine))
    image = itk.imread(str(tmp_path / "a.nii.gz"))
    index = np.array([3, 4, 5])
    place = np.array(image.TransformIndexToPhysicalPoint([int(i) for i in index]))
    np.testing.assert_allclose(place, (ras_to_lps(affine) @ [*index, 1])[:3], atol=1e-4)
    assert tuple(image.GetSpacing()) == pytest.approx(spacing_mm(affine), rel=1e-5)
