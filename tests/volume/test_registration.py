"""Rigid alignment: known motions come back, and what cannot be aligned says so."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from textured_body import textured_body

from volseg.volume import Grid, Registration, Volume, nearest_voxels, placed, read_volume, register, resampled


def motion(degrees, mm, centre, axis=(1, 2, 3)):
    """A rotation about a point, then a shift."""
    found = np.eye(4)
    found[:3, :3] = Rotation.from_rotvec(np.deg2rad(degrees) * np.array(axis) / np.linalg.norm(axis)).as_matrix()
    found[:3, 3] = centre - found[:3, :3] @ centre + mm
    return found


def middle(volume):
    return np.asarray(volume.affine_ras)[:3] @ np.array([*(np.array(volume.shape) - 1) / 2, 1])


def moved_copy(volume, true, *, margin=4):
    """The volume after a motion, resampled to a grid of its own with other voxels and field of view."""
    start = np.eye(4)
    start[:3, 3] = -3, -2, -1.5
    grid = Grid(tuple(n + margin for n in volume.shape), np.asarray(volume.affine_ras) @ start)
    return resampled(Volume(volume.voxels.astype(np.float32), true @ np.asarray(volume.affine_ras)), grid)[0]


def errors(found, true, volume):
    """Distance in mm at the middle of the volume, and angle in degrees."""
    at = middle(volume)
    apart = found.matrix[:3, :3] @ at + found.matrix[:3, 3] - true[:3, :3] @ at - true[:3, 3]
    turn = Rotation.from_matrix(found.matrix[:3, :3] @ true[:3, :3].T).magnitude()
    return float(np.linalg.norm(apart)), float(np.degrees(turn))


@pytest.fixture(scope="module")
def body():
    return Volume(textured_body() * 900, np.diag([-4.0, -4, -5, 1]))


@pytest.mark.parametrize(("degrees", "mm"), [(0, (0, 0, 0)), (4, (55, -12, 10)), (-6, (-30, 25, -12))])
def test_known_motions_come_back(body, degrees, mm):
    true = motion(degrees, mm, middle(body))
    found = register(body, moved_copy(body, true))
    far, angle = errors(found, true, body)
    assert not found.failure
    assert far < 1
    assert angle < 1
    assert found.residual_mm < 2


def test_other_axes_spacings_and_contrast_make_no_difference(body):
    true = motion(3, (20, -10, 8), middle(body))
    moved = moved_copy(body, true)
    voxels = np.ascontiguousarray(moved.voxels.transpose(2, 0, 1)[::-1, :, ::2]) ** 1.0 * 3 + 50
    affine = np.asarray(moved.affine_ras)
    columns = np.column_stack([-affine[:, 2], affine[:, 0], 2 * affine[:, 1], affine @ [0, 0, moved.shape[2] - 1, 1]])
    far, angle = errors(register(body, Volume(voxels, columns)), true, body)
    assert far < 1
    assert angle < 1


def test_the_inverse_leads_back_and_labels_land_where_the_image_does(body):
    true = motion(5, (16, 8, -5), middle(body))
    moved = moved_copy(body, true)
    found = register(body, moved)
    assert np.allclose(found.matrix @ found.inverse.matrix, np.eye(4), atol=1e-9)
    label = Volume((moved.voxels > 100).astype(np.uint8), moved.affine_ras)
    there = placed(label, found)
    copied = nearest_voxels(there.voxels, there.affine_ras, body.shape, np.asarray(body.affine_ras))
    here = body.voxels > 100
    assert 2 * (copied & here).sum() / (copied.sum() + here.sum()) > 0.95
    assert Registration.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("moving", "reason"),
    [
        (np.zeros((20, 20, 20)), "one value everywhere"),
        (np.random.default_rng(0).normal(size=(40, 36, 26)) * 900, "correlate by|share"),
        (np.ones((30, 30, 1)), "one slice"),
    ],
)
def test_what_cannot_be_aligned_is_a_failure_and_never_placed(body, moving, reason):
    import re

    found = register(body, Volume(moving, np.diag([4.0, 4, 5, 1])))
    assert re.search(reason, found.failure)
    assert np.array_equal(found.matrix, np.eye(4))
    with pytest.raises(ValueError, match="alignment has failed"):
        placed(body, found)


def test_a_slab_far_away_shares_too_little(body):
    slab = Volume(body.voxels[:, :, :4], body.affine_ras)
    found = register(body, slab)
    assert found.failure or found.overlap >= 0.4


def test_more_misalignment_is_more_residual(body):
    from volseg.volume.registration_steps import Level, residual_mm

    levels = Level.of(body, 4.0), Level.of(body, 4.0)
    left = [residual_mm(motion(0, (mm, 0, 0), np.zeros(3)), *levels) for mm in (0, 3, 8)]
    assert left[0] < 0.01 < left[1] < left[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "degrees", "mm"),
    [("mr", -8, (-50, 25, -12)), ("mr", 5, (30, -20, 10)), ("ct", -8, (-50, 25, -12)), ("ct", 5, (30, -20, 10))],
)
def test_real_abdomens_come_back(shared_data, name, degrees, mm):
    volume = read_volume(shared_data / "abdomen" / f"{name}.nii.gz")
    true = motion(degrees, mm, middle(volume))
    found = register(volume, moved_copy(volume, true, margin=12))
    far, angle = errors(found, true, volume)
    assert far < 1
    assert angle < 1


def test_real_hippocampi_come_back(shared_data):
    for path in sorted((shared_data / "Task04_Hippocampus" / "imagesTr").glob("hippocampus_*.nii.gz"))[:2]:
        volume = read_volume(path)
        true = motion(6, (-5, 3, 3), middle(volume))
        far, angle = errors(register(volume, moved_copy(volume, true)), true, volume)
        assert far < 1
        assert angle < 1
