"""Nearest voxels: the values of one grid on another, where each new voxel takes that of the nearest old one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from volseg.volume.geometry import Affine

_T = TypeVar("_T", bound=np.generic)

# Difference of distances, as a fraction of a voxel, below which two old voxels are equally near.
_SAME = 1e-3


def nearest_voxels(voxels: NDArray[_T], affine_ras: Affine, shape: Sequence[int], to_affine_ras: Affine) -> NDArray[_T]:
    """Resample a label map to another grid: each new voxel takes the value of the nearest old one.

    If two old voxels are equally near, as for every second new voxel of a grid that is made twice as fine, it takes the
    one further to the patient's right, front or head (R, A, S), along each axis. So a slice becomes two slices, never
    three and one as with halves rounded to even, and the result does not depend on the directions of the axes of either
    file. Beyond the old grid the values of its edge are continued.

    Args:
        voxels: Label map (X, Y, Z) of any type.
        affine_ras: Affine of the label map, RAS mm.
        shape: Shape of the new grid.
        to_affine_ras: Affine of the new grid, RAS mm.

    Returns:
        Array of `shape` with the type of `voxels`.

    >>> label = np.array([1, 2, 3], np.uint8).reshape(3, 1, 1)
    >>> nearest_voxels(label, np.diag([2.0, 1, 1, 1]), (6, 1, 1), np.diag([1.0, 1, 1, 1])).ravel().tolist()
    [1, 2, 2, 3, 3, 3]
    """
    # Matrix from the index of a new voxel to that of the old grid, in which halves are decided.
    matrix = np.linalg.inv(affine_ras) @ to_affine_ras
    upwards = towards_ras(affine_ras)
    axes = _axes_along(matrix, shape)
    if axes is not None:
        # new axis j runs along old axis axes[j]
        places = [matrix[axes[j], j] * np.arange(shape[j]) + matrix[axes[j], 3] for j in range(3)]
        for j, at in enumerate(places):
            taken = nearest_index(at, voxels.shape[axes[j]], upwards=upwards[axes[j]])
            if not np.array_equal(taken, np.arange(voxels.shape[axes[j]])):
                voxels = voxels.take(taken, axis=axes[j])
        return np.ascontiguousarray(voxels.transpose(axes))
    found = np.empty(tuple(shape), voxels.dtype)
    rows, slices = np.meshgrid(np.arange(shape[1]), np.arange(shape[2]), indexing="ij")
    for x in range(shape[0]):
        index = []
        for old in range(3):
            at = matrix[old, 0] * x + matrix[old, 1] * rows + matrix[old, 2] * slices + matrix[old, 3]
            index.append(nearest_index(at, voxels.shape[old], upwards=upwards[old]))
        found[x] = voxels[tuple(index)]
    return found


def nearest_index(places: NDArray[np.float64], count: int, *, upwards: bool) -> NDArray[np.intp]:
    """The index of the nearest voxel along one axis; from the middle between two, the upper or the lower one.

    Args:
        places: Positions along the axis, in voxels.
        count: Number of voxels of the axis.
        upwards: Whether halves are rounded up.

    >>> places = np.arange(6) / 2
    >>> nearest_index(places, 3, upwards=True).tolist(), nearest_index(places, 3, upwards=False).tolist()
    ([0, 1, 1, 2, 2, 2], [0, 0, 1, 1, 2, 2])
    """
    rounded = np.floor(places + (0.5 + _SAME)) if upwards else np.ceil(places - (0.5 + _SAME))
    return rounded.clip(0, count - 1).astype(np.intp)


def towards_ras(affine_ras: Affine) -> list[bool]:
    """Whether each array axis runs to the right, the front or the head rather than the other way.

    >>> towards_ras(np.diag([-1.0, -1.0, 1.0, 1.0]))
    [False, False, True]
    """
    columns = np.asarray(affine_ras, dtype=np.float64)[:3, :3]
    largest = np.abs(columns).argmax(axis=0)
    return [bool(columns[row, column] > 0) for column, row in enumerate(largest)]


def _axes_along(matrix: NDArray[np.float64], shape: Sequence[int]) -> list[int] | None:
    """The old axis along which each new axis runs; None if one leaves it within its length."""
    axes = [int(axis) for axis in np.abs(matrix[:3, :3]).argmax(axis=0)]
    aslant = np.abs(matrix[:3, :3]) * np.asarray(shape)
    aslant[axes, range(3)] = 0
    return axes if sorted(axes) == [0, 1, 2] and (aslant < _SAME).all() else None
