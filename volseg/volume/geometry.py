"""Affines and frames: voxel index [i, j, k] to world millimetres, in RAS (NIfTI) and LPS (DICOM, ITK)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from volseg.errors import GeometryError, UsageError

if TYPE_CHECKING:
    from volseg.volume.header import NiftiHeader

Affine = NDArray[np.float64]

TOLERANCE = 0.02
"""Largest distance of the corners of two equal grids, as a fraction of the voxel along each axis.

Programs round the grid that they save: a skew of 5e-5, which ITK passes over, moves a corner by 1.7 % of a voxel over
60 slices of 4 mm. At 2 % every voxel still covers 98 % of the one that it stands for, and no surface moves by more than
that. Code that takes such a grid reports it, see `volseg.volume.aligned`.
"""
ROUNDING = 0.001
"""Fraction of a voxel up to which two grids are equal without a note: headers keep numbers in 32 bits."""
PROVENANCE = "volseg-series "
"""How the record of a series of images begins, see `provenance_of`."""
_FARTHEST_MM = 1e9
# Row of a RAS affine and sign for each direction of the body.
_DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class FileAffine(np.ndarray[Any, np.dtype[np.float64]]):
    """An affine that remembers the header of the file that it was read from, and the series of images behind it.

    To put other voxels on the same grid, keep the affine, and with it what it remembers. An affine that is computed
    from it, even a copy, remembers nothing; `header_of` makes sure that it is still the affine that the header gives.

    Attributes:
        header: Header of the file; None if the affine is computed.
        provenance: Record of the series that the voxels were made from, see `provenance_of`; empty if there is none.
    """

    header: NiftiHeader | None = None
    provenance: str = ""

    def __new__(cls, affine: ArrayLike, header: NiftiHeader | None, provenance: str = "") -> FileAffine:
        """A copy of an affine that remembers a header and a record."""
        made = np.array(affine, dtype=np.float64).view(cls)
        made.header = header
        made.provenance = provenance
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the affine with what it remembers."""
        return FileAffine, (np.asarray(self), self.header, self.provenance)


def header_of(affine: ArrayLike) -> NiftiHeader | None:
    """The header of the file that an affine was read from; None if it was computed or changed since."""
    header = affine.header if isinstance(affine, FileAffine) else None
    return header if header is not None and header.gives(affine) else None


def provenance_of(affine: ArrayLike) -> str:
    """The record of the series of images that the voxels on an affine were made from; empty if it remembers none.

    It is a text of at most 79 letters that begins with `PROVENANCE` and names no patient. The reader of DICOM makes it
    (`volseg.dicom.record_of`), files of NIfTI carry it in their description (`descrip`), and whatever is made on the
    same grid has it: so a prediction says for which series a DICOM object of it may be written.

    >>> provenance_of(with_provenance(np.eye(4), "volseg-series p1 t2 s3"))
    'volseg-series p1 t2 s3'
    """
    return affine.provenance if isinstance(affine, FileAffine) else ""


def with_provenance(affine: ArrayLike, provenance: str) -> Affine:
    """The same affine with another record, see `provenance_of`; its header stays."""
    return FileAffine(affine, header_of(affine), provenance)


def check_affine(affine: ArrayLike) -> Affine:
    """Return `affine` as a 4x4 float64 array, or raise if it maps no grid to space.

    Args:
        affine: Affine (4, 4) from voxel index to millimetres.

    Raises:
        GeometryError: It is not 4x4, holds NaN or a number beyond 1000 km, has a last row other than 0 0 0 1, or is
            singular.

    >>> check_affine(np.diag([1.5, 1.5, 3, 1])).shape
    (4, 4)
    """
    if isinstance(affine, FileAffine) and header_of(affine) is not None:
        return affine  # the header's rule has checked it
    matrix = affine if isinstance(affine, FileAffine) else np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise GeometryError(f"the affine has shape {matrix.shape}, expected (4, 4)")
    if not (np.abs(matrix) <= _FARTHEST_MM).all():
        raise GeometryError(
            f"the affine holds NaN or a number beyond {_FARTHEST_MM:g} mm; write the file with its true orientation"
        )
    if np.abs(matrix[3] - (0, 0, 0, 1)).max() > 1e-8:
        raise GeometryError(f"the affine's last row is {matrix[3].tolist()}, expected [0, 0, 0, 1]")
    axes = matrix[:3, :3]
    # Volume of a voxel against that of the box its edges would span at right angles: 1 without shear, 0 if singular.
    edges = np.linalg.norm(axes, axis=0)
    if not edges.all() or abs(np.linalg.det(axes / edges)) < 1e-6:
        raise GeometryError(
            "the affine is singular, so its voxels have no size; write the file again with its true spacing"
        )
    return matrix


def spacing_mm(affine: ArrayLike) -> tuple[float, float, float]:
    """Distance in mm between neighbouring voxels along each array axis.

    >>> spacing_mm(np.diag([-1.5, -1.5, 3, 1]))
    (1.5, 1.5, 3.0)
    """
    matrix = np.asarray(affine, dtype=np.float64)[:3, :3]
    x, y, z = np.sqrt((matrix**2).sum(axis=0)).tolist()
    return x, y, z


def voxel_ml(affine: ArrayLike) -> float:
    """Volume of a voxel in ml; of one that leans, as with a tilted gantry, it is less than the product of its sides.

    >>> voxel_ml(np.diag([-1.5, -1.5, 3, 1]))
    0.00675
    >>> round(voxel_ml([[1, 0, 0, 0], [0, 1, 3, 0], [0, 0, 4, 0], [0, 0, 0, 1]]), 6)  # slices of 5 mm, 4 mm apart
    0.004
    """
    sides = spacing_mm(affine)
    lean = abs(float(np.linalg.det(np.asarray(affine, dtype=np.float64)[:3, :3] / sides)))
    return math.prod(sides) * lean / 1000


MAX_SKEW = 1e-3
"""Cosine between two axes above which a distance computed from the spacing is no longer the distance in space."""


def skew(affine: ArrayLike) -> float:
    """The largest cosine between two axes: 0 if all are at right angles.

    >>> skew(np.diag([-1.5, -1.5, 3, 1])), skew([[1, 0, 0, 0], [0, 1, 3, 0], [0, 0, 4, 0], [0, 0, 0, 1]])
    (0.0, 0.6)
    """
    axes = np.asarray(affine, dtype=np.float64)[:3, :3] / spacing_mm(affine)
    return float(np.abs(axes.T @ axes - np.eye(3)).max())


def orientation(affine: ArrayLike) -> str:
    """The direction each array axis points to, as three letters; `LPS` means left, posterior, superior.

    >>> orientation(np.diag([-1, -1, 3, 1]))
    'LPS'
    """
    import nibabel

    return "".join(nibabel.aff2axcodes(np.asarray(affine, dtype=np.float64)))


def affine_lps_axes(spacing: Sequence[float]) -> Affine:
    """Affine in RAS mm of a grid whose axes run left, posterior, superior and whose first voxel is at the origin.

    This is how an axial slice is shown: columns run to the patient's left, rows to the back.

    Args:
        spacing: Spacing in mm along X, Y, Z.

    >>> affine_lps_axes((1.5, 1.5, 3)).diagonal().tolist()
    [-1.5, -1.5, 3.0, 1.0]
    """
    return affine_of_axes("LPS", spacing)


def affine_of_axes(axes: str, spacing: Sequence[float]) -> Affine:
    """Affine in RAS mm of a grid whose array axes run along those of the body and whose first voxel is at the origin.

    Args:
        axes: Direction of each array axis, see `orientation`.
        spacing: Spacing in mm along X, Y, Z of the array.

    Raises:
        UsageError: `axes` names no three directions, see `check_axes`.

    >>> affine_of_axes("LPI", (1.5, 1.5, 3)).diagonal().tolist()
    [-1.5, -1.5, -3.0, 1.0]
    """
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for column, (letter, mm) in enumerate(zip(check_axes(axes), spacing, strict=True)):
        row, sign = _DIRECTIONS[letter]
        affine[row, column] = sign * mm
    return check_affine(affine)


def check_axes(axes: str) -> str:
    """The same letters as capitals, if they name a direction of the body for each of three array axes.

    Raises:
        UsageError: They do not.

    >>> check_axes("lpi")
    'LPI'
    """
    letters = axes.strip().upper()
    if sorted(_DIRECTIONS.get(letter, (-1, 0))[0] for letter in letters) != [0, 1, 2]:
        raise UsageError(
            f"the axes must be three letters, one of L and R, one of A and P, one of S and I, got {axes!r}; give LPI "
            "for columns to the patient's left, rows to the back and slices to the feet"
        )
    return letters


def ras_to_lps(affine_ras: ArrayLike) -> Affine:
    """The same grid in LPS mm, the frame of DICOM, ITK and .seg.nrrd; its own inverse.

    >>> ras_to_lps(np.diag([-1, -1, 3, 1])).diagonal().tolist()
    [1.0, 1.0, 3.0, 1.0]
    """
    return _LPS_FROM_RAS @ check_affine(affine_ras)


def farthest_corner(shape: Sequence[int], affine_a: ArrayLike, affine_b: ArrayLike) -> float:
    """Largest distance between corner voxels of two grids of one shape, in voxels along an axis of either.

    >>> farthest_corner((5, 5, 5), np.diag([1.0, 1, 2, 1]), np.diag([1.0, 1, 2.5, 1]))
    1.0
    """
    a, b = np.asarray(affine_a, dtype=np.float64), np.asarray(affine_b, dtype=np.float64)
    if np.array_equal(a, b):
        return 0.0
    moved = _corners(shape) @ (a - b)[:3].T  # (8, 3), mm
    in_voxels = [moved @ np.linalg.inv(matrix[:3, :3]).T for matrix in (a, b)]
    return float(max(np.abs(steps).max() for steps in in_voxels))


def space_difference(
    shape_a: Sequence[int],
    affine_a: ArrayLike,
    shape_b: Sequence[int],
    affine_b: ArrayLike,
    *,
    tolerance: float = TOLERANCE,
) -> str | None:
    """Say how two grids differ, or return None if every voxel is at the same position.

    The corners of the grid decide: none may move by more than a fraction of the voxel along any axis.

    Args:
        shape_a: Number of voxels along X, Y, Z.
        affine_a: Affine (4, 4) from voxel index to millimetres.
        shape_b: Number of voxels of the other grid.
        affine_b: Affine of the other grid.
        tolerance: Fraction of a voxel, see `TOLERANCE`.

    >>> print(space_difference((4, 4, 4), np.eye(4), (4, 4, 4), np.eye(4)))
    None
    >>> space_difference((4, 4, 4), np.eye(4), (4, 4, 4), np.diag([2, 1, 1, 1]))
    'a corner of the grid is 3 mm away (spacing 1 x 1 x 1 mm against 2 x 1 x 1 mm)'
    """
    if tuple(shape_a) != tuple(shape_b):
        return f"shape {_by(shape_a)} against {_by(shape_b)}"
    if farthest_corner(shape_a, affine_a, affine_b) <= tolerance:
        return None
    moved = np.abs(_corners(shape_a) @ (np.asarray(affine_a, float) - np.asarray(affine_b, float)).T).max()
    spacing = f"spacing {_by(spacing_mm(affine_a))} mm against {_by(spacing_mm(affine_b))} mm"
    return f"a corner of the grid is {moved:.4g} mm away ({spacing})"


def same_space(
    shape_a: Sequence[int],
    affine_a: ArrayLike,
    shape_b: Sequence[int],
    affine_b: ArrayLike,
    *,
    tolerance: float = TOLERANCE,
) -> bool:
    """Whether every voxel of the two grids is at the same position, up to a fraction of the voxel.

    >>> same_space((4, 4, 4), np.eye(4), (4, 4, 5), np.eye(4))
    False
    """
    return space_difference(shape_a, affine_a, shape_b, affine_b, tolerance=tolerance) is None


def _corners(shape: Sequence[int]) -> NDArray[np.float64]:
    """The homogeneous indices of the corner voxels, (8, 4)."""
    ends = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=np.float64)
    corners: NDArray[np.float64] = ends * np.array([*(n - 1 for n in shape), 1])
    return corners


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
