"""The raster of an image, rows and columns as a viewer shows them, and the volume of one slice with its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from volseg.errors import VolumeError
from volseg.volume.geometry import affine_of_axes, check_axes, orientation
from volseg.volume.volume import Volume

# Directions of columns, rows and the third axis of an image by default: as an axial slice is shown.
AXES = "LPS"
# Names of the channels of a colour image.
RGB = ("red", "green", "blue")
# The warning of a case whose files state no spacing.
UNMEASURED = "spacing unknown, taken as 1 mm"
# Thickness of a pixel: with it, an area of one mm2 is a volume of one mm3, a thousandth of a millilitre.
THICKNESS_MM = 1.0


def to_volume(pixels: NDArray[Any], spacing_mm: Sequence[float], *, axes: str = AXES) -> Volume:
    """Make a volume of one slice from an image: its column becomes X, its row Y; no pixel is changed.

    Unless `axes` says otherwise the affine is that of an axial slice on a screen (X to the left, Y to the back), so
    viewers show the image upright.

    Args:
        pixels: Pixels (rows, columns), the first row at the top.
        spacing_mm: Distance in mm between columns and between rows, then maybe the thickness, else `THICKNESS_MM`.
        axes: Directions of columns, rows and the third axis, see `volseg.volume.check_axes`.

    Returns:
        Volume (X, Y, 1).

    >>> import numpy as np
    >>> volume = to_volume(np.array([[1, 2, 3], [4, 5, 6]]), (0.5, 0.25))
    >>> volume.shape, volume.spacing_mm, int(volume.voxels[2, 0, 0])
    ((3, 2, 1), (0.5, 0.25, 1.0), 3)
    >>> to_raster(volume).tolist()
    [[1, 2, 3], [4, 5, 6]]
    """
    if pixels.ndim != 2:
        raise VolumeError(f"pixels of shape {pixels.shape} were given, expected rows and columns")
    x, y, *thickness = spacing_mm
    return Volume(pixels.T[:, :, None], affine_of_axes(axes, (x, y, *(thickness or (THICKNESS_MM,)))))


def to_raster(volume: Volume, *, axes: str = AXES) -> NDArray[Any]:
    """Make the image of a volume of one slice: the inverse of `to_volume`, also for predictions on the image's grid.

    Args:
        volume: Volume of one slice.
        axes: Directions that `to_volume` got.

    Returns:
        Pixels (rows, columns).

    Raises:
        VolumeError: The volume has several slices, or other axes.
        UsageError: `axes` names no three directions.
    """
    expected = check_axes(axes)
    stored = orientation(volume.affine_ras)
    if volume.shape[2] != 1 or stored != expected:
        raise VolumeError(
            f"a volume of {volume.shape[2]} slices with the axes {stored} was given, expected one slice of {expected} "
            "axes; take the file as volseg wrote it, or name its axes"
        )
    raster: NDArray[Any] = volume.voxels[:, :, 0].T
    return raster
