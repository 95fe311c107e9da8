"""The mapping from stored voxels to slices on a screen, whatever their orientation in the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from volseg.errors import UsageError
from volseg.volume import orientation, slice_axis, spacing_mm

_T = TypeVar("_T", bound=np.generic)

Plane = Literal["axial", "coronal", "sagittal"]

PLANES: tuple[Plane, ...] = get_args(Plane)

# Directions of slices, rows and columns. Radiological: the patient's right is on the left, the front or the head is
# up; a sagittal slice has the front on the left.
_TOWARDS: dict[Plane, str] = {"axial": "SPL", "coronal": "AIL", "sagittal": "LIP"}
_THICK = 2.0  # slices at least this much thicker than pixels were acquired in their own plane
_OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))


@dataclass(frozen=True)
class View:
    """The array axes that become slices, rows and columns, and their directions.

    Attributes:
        plane: Plane of the slices.
        axes: Array axes X, Y, Z (0 to 2) that become slices, rows, columns.
        flips: Whether each of these runs in the other direction in the file.
        pixel_mm: Height and width of a pixel in mm.
        thickness_mm: Distance between slices in mm.
    """

    plane: Plane
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    pixel_mm: tuple[float, float]
    thickness_mm: float

    @classmethod
    def of(cls, affine_ras: ArrayLike, plane: Plane = "axial") -> View:
        """The view of a grid; an oblique grid is shown along its own axes, the nearest to the plane.

        Raises:
            UsageError: There is no such plane.

        >>> View.of(np.diag([1.5, 1.5, 3, 1])).flips  # stored RAS: rows and columns are turned round
        (False, True, True)
        >>> View.of(np.diag([-1.5, -1.5, 3, 1]), "coronal").pixel_mm
        (3.0, 1.5)
        """
        if plane not in PLANES:
            raise UsageError(f"the plane must be one of {', '.join(PLANES)}, got {plane!r}; give another one")
        stored = orientation(affine_ras)
        spacing = spacing_mm(affine_ras)
        found = []
        for letter in _TOWARDS[plane]:
            flip = letter not in stored
            axis = stored.index(_OPPOSITE[letter] if flip else letter)
            found.append((axis, flip, spacing[axis]))
        (a, flip_a, thickness), (b, flip_b, height), (c, flip_c, width) = found
        return cls(plane, (a, b, c), (flip_a, flip_b, flip_c), (height, width), thickness)

    @property
    def edges(self) -> tuple[str, str]:
        """Sides of the patient at the left edge of the picture and at its top: `R` and `A` in an axial view."""
        towards = _TOWARDS[self.plane]
        return _OPPOSITE[towards[2]], _OPPOSITE[towards[1]]

    def apply(self, voxels: NDArray[_T]) -> NDArray[_T]:
        """Turn voxels into slices on the screen; nothing is copied.

        Args:
            voxels: Voxels (..., X, Y, Z).

        Returns:
            Slices (..., slices, rows, columns).

        >>> View.of(np.eye(4)).apply(np.zeros((2, 5, 6, 7))).shape
        (2, 7, 6, 5)
        """
        first = voxels.ndim - 3
        turned = voxels.transpose(*range(first), *(first + axis for axis in self.axes))
        return turned[(..., *(slice(None, None, -1) if flip else slice(None) for flip in self.flips))]

    def number(self, place: int, slices: int) -> int:
        """The number of a slice for people: from 1, in the order of the file.

        ITK-SNAP and UW-Madison's file names count in this way; 3D Slicer's Data Probe shows one less.

        Args:
            place: Index of the slice on the screen, from 0.
            slices: Number of slices.

        >>> View.of(np.diag([1, 1, -1, 1])).number(0, 10)
        10
        """
        return slices - place if self.flips[0] else place + 1

    def place(self, number: int, slices: int) -> int:
        """The index on the screen, from 0, of a slice with a `number`.

        Raises:
            UsageError: There is no such slice.

        >>> View.of(np.diag([1, 1, -1, 1])).place(10, 10)
        0
        """
        if not 1 <= number <= slices:
            raise UsageError(f"the {self.plane} slice must be 1 to {slices}, got {number}; give another number")
        return slices - number if self.flips[0] else number - 1


def plane_of_slices(affine_ras: ArrayLike, shape: Sequence[int]) -> Plane:
    """The plane in which a grid is shown: see `volseg.volume.slice_axis`, here of slices twice as thick as pixels.

    If slices are not much thicker than pixels, axial ones are shown, to which readers are used.

    Args:
        affine_ras: Affine (4, 4) from voxel index to RAS mm.
        shape: Number of voxels along X, Y, Z.

    >>> plane_of_slices(np.diag([3, 0.9, 0.9, 1]), (30, 256, 256)), plane_of_slices(np.eye(4), (40, 40, 40))
    ('sagittal', 'axial')
    """
    across = slice_axis(affine_ras, shape, thicker=_THICK)
    return next(plane for plane in PLANES if View.of(affine_ras, plane).axes[0] == across)
