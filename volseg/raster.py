"""The raster of an image, rows and columns as a viewer shows them, and the volume of one slice that keeps it."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from volseg.errors import VolumeError
from volseg.geometry import affine_lps_axes, orientation
from volseg.volume import Volume

# What the channels of a colour image are called.
RGB = ("red", "green", "blue")
# The warning of a case whose files state no spacing.
UNMEASURED = "spacing unknown, taken as 1 mm"
# The third side of a pixel: so one mm2 of area is a volume of one mm3, a thousandth of a millilitre.
THICKNESS_MM = 1.0


def to_volume(pixels: NDArray[Any], spacing_mm: tuple[float, float]) -> Volume:
    """The volume of one slice of an image: its column becomes X, its row Y; no pixel is changed.

    The affine is that of an axial slice on a screen (X to the left, Y to the back), so viewers show the image upright.

    Args:
        pixels: (rows, columns), the first row at the top.
        spacing_mm: distance in mm between columns and between rows.

    Returns:
        (X, Y, 1), `THICKNESS_MM` thick.

    >>> import numpy as np
    >>> volume = to_volume(np.array([[1, 2, 3], [4, 5, 6]]), (0.5, 0.25))
    >>> volume.shape, volume.spacing_mm, int(volume.voxels[2, 0, 0])
    ((3, 2, 1), (0.5, 0.25, 1.0), 3)
    >>> to_raster(volume).tolist()
    [[1, 2, 3], [4, 5, 6]]
    """
    if pixels.ndim != 2:
        raise VolumeError(f"pixels of shape {pixels.shape} were given, expected rows and columns")
    return Volume(pixels.T[:, :, None], affine_lps_axes((*spacing_mm, THICKNESS_MM)))


def to_raster(volume: Volume) -> NDArray[Any]:
    """The image of a volume of one slice, the inverse of `to_volume`: for predictions too, whose grid is the image's.

    Returns:
        (rows, columns).

    Raises:
        VolumeError: several slices, or axes that `to_volume` does not make.
    """
    stored = orientation(volume.affine_ras)
    if volume.shape[2] != 1 or stored != "LPS":
        raise VolumeError(
            f"a volume of {volume.shape[2]} slices with the axes {stored} was given, expected one slice of LPS axes; "
            "take the file as volseg wrote it"
        )
    raster: NDArray[Any] = volume.voxels[:, :, 0].T
    return raster
