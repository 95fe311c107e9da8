"""Deformable alignment: known motions are applied to the right place, kept, and found again where elastix is there."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.ndimage import zoom
from textured_body import textured_body

import volseg.volume.deformation as module
from volseg.errors import UsageError
from volseg.volume import Deformation, Grid, Registration, Volume, deform, elastix_is_installed, resampled
from volseg.volume.deformation import jacobian

SAME = Registration(tuple(map(tuple, np.eye(4).tolist())), 0.9, 1.0, 1.0, 0.1)
AFFINES = {
    "as stored": np.diag([4.0, 4, 5, 1]),
    "turned": np.array([[0.0, -4, 0, 60], [4, 0, 0, -20], [0, 0, -5, 90], [0, 0, 0, 1]]),
}


@pytest.fixture(scope="module")
def body():
    return textured_body().astype(np.float32)


def smooth_motion(shape, mm, seed=0):
    coarse = np.random.default_rng(seed).uniform(-mm, mm, (3, 4, 4, 4))
    return np.stack([zoom(one, np.array(shape) / 4, order=3) for one in coarse]).astype(np.float32)


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("rigid_mm", [0.0, 12.0])
def test_a_uniform_motion_is_along_the_axes_of_the_grid_whatever_its_directions(body, name, rigid_mm):
    """What is wanted at a voxel lies two voxels further along the second axis, in the rigidly aligned image."""
    affine = AFFINES[name]
    grid = Grid(body.shape, affine)
    matrix = np.eye(4)
    matrix[:3, 3] = rigid_mm * affine[:3, 1] / 4
    rigid = Registration(tuple(map(tuple, matrix.tolist())), 0.9, 1.0, 1.0, 0.1)
    motion = np.zeros((3, *body.shape), np.float32)
    motion[1] = 8.0
    found = Deformation(rigid, grid, motion, (0.5, 0.6), (3, 2), 1.0).bent(Volume(body, affine), grid)
    steps = round((8 + rigid_mm) / 4)
    np.testing.assert_allclose(found[:, :-steps], body[:, steps:], atol=1e-5)
    coarse = Grid(tuple(n // 2 for n in body.shape), affine @ np.diag([2.0, 2, 2, 1]))
    again = Deformation(rigid, grid, motion, (0.5, 0.6), (3, 2), 1.0).bent(Volume(body, affine), coarse, labels=True)
    np.testing.assert_array_equal(again, found[::2, ::2, ::2])


def test_it_comes_back_from_its_file_to_a_hundredth_of_a_mm_and_a_damaged_one_is_told(body, tmp_path):
    motion = smooth_motion(body.shape, 14)
    written = Deformation(SAME, Grid(body.shape, AFFINES["turned"]), motion, (0.5, 0.75), (3.0, 1.5), 2.0, "it folds")
    written.write(tmp_path / "a" / "one.npz")
    found = Deformation.read(tmp_path / "a" / "one.npz")
    np.testing.assert_allclose(found.motion_mm, motion, atol=0.0051)
    assert (found.ncc, found.residual_mm, found.failure) == ((0.5, 0.75), (3.0, 1.5), "it folds")
    assert found.registration == SAME
    assert not found.grid.difference(written.grid)
    (tmp_path / "half.npz").write_bytes((tmp_path / "a" / "one.npz").read_bytes()[:300])
    with pytest.raises((OSError, ValueError)):
        Deformation.read(tmp_path / "half.npz")


def folding(shape):
    motion = np.zeros((3, *shape), np.float32)
    motion[0] = -2.0 * 4 * np.arange(shape[0])[:, None, None]  # turned round along the first axis
    return motion


@pytest.mark.parametrize(
    ("motion", "reason"),
    [
        (folding, "folds at 100%"),
        (lambda shape: smooth_motion(shape, 40, seed=3), "gains nothing|folds"),
        (None, "elastix: no room"),
    ],
)
def test_what_folds_or_gains_nothing_or_stops_has_failed_and_moves_nothing(body, monkeypatch, motion, reason):
    def elastix(fixed, moving, spacing_mm):
        if motion is None:
            raise RuntimeError("somewhere in ITK:\nno room")
        return motion(fixed.shape)

    monkeypatch.setattr(module, "_elastix", elastix)
    monkeypatch.setattr(module, "elastix_is_installed", lambda: True)
    image = Volume(body, AFFINES["as stored"])
    found = deform(image, image, SAME)
    assert re.search(reason, found.failure)
    assert not found.motion_mm.any()


def test_a_change_of_volume_is_the_jacobian():
    grid = Grid((8, 8, 8), AFFINES["as stored"])
    motion = np.zeros((3, 8, 8, 8), np.float32)
    motion[2] = -0.25 * 5 * np.arange(8)
    assert jacobian(motion, grid) == pytest.approx(np.full(grid.shape, 0.75))


def test_without_elastix_it_says_what_to_install(body, monkeypatch):
    monkeypatch.setattr(module, "elastix_is_installed", lambda: False)
    image = Volume(body, AFFINES["as stored"])
    with pytest.raises(UsageError, match=r"needs itk-elastix: pip install 'volseg\[elastix\]'"):
        deform(image, image, SAME)


@pytest.mark.slow
@pytest.mark.skipif(not elastix_is_installed(), reason="itk-elastix is not installed")
@pytest.mark.parametrize("name", AFFINES)
def test_elastix_finds_a_known_motion(body, name, tmp_path, monkeypatch):
    """Of 6 mm and more; on the grid of the fixed image, whichever way its axes run; and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    affine = AFFINES[name]
    image = Volume(body, affine)
    true = Deformation(SAME, image.grid, smooth_motion(body.shape, 10), (0, 1), (0, 0), 0.0)
    fixed = Volume(true.bent(image, image.grid), affine)
    found = deform(fixed, image, SAME)
    assert not list(tmp_path.iterdir())
    assert not found.failure
    assert found.ncc[1] > 0.9 > found.ncc[0]
    assert found.residual_mm[1] < found.residual_mm[0]
    there = resampled(Volume(body, affine), found.grid)[0].voxels > 0.3
    at = tuple(slice(0, n) for n in found.motion_mm.shape[1:])
    if found.motion_mm.shape[1:] == body.shape:
        left = np.linalg.norm(found.motion_mm - true.motion_mm[(slice(None), *at)], axis=0)[there]
        assert np.median(left) < 0.5 * np.median(np.linalg.norm(true.motion_mm, axis=0)[there])
