"""A volume on a grid of the same voxels: axes are turned if needed, rounding is ignored, nothing is resampled."""

from __future__ import annotations

import numpy as np

from volseg.errors import GeometryError
from volseg.volume.geometry import ROUNDING, TOLERANCE, farthest_corner, same_space
from volseg.volume.volume import Grid, Volume

ROUNDED = (
    "it lies up to 2 % of a voxel away from the image, as where another program has rounded, and is taken as it is"
)
"""The note of a volume that is on the grid but for rounding."""
READ_OTHERWISE = (
    "it lies where another program sees the image, whose header can be read in several ways, and is taken as it is"
)
"""The note of a volume that is on another reading of the same header."""

TURNED = "its axes run otherwise than those of the image and were turned"
"""The note of a volume whose header gives its axes another direction; nothing else can tell whether it is right."""


def aligned(volume: Volume, grid: Grid) -> tuple[Volume, str]:
    """Put a volume on a grid of the same voxels; returns it with a note, which is mostly empty.

    Args:
        volume: Volume whose voxels are those of the grid, in any order of axes and directions.
        grid: Grid of the image.

    Returns:
        The volume with the affine of the grid, and a note, empty if its affine was the same to rounding.

    Raises:
        GeometryError: The voxels differ; the message says how the grids differ.

    >>> to_the_left = np.diag([-1.0, 1, 1, 1])
    >>> to_the_left[0, 3] = 3
    >>> turned = Volume(np.arange(4).reshape(4, 1, 1), to_the_left)
    >>> aligned(turned, Grid((4, 1, 1), np.eye(4)))[0].voxels.ravel().tolist()
    [3, 2, 1, 0]
    """
    difference = grid.difference(volume.grid)
    if difference:
        turned = _turned(volume, grid)
        if turned is None or grid.difference(turned.grid):
            raise GeometryError(difference)
        volume = turned
    elif volume.affine_ras is grid.affine_ras:
        return volume, ""
    away = farthest_corner(grid.shape, grid.affine_ras, volume.affine_ras)
    note = "" if away <= ROUNDING else ROUNDED if away <= TOLERANCE else READ_OTHERWISE
    if difference:
        note = ", and ".join(filter(None, [TURNED, note]))
    return Volume(volume.voxels, grid.affine_ras), note


def _turned(volume: Volume, grid: Grid) -> Volume | None:
    """The volume with its axes along those of a grid; None if they are so already."""
    import nibabel.orientations as axes

    for affine in volume.grid.readings:
        turn = axes.io_orientation(np.linalg.inv(np.asarray(grid.affine_ras)) @ np.asarray(affine))
        if not np.isfinite(turn).all() or np.array_equal(turn, [[0, 1], [1, 1], [2, 1]]):
            continue
        voxels = axes.apply_orientation(volume.voxels, turn).copy(order="K")  # torch has no negative strides
        turned = np.asarray(affine) @ axes.inv_ornt_aff(turn, volume.shape)
        if any(same_space(grid.shape, one, voxels.shape, turned) for one in grid.readings):
            return Volume(voxels, turned)
    return None
