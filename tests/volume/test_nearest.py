"""Label maps on other grids: a slice made twice as fine becomes two slices, whichever way the axes run."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from volseg.formats.slice_grid import on_grid
from volseg.labels import LabelTable
from volseg.training.losses import nearest
from volseg.transforms import OnGridOfd, preprocessing
from volseg.volume import Volume, nearest_voxels, write_volume

SLICES = LabelTable.exclusive([f"s{number}" for number in range(1, 9)])
TURNS = [np.array([[a, s] for a, s in zip(order, signs, strict=True)]) for order in permutations(range(3))
         for signs in product((1, -1), repeat=3)]  # fmt: skip


def stored(voxels, affine, turn):
    """The same volume with its axes in another order and direction."""
    turned = np.ascontiguousarray(nib.orientations.apply_orientation(voxels, turn))
    return turned, affine @ nib.orientations.inv_ornt_aff(turn, voxels.shape)


def counted(axis=2, sides=(5, 6), count=9):
    """A label map whose slice k along an axis holds k."""
    shape = list(sides)
    shape.insert(axis, count)
    return (
        np.moveaxis(np.broadcast_to(np.arange(count, dtype=np.uint8), (*sides, count)), 2, axis).reshape(shape).copy()
    )


def target(folder, label, affine, spacing, key="k"):
    """What training makes of a label file."""
    write_volume(folder / f"{key}_0000.nii.gz", Volume(label.astype(np.int16), affine))
    write_volume(folder / f"{key}.nii.gz", Volume(label, affine))
    steps = preprocessing(SLICES, channels=1, spacing_mm=spacing)
    item = steps({"key": key, "image": [str(folder / f"{key}_0000.nii.gz")], "label": str(folder / f"{key}.nii.gz")})
    assert item["label"].shape == item["image"].shape
    assert np.allclose(item["label"].affine, item["image"].affine)
    return item["label"].numpy()[0]


def thickness(values, inner=range(1, 8)):
    return [int((values == k).sum()) for k in inner]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("factor", "expected"), [(2, {2}), (3, {3}), (4, {4}), (6, {6}), (1.5, {1, 2}), (1, {1})])
def test_slices_made_finer_are_equally_thick(tmp_path, axis, factor, expected):
    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = 6.0
    fine = list(spacing)
    fine[axis] = 6.0 / factor
    found = target(tmp_path, counted(axis), np.diag([*spacing, 1.0]), fine)
    line = np.moveaxis(found, axis, 0)[:, 0, 0]
    assert set(thickness(line)) == expected
    assert (np.diff(line.astype(int)) >= 0).all()
    if factor == 1.5:
        assert thickness(line) == [2, 1, 2, 1, 2, 1, 2]


@pytest.mark.parametrize("factor", [2, 3, 4, 1.5, 0.5, 0.4])
def test_the_target_does_not_depend_on_how_the_file_stores_its_axes(tmp_path, factor):
    rng = np.random.default_rng(0)
    label, affine = rng.integers(0, 9, (7, 8, 9), dtype=np.uint8), np.diag([2.0, 2.0, 2.0, 1.0])
    spacing = [2 / factor] * 3
    expected = target(tmp_path, label, affine, spacing)
    for number, turn in enumerate(TURNS[::5]):
        assert np.array_equal(target(tmp_path, *stored(label, affine, turn), spacing, key=f"k{number}"), expected)


@pytest.mark.parametrize("spacing", [(2.0000001, 2, 2), tuple(float(np.float32(mm)) for mm in (1.4, 1.4, 2.8))])
def test_rounded_spacings_are_halves_too(tmp_path, spacing):
    for axis in range(3):
        label = counted(axis, (4, 4), 200) % 9
        found = target(tmp_path, label, np.diag([*spacing, 1.0]), [round(mm, 3) / 2 for mm in spacing])
        line = np.moveaxis(found, axis, 0)[:, 0, 0].astype(int)
        runs = np.diff(np.flatnonzero(np.diff(line)))
        assert set(runs.tolist()) == {2}


def oblique(degrees, spacing):
    t, u = np.radians(degrees), np.radians(degrees / 2)
    one = np.array([[1, 0, 0], [0, np.cos(t), -np.sin(t)], [0, np.sin(t), np.cos(t)]])
    other = np.array([[np.cos(u), -np.sin(u), 0], [np.sin(u), np.cos(u), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = one @ other * np.array(spacing), (11, -7, 40)
    return affine


@pytest.mark.parametrize("degrees", [5, 20, 60])
def test_an_oblique_scan_is_made_finer_along_its_own_axes(tmp_path, degrees):
    found = target(tmp_path, counted(), oblique(degrees, (1, 1, 5)), [1, 1, 2.5])
    lines = {axis: np.moveaxis(found, axis, 0)[:, 1, 1] for axis in range(3)}
    along = max(lines, key=lambda axis: len(set(lines[axis].tolist())))  # where the slices have come to lie
    if degrees < 60:
        assert set(thickness(lines[along])) == {2}
    else:  # by then the slices run along Y, whose voxels become 2.5 times as large
        assert along == 1


@pytest.mark.parametrize("turn", TURNS[::5])
def test_a_grid_that_runs_aslant_takes_the_nearest_as_scipy_does(turn):
    """The oracle for places that are no ties."""
    rng = np.random.default_rng(3)
    label = rng.integers(0, 9, (12, 13, 14), dtype=np.uint8)
    source, goal = oblique(13, (1.1, 0.9, 2.3)), oblique(31, (0.7, 1.3, 1.9))
    label, source = stored(label, source, turn)
    middle = source @ [*(np.array(label.shape) / 2), 1]
    goal[:3, 3] = middle[:3] - goal[:3, :3] @ (7, 5, 4)
    found = nearest_voxels(label, source, (15, 11, 9), goal)
    matrix = np.linalg.inv(source) @ goal
    theirs = ndimage.affine_transform(
        label, matrix[:3, :3], matrix[:3, 3], output_shape=(15, 11, 9), order=0, mode="constant", cval=99
    )
    inside = theirs != 99
    assert inside.mean() > 0.5
    at = (matrix @ [*np.indices(found.shape).reshape(3, -1), np.ones(found.size)])[:3]
    tie = (np.abs(at % 1 - 0.5) < 2e-3).any(axis=0).reshape(found.shape)  # of two that are equally near
    assert np.array_equal(found[inside & ~tie], theirs[inside & ~tie])
    assert tie.mean() < 0.02


@pytest.mark.parametrize("aslant", [0.0, 0.01])
def test_ties_go_to_the_right_front_and_head_on_aslant_grids_too(aslant):
    """Both ways of computing, the axis-by-axis one and that of grids that run aslant, decide ties alike."""
    label = counted(axis=0, sides=(3, 3), count=8)
    source, goal = np.diag([2.0, 1, 1, 1]), np.diag([1.0, 1, 1, 1])
    goal[1, 0] = aslant
    expected = nearest_voxels(label, source, (14, 3, 3), goal)
    assert expected[:, 1, 1].tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7]
    for turn in TURNS:
        assert np.array_equal(nearest_voxels(*stored(label, source, turn), (14, 3, 3), goal), expected)
        turned_goal = stored(np.zeros((14, 3, 3)), goal, turn)[1]
        shape = tuple(np.array((14, 3, 3))[np.argsort(turn[:, 0])])
        found = nearest_voxels(label, source, shape, turned_goal)
        assert np.array_equal(found, stored(expected, goal, turn)[0])


@pytest.mark.parametrize("axes", TURNS[::7])
def test_a_coarser_prediction_on_the_grid_of_its_slices(axes):
    """Export's way: a label map of 5 mm on slices of 2.5 mm that begin in the same plane."""
    label, coarse = counted(count=8), np.diag([1.0, 1.0, 5.0, 1.0])
    shape, fine = (5, 6, 15), np.diag([1.0, 1.0, 2.5, 1.0])
    found, resampled = on_grid(Volume(*stored(label, coarse, axes)), shape, fine)
    assert resampled
    assert found[2, 2].tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_targets_of_smaller_outputs_are_taken_at_equal_steps(axis):
    label = torch.from_numpy(counted(axis, (4, 4), 16))[None, None]
    shape = [n // 2 if i == axis else n for i, n in enumerate(label.shape[2:])]
    line = nearest(label, shape).movedim(2 + axis, 0)[:, 0, 0, 0, 0].tolist()
    assert np.diff(line).tolist() == [2] * 7


def test_the_grid_of_an_image_leaves_other_items_and_the_type(tmp_path):
    from monai.data import MetaTensor

    label = MetaTensor(torch.from_numpy(counted())[None], affine=torch.eye(4, dtype=torch.float64))
    image = MetaTensor(torch.zeros(1, 5, 6, 17), affine=torch.diag(torch.tensor([1, 1, 0.5, 1], dtype=torch.float64)))
    item = {"image": image, "label": label, "key": "k"}
    found = OnGridOfd("label")(item)
    assert found["label"].dtype == torch.uint8
    assert found["image"] is image
    assert item["label"] is label
    assert np.array_equal(found["label"].affine, image.affine)
    assert label.affine[2, 2] == 1  # the argument stays as it was
