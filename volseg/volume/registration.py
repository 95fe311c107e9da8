"""Rigid alignment of two images of one body: where each point of one lies in the other.

The body masks' middles give the starts; then the squared difference after the best linear change of intensities, which
has its least where the normalised cross-correlation has its greatest, is lowered by Gauss-Newton steps on three grids,
the finest of 4 mm. Voxels that fit badly, such as bowel that has moved, count less (Tukey's biweight), so that bones
and wall decide.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.volume.registration_steps import Array, Level, agreement, refine, residual_mm, starts
from volseg.volume.volume import Volume

GRID_MM = 4.0
"""Spacing of the finest grid that is compared; less for small volumes."""
LEAST_NCC, LEAST_OVERLAP = 0.4, 0.4
"""Normalised cross-correlation, and share of the fixed body that the moving image covers, below which it has failed."""
_COARSER = (4, 2, 1)
_STEPS = (40, 25, 40)
_ROUGH_MM = 8.0
_FEWEST_VOXELS = 24  # along the shortest axis of the fixed image


@dataclass(frozen=True)
class Registration:
    """The outcome of an alignment.

    Attributes:
        matrix_ras: Matrix (4, 4) from a point of the fixed image to the same point of the moving one, RAS mm.
        ncc: Normalised cross-correlation of the two within the fixed body, -1 to 1.
        overlap: Share of the fixed body that the moving image covers, 0 to 1.
        residual_mm: What is left: the median shift that blocks of the body would need.
        seconds: Wall time.
        failure: Reason why the matrix must not be used; empty where it may.
    """

    matrix_ras: tuple[tuple[float, ...], ...]
    ncc: float
    overlap: float
    residual_mm: float
    seconds: float
    failure: str = ""

    @property
    def matrix(self) -> Array:
        """The matrix as an array."""
        return np.array(self.matrix_ras, dtype=np.float64)

    @property
    def translation_mm(self) -> float:
        """Length of the translation."""
        return float(np.linalg.norm(self.matrix[:3, 3]))

    @property
    def rotation_deg(self) -> float:
        """Angle of the rotation in degrees."""
        return math.degrees(math.acos(float(np.clip((np.trace(self.matrix[:3, :3]) - 1) / 2, -1, 1))))

    @property
    def inverse(self) -> Registration:
        """The alignment of the two images in the other direction."""
        return replace(self, matrix_ras=_rows(np.linalg.inv(self.matrix)))

    def shifted(self, mm: Sequence[float]) -> Registration:
        """The alignment with the moving image further away by some mm along x, y and z: what an error would do.

        >>> Registration(tuple(map(tuple, np.eye(4).tolist())), 1, 1, 0, 0).shifted((0, 15, 0)).matrix[:3, 3].tolist()
        [0.0, 15.0, 0.0]
        """
        moved = self.matrix
        moved[:3, 3] += np.asarray(mm, dtype=np.float64)
        return replace(self, matrix_ras=_rows(moved))

    def to_json(self) -> dict[str, Any]:
        """The content for a file."""
        return {
            "matrix_ras": [list(row) for row in self.matrix_ras],
            "ncc": self.ncc,
            "overlap": self.overlap,
            "residual_mm": self.residual_mm,
            "seconds": self.seconds,
            "failure": self.failure,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Registration:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: An entry is absent or makes no sense.
        """
        matrix = np.array(content["matrix_ras"], dtype=np.float64).reshape(4, 4)
        ncc, overlap, left, seconds = (float(content[name]) for name in ("ncc", "overlap", "residual_mm", "seconds"))
        return cls(_rows(matrix), ncc, overlap, left, seconds, str(content["failure"]))


def register_roughly(fixed: Volume, moving: Volume) -> Registration:
    """Put the middles of the two bodies on one another, without looking at what is inside.

    Args:
        fixed: Image that stays.
        moving: Image that is aligned to it, of whatever body.
    """
    began = time.perf_counter()
    levels = Level.of(fixed, _ROUGH_MM), Level.of(moving, _ROUGH_MM)
    if not all(level.body.any() for level in levels):
        return _failed("an image holds one value everywhere", began)
    matrix = np.eye(4)
    matrix[:3, 3] = levels[1].middle - levels[0].middle
    ncc, overlap = agreement(matrix, *levels)
    return Registration(_rows(matrix), ncc, overlap, math.nan, time.perf_counter() - began)


def register(fixed: Volume, moving: Volume) -> Registration:
    """Find the rigid motion from one image to another of the same body and kind, on any two grids.

    Args:
        fixed: Image that stays.
        moving: Image that is aligned to it.

    Returns:
        The alignment. If it failed, its `failure` says why, and it is the identity.

    >>> from scipy.ndimage import gaussian_filter
    >>> body = gaussian_filter(np.random.default_rng(0).normal(size=(40, 36, 30)), 2) + 0.3
    >>> body[:6] = body[-6:] = body[:, :6] = body[:, -6:] = 0
    >>> affine = np.diag([4.0, 4, 4, 1])
    >>> shifted = affine.copy()
    >>> shifted[:3, 3] = 20, -12, 8
    >>> found = register(Volume(body, affine), Volume(body, shifted))
    >>> np.round(found.matrix[:3, 3]).tolist(), found.failure
    ([20.0, -12.0, 8.0], '')
    """
    began = time.perf_counter()
    finest = min(
        GRID_MM, min(n * mm for n, mm in zip(fixed.shape, fixed.spacing_mm, strict=True) if n > 1) / _FEWEST_VOXELS
    )
    finest = max(finest, min(fixed.spacing_mm))
    if 1 in fixed.shape or 1 in moving.shape:
        return _failed("an image of one slice has no three directions", began)
    levels = [(Level.of(fixed, finest * f), Level.of(moving, finest * f)) for f in _COARSER]
    bodies = [level.body for level in levels[-1]]
    if not all(body.any() for body in bodies):
        return _failed("an image holds one value everywhere", began)
    begun = starts(levels[-1][0], levels[-1][1])
    coarse = [refine(start, *levels[0], steps=_STEPS[0]) for start in begun]
    # Each start goes on to the next grid if it is among the two best: the coarsest one is blurred.
    coarse = sorted(coarse, key=lambda matrix: -agreement(matrix, *levels[0])[0])[:2]
    middle = [refine(matrix, *levels[1], steps=_STEPS[1]) for matrix in coarse]
    best = max(middle, key=lambda matrix: agreement(matrix, *levels[1])[0])
    matrix = refine(best, *levels[2], steps=_STEPS[2])
    ncc, overlap = agreement(matrix, *levels[2])
    if overlap < LEAST_OVERLAP:
        return _failed(f"the images share {overlap:.0%} of the body, {LEAST_OVERLAP:.0%} are needed", began, ncc)
    if not ncc >= LEAST_NCC:
        return _failed(f"the aligned images correlate by {ncc:.2f}, {LEAST_NCC:g} are needed", began, ncc)
    left = residual_mm(matrix, *levels[2])
    return Registration(_rows(matrix), ncc, overlap, left, time.perf_counter() - began)


def placed(volume: Volume, registration: Registration) -> Volume:
    """The moving volume, or its label map, at its place in the fixed image: other affine, same voxels.

    Raises:
        ValueError: The registration has failed.
    """
    if registration.failure:
        raise ValueError(f"the alignment has failed: {registration.failure}")
    inverse: NDArray[Any] = np.linalg.inv(registration.matrix)
    affine: Array = inverse @ np.asarray(volume.affine_ras, dtype=np.float64)
    return Volume(volume.voxels, affine)


def _rows(matrix: NDArray[Any]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in matrix)


def _failed(reason: str, began: float, ncc: float = math.nan) -> Registration:
    return Registration(_rows(np.eye(4)), ncc, 0.0, math.nan, time.perf_counter() - began, reason)
