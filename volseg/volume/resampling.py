"""Linear resampling: the values of one grid at the voxels of another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.volume.volume import Grid, Volume

_ROUNDING = 1e-6  # voxels


def resampled(volume: Volume, grid: Grid) -> tuple[Volume, float]:
    """Resample an image to another grid, linearly between voxel centres.

    Beyond the outermost centres the edge is continued for half a voxel; what lies further outside gets the least value
    of the volume. Nothing is smoothed before, so a grid that is much coarser takes single voxels.

    Args:
        volume: Image.
        grid: Grid to resample to.

    Returns:
        The image on the grid (float32), and the share of the grid's voxels that lie within the old image, 0 to 1.

    >>> volume = Volume(np.array([0.0, 1.0, 2.0], np.float32).reshape(3, 1, 1), np.diag([2.0, 1, 1, 1]))
    >>> found, share = resampled(volume, Grid((6, 1, 1), np.diag([1.0, 1, 1, 1])))
    >>> found.voxels.ravel().tolist(), share
    ([0.0, 0.5, 1.0, 1.5, 2.0, 2.0], 1.0)
    """
    from scipy.ndimage import affine_transform

    matrix = np.linalg.inv(np.asarray(volume.affine_ras)) @ np.asarray(grid.affine_ras)
    values = np.ascontiguousarray(volume.voxels, dtype=np.float32)
    found = affine_transform(values, matrix[:3, :3], matrix[:3, 3], tuple(grid.shape), order=1, mode="nearest")
    within = covered(volume.grid, grid)
    found[~within] = values.min()
    return Volume(np.asarray(found, dtype=np.float32), grid.affine_ras), float(within.mean())


def sampled(
    volume: Volume, points_ras: NDArray[np.float32], *, nearest: bool = False
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The values of a volume at points anywhere.

    Args:
        volume: Image or label map.
        points_ras: Points (3, X, Y, Z) in RAS mm.
        nearest: Whether each point takes the nearest value, of the volume's own type; else it is linear (float32).

    Returns:
        Values (X, Y, Z), beyond the volume those of its edge; and the mask (X, Y, Z) of the points that lie within it,
        whose outermost voxels reach half a voxel beyond their centres.

    >>> volume = Volume(np.array([0.0, 1.0, 2.0], np.float32).reshape(3, 1, 1), np.diag([2.0, 1, 1, 1]))
    >>> values, within = sampled(volume, np.array([[1.0, 4.5, 9.0], [0, 0, 0], [0, 0, 0]]).reshape(3, 3, 1, 1))
    >>> values.ravel().tolist(), within.ravel().tolist()
    ([0.5, 2.0, 2.0], [True, True, False])
    """
    from scipy.ndimage import map_coordinates

    inverse = np.linalg.inv(np.asarray(volume.affine_ras))
    voxels = np.ascontiguousarray(volume.voxels, dtype=None if nearest else np.float32)
    values = np.empty(points_ras.shape[1:], voxels.dtype)
    within = np.empty(points_ras.shape[1:], dtype=bool)
    ends = np.array(volume.shape, dtype=np.float64)[:, None, None] - 0.5 + _ROUNDING
    for x in range(points_ras.shape[1]):  # (3, Y, Z) at a time, so that little memory is needed
        index = np.tensordot(inverse[:3, :3], points_ras[:, x].astype(np.float64), 1) + inverse[:3, 3][:, None, None]
        values[x] = map_coordinates(voxels, index, order=0 if nearest else 1, mode="nearest")
        within[x] = ((index >= -0.5 - _ROUNDING) & (index <= ends)).all(axis=0)
    return values, within


def covered(old: Grid, grid: Grid) -> NDArray[np.bool_]:
    """Which voxels of a grid lie within another one, whose outermost voxels reach half a voxel beyond their centres.

    >>> covered(Grid((2, 1, 1), np.eye(4)), Grid((4, 1, 1), np.eye(4))).ravel().tolist()
    [True, True, False, False]
    """
    matrix = np.linalg.inv(np.asarray(old.affine_ras)) @ np.asarray(grid.affine_ras)
    within = np.ones(tuple(grid.shape), dtype=bool)
    x, y = np.meshgrid(np.arange(grid.shape[0]), np.arange(grid.shape[1]), indexing="ij")
    for z in range(grid.shape[2]):
        for axis, count in enumerate(old.shape):
            along = matrix[axis, 0] * x + matrix[axis, 1] * y + matrix[axis, 2] * z + matrix[axis, 3]
            within[:, :, z] &= (along >= -0.5 - _ROUNDING) & (along <= count - 0.5 + _ROUNDING)
    return within
