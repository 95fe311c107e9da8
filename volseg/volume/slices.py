"""The axis that counts the slices of a scan: one rule for all numbers and pictures by slice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from volseg.volume.geometry import spacing_mm

# Factor below which spacings are equal: files keep them in 32 bits or with few digits.
THICKER = 1.01
# Difference below which cosines are equal.
_SAME_DIRECTION = 1e-3


def slice_axis(affine_ras: ArrayLike, shape: Sequence[int] | None = None, *, thicker: float = THICKER) -> int:
    """The array axis that counts the slices, whatever the order and the direction in which axes are stored.

    1. In an image of one slice it is the axis of one voxel.
    2. Else it is the axis whose spacing is larger than that of each other axis, by a factor of `thicker`.
    3. If no axis is, slices are axial: it is the axis nearest to the line from foot to head (S/I).
    4. If several are equally near, as in a grid rotated by exactly 45 degrees, it is the last of them.

    Args:
        affine_ras: Affine (4, 4) from voxel index to RAS mm.
        shape: Number of voxels along X, Y, Z; None (the default) to leave out the first rule.
        thicker: Factor from which slices count as thicker than pixels; differences below 1 % are rounding.

    Returns:
        The axis: 0, 1 or 2.

    >>> slice_axis(np.diag([0.8, 0.8, 3, 1])), slice_axis(np.diag([3, 0.8, 0.8, 1]))
    (2, 0)
    >>> slice_axis(np.diag([0.8, 0.8, 0.5, 1]))  # a thin-slice CT: no axis is the thickest alone
    2
    >>> slice_axis(np.eye(4)[:, [2, 0, 1, 3]]), slice_axis(np.eye(4), (1, 40, 40))  # the first axis runs to the head
    (0, 0)
    """
    axes = np.asarray(affine_ras, dtype=np.float64)[:3, :3]
    spacing = spacing_mm(affine_ras)
    allowed = [0, 1, 2]
    if shape is not None and 1 in shape[:3]:
        allowed = [axis for axis in allowed if shape[axis] == 1]
    for axis in allowed:
        if all(spacing[axis] >= thicker * spacing[other] for other in allowed if other != axis):
            return axis
    upright = np.abs(axes[2]) / spacing  # cosine between each axis and S
    most = max(upright[axis] for axis in allowed)
    return max(axis for axis in allowed if upright[axis] >= most - _SAME_DIRECTION)
