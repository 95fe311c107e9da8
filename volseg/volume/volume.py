"""A grid in space, and a volume on one: voxels [X, Y, Z] with an affine in RAS millimetres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from volseg.errors import VolumeError
from volseg.volume.geometry import (
    TOLERANCE,
    Affine,
    check_affine,
    header_of,
    orientation,
    same_space,
    space_difference,
    spacing_mm,
    voxel_ml,
)
from volseg.volume.sizes import size_notes


@dataclass(frozen=True, eq=False)
class Grid:
    """The positions of the voxels of an array.

    Attributes:
        shape: Number of voxels along X, Y, Z.
        affine_ras: Affine (4, 4) from voxel index to RAS mm.

    >>> import numpy as np
    >>> Grid((4, 5, 6), np.diag([-1.5, -1.5, 3, 1])).orientation
    'LPS'
    """

    shape: tuple[int, ...]
    affine_ras: Affine

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxels along X, Y, Z."""
        return spacing_mm(self.affine_ras)

    @property
    def orientation(self) -> str:
        """The direction that each array axis points to, as three letters such as `LPS`."""
        return orientation(self.affine_ras)

    @property
    def readings(self) -> tuple[Affine, ...]:
        """The affine, and those that other programs make of the header of the file that it was read from."""
        header = header_of(self.affine_ras)
        return (self.affine_ras, *(header.readings if header else ()))

    def difference(self, other: Grid, *, tolerance: float = TOLERANCE) -> str | None:
        """Say how the other grid differs, or return None if it has the same voxels.

        A header that contradicts itself is read in different ways: the output of a program is on the image's grid as
            that program read it. So the grids are the same too if any reading of one is a reading of the other.

        Args:
            other: Grid to compare with.
            tolerance: Largest distance of a corner, as a fraction of a voxel.

        >>> import numpy as np
        >>> Grid((4, 4, 4), np.eye(4)).difference(Grid((4, 4, 5), np.eye(4)))
        'shape 4 x 4 x 4 against 4 x 4 x 5'
        """
        told = space_difference(self.shape, self.affine_ras, other.shape, other.affine_ras, tolerance=tolerance)
        if told and self.shape == other.shape:
            pairs = ((a, b) for a in self.readings for b in other.readings)
            if any(same_space(self.shape, a, other.shape, b, tolerance=tolerance) for a, b in pairs):
                return None
        return told


@dataclass(frozen=True, eq=False)
class Volume:
    """One scalar volume.

    Attributes:
        voxels: Voxels (X, Y, Z) of any real dtype; integers stay integers.
        affine_ras: Affine (4, 4) from voxel index to RAS mm.

    >>> import numpy as np
    >>> Volume(np.zeros((4, 5, 6), np.uint16), np.diag([1.5, 1.5, 3, 1])).spacing_mm
    (1.5, 1.5, 3.0)
    """

    voxels: NDArray[Any]
    affine_ras: Affine

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or 0 in self.voxels.shape:
            raise VolumeError(f"the voxels have shape {self.voxels.shape}, expected three axes X, Y, Z of at least 1")
        object.__setattr__(self, "affine_ras", check_affine(self.affine_ras))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along X, Y, Z."""
        x, y, z = self.voxels.shape
        return x, y, z

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxels along X, Y, Z."""
        return spacing_mm(self.affine_ras)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml, see `volseg.volume.voxel_ml`."""
        return voxel_ml(self.affine_ras)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is doubtful about the position of the voxels: see `NiftiHeader.notes` and `volseg.volume.size_notes`."""
        header = header_of(self.affine_ras)
        return (*(header.notes if header else ()), *size_notes(self.shape, self.affine_ras))

    @property
    def grid(self) -> Grid:
        """The grid of the voxels."""
        return Grid(self.shape, self.affine_ras)
