"""The grid of the slices that a case was converted from, and a label map on it: turned, resampled where need be."""

from __future__ import annotations

import numpy as np

from volseg.cohort import Cohort, read_dataset_json
from volseg.errors import CohortError, GeometryError
from volseg.labels import LabelMap
from volseg.volume import Affine, Grid, Volume, aligned, nearest_voxels, read_grid, spacing_mm

_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
# How far a voxel of the case may lie outside the centres of a prediction, in its voxels. Half a voxel is its own; of a
# coarser one, whose number of voxels was rounded, more may be absent. A whole slice of the case never is.
_MARGIN, _MARGIN_OF_COARSER = 0.5, 1.0
_ROUNDING = 0.01


def native_grid(cohort: Cohort, key: str) -> tuple[tuple[int, int, int], Affine]:
    """Shape and affine (RAS mm) of a case as [column, row, slice] of its slices, as `cases.csv` states them.

    The file in the cohort may have been turned since by another program; its axes are turned back.

    Raises:
        CohortError: There is no such case, or the cohort was not made from slices or was resampled since.
        VolumeError: An image cannot be read.
    """
    import nibabel.orientations as axes

    if read_dataset_json(cohort.folder).get("volseg", {}).get("source") != "uw_madison":
        raise CohortError(
            f"{cohort.folder} does not say that it was converted from UW-Madison slices, so their columns and rows "
            "are not known; convert them with `volseg convert uw_madison`"
        )
    path = cohort.image_paths(key)[0]
    shape, affine = read_grid(path)
    row = cohort.rows[key]
    now = axes.io_orientation(affine)
    turn = axes.ornt_transform(now, axes.axcodes2ornt(row.orientation, _LETTERS))
    turned = tuple(int(shape[axis]) for axis in np.argsort(turn[:, 0]))
    if turned != row.shape:
        told = " x ".join(map(str, row.shape))
        raise CohortError(f"{path.name} has no longer the {told} voxels of cases.csv; convert the case again", case=key)
    x, y, z = turned
    return (x, y, z), affine @ axes.inv_ornt_aff(turn, shape)


def on_grid(label: Volume, shape: tuple[int, int, int], affine_ras: Affine) -> tuple[LabelMap, bool]:
    """A label map on another grid, and whether it had to be resampled (`nearest_voxels`) or its axes turned at most.

    Args:
        label: Label map on any grid that covers the other one.
        shape: Shape of the grid to come to.
        affine_ras: Affine of that grid, RAS mm.

    Raises:
        GeometryError: The label map does not cover the grid.

    >>> label = Volume(np.array([1, 2], np.uint8).reshape(2, 1, 1), np.diag([2.0, 1, 1, 1]))
    >>> fine = np.diag([1.0, 1, 1, 1])
    >>> fine[0, 3] = -0.5
    >>> voxels, resampled = on_grid(label, (4, 1, 1), fine)
    >>> voxels.ravel().tolist(), resampled
    ([1, 1, 2, 2], True)
    """
    import nibabel.orientations as axes

    try:
        return aligned(label, Grid(shape, affine_ras))[0].voxels, False
    except GeometryError:  # another grid
        pass
    turn = axes.io_orientation(np.linalg.inv(affine_ras) @ label.affine_ras)
    turned = axes.apply_orientation(label.voxels, turn)
    turned_affine = label.affine_ras @ axes.inv_ornt_aff(turn, label.shape)
    _check_covered(turned.shape, turned_affine, shape, affine_ras)
    return nearest_voxels(turned, turned_affine, shape, affine_ras), True


def _check_covered(
    shape: tuple[int, int, int], affine_ras: Affine, target_shape: tuple[int, int, int], target_ras: Affine
) -> None:
    """Raise where a voxel of the target lies too far outside; the corners of each slice decide."""
    to_index = np.linalg.inv(affine_ras) @ target_ras
    last = np.array(shape)[:, None] - 1
    # A prediction that begins at the first centre of the case, with a rounded number of voxels, may have its last one
    # so far before that of the case.
    finer = np.array(spacing_mm(target_ras)) / np.array(spacing_mm(affine_ras))
    margin = np.clip(1.5 - finer, _MARGIN, _MARGIN_OF_COARSER)[:, None] + _ROUNDING
    i, j = (np.array(ends) for ends in ([0, target_shape[0] - 1] * 2, [0] * 2 + [target_shape[1] - 1] * 2))
    for z in range(target_shape[2]):
        index = (to_index @ np.stack([i, j, np.full_like(i, z), np.ones_like(i)]))[:3]
        outside = np.maximum(-index, index - last)
        if (outside > margin).any():
            raise GeometryError(
                f"the prediction does not cover the scan: slice {z + 1} reaches {outside.max():.3g} of its voxels "
                "beyond it; name predictions of whole scans, on any grid"
            )
