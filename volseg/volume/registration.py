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
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.volume.volume import Volume

Array = NDArray[np.float64]

GRID_MM = 4.0
"""Spacing of the finest grid that is compared; less for small volumes."""
LEAST_NCC, LEAST_OVERLAP = 0.4, 0.4
"""Normalised cross-correlation, and share of the fixed body that the moving image covers, below which it has failed."""
_COARSER = (4, 2, 1)
_STEPS = (40, 25, 40)
_ROUGH_MM = 8.0
_FEWEST_VOXELS = 24  # along the shortest axis of the fixed image
_POINTS = 12_000
_BODY = 0.1  # fraction of the robust range above which a voxel is of the body
_LEAST_POINTS = 50
_TUKEY, _ROUNDS, _LEAST_SPREAD = 4.685, 2, 0.01


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
    levels = _Level.of(fixed, _ROUGH_MM), _Level.of(moving, _ROUGH_MM)
    if not all(level.body.any() for level in levels):
        return _failed("an image holds one value everywhere", began)
    matrix = np.eye(4)
    matrix[:3, 3] = levels[1].middle - levels[0].middle
    ncc, overlap = _agreement(matrix, *levels)
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
    levels = [(_Level.of(fixed, finest * f), _Level.of(moving, finest * f)) for f in _COARSER]
    bodies = [level.body for level in levels[-1]]
    if not all(body.any() for body in bodies):
        return _failed("an image holds one value everywhere", began)
    starts = _starts(levels[-1][0], levels[-1][1])
    coarse = [_refine(start, *levels[0], steps=_STEPS[0]) for start in starts]
    # Each start goes on to the next grid if it is among the two best: the coarsest one is blurred.
    coarse = sorted(coarse, key=lambda matrix: -_agreement(matrix, *levels[0])[0])[:2]
    middle = [_refine(matrix, *levels[1], steps=_STEPS[1]) for matrix in coarse]
    best = max(middle, key=lambda matrix: _agreement(matrix, *levels[1])[0])
    matrix = _refine(best, *levels[2], steps=_STEPS[2])
    ncc, overlap = _agreement(matrix, *levels[2])
    if overlap < LEAST_OVERLAP:
        return _failed(f"the images share {overlap:.0%} of the body, {LEAST_OVERLAP:.0%} are needed", began, ncc)
    if not ncc >= LEAST_NCC:
        return _failed(f"the aligned images correlate by {ncc:.2f}, {LEAST_NCC:g} are needed", began, ncc)
    left = _residual_mm(matrix, *levels[2])
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


@dataclass(frozen=True, eq=False)
class _Level:
    """An image on a coarser grid: voxels scaled to about 0 to 1, affine, and the mask of the body."""

    voxels: NDArray[np.float32]
    affine: Array
    body: NDArray[np.bool_]
    step_mm: float

    @classmethod
    def of(cls, volume: Volume, step_mm: float) -> _Level:
        from scipy.ndimage import gaussian_filter

        affine = np.array(volume.affine_ras, dtype=np.float64)
        factors = [max(1, round(step_mm / mm)) for mm in volume.spacing_mm]
        factors = [max(1, min(f, n // 4)) for f, n in zip(factors, volume.shape, strict=True)]
        sigmas = [0.5 * math.sqrt(max((step_mm / mm) ** 2 - 1, 0)) for mm in volume.spacing_mm]
        smooth = gaussian_filter(np.asarray(volume.voxels, dtype=np.float32), sigmas, mode="nearest")
        first = [f // 2 for f in factors]
        voxels = smooth[tuple(slice(a, None, f) for a, f in zip(first, factors, strict=True))]
        affine[:3, 3] += affine[:3, :3] @ np.array(first, dtype=np.float64)
        affine[:3, :3] *= factors
        low, high = np.percentile(voxels, [0.5, 99.5])
        scaled = np.clip((voxels - low) / max(float(high - low), 1e-12), -0.5, 1.5).astype(np.float32)
        body = scaled > _BODY if high > low else np.zeros(scaled.shape, dtype=bool)
        return cls(scaled, affine, body, step_mm)

    @property
    def middle(self) -> Array:
        """The centroid of the body, RAS mm."""
        found: Array = self.affine[:3, :3] @ np.argwhere(self.body).mean(axis=0) + self.affine[:3, 3]
        return found

    @cached_property
    def points(self) -> tuple[Array, Array]:
        """Points in and around the body (N, 3), RAS mm, and the values there; at most 24,000, evenly spread."""
        from scipy.ndimage import binary_dilation

        where = np.argwhere(binary_dilation(self.body, iterations=2))
        where = where[:: max(1, len(where) // _POINTS)]
        values = self.voxels[tuple(where.T)].astype(np.float64)
        return where @ self.affine[:3, :3].T + self.affine[:3, 3], values

    def sampled(self, points: Array, *, slopes: bool = True) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Values, their slopes (N, 3) per mm, and whether the image reaches there."""
        from scipy.ndimage import map_coordinates

        inverse = np.linalg.inv(self.affine)
        index = inverse[:3, :3] @ points.T + inverse[:3, 3:]
        inside = np.ones(len(points), dtype=bool)
        for axis, n in enumerate(self.voxels.shape):
            inside &= (index[axis] >= -0.5) & (index[axis] <= n - 0.5)
        values = map_coordinates(self.voxels, index, order=1, mode="nearest").astype(np.float64)
        if not slopes:
            return values, np.empty((0, 3)), inside
        along = np.empty((len(points), 3))
        for axis, slope in enumerate(self._slopes):
            along[:, axis] = map_coordinates(slope, index, order=1, mode="nearest")
        return values, along @ inverse[:3, :3], inside

    @cached_property
    def _slopes(self) -> list[NDArray[np.float32]]:
        """The differences per voxel along each array axis."""
        return [np.asarray(slope, dtype=np.float32) for slope in np.gradient(self.voxels)]


def _starts(fixed: _Level, moving: _Level) -> list[Array]:
    """As the files say; with the bodies' middles on one another; and the latter higher or lower by 40 mm."""
    starts = [np.eye(4)]
    for along in (0.0, -40.0, 40.0):
        start = np.eye(4)
        start[:3, 3] = moving.middle - fixed.middle + (0, 0, along)
        starts.append(start)
    return starts


def _refine(matrix: Array, fixed: _Level, moving: _Level, *, steps: int) -> Array:
    """Lower the difference by Gauss-Newton steps, damped where one does not help."""
    points, values = fixed.points
    damping = 1e-3
    for _ in range(steps):
        terms = _Terms.at(matrix, points, values, moving)
        if terms is None:
            break
        before = _cost(matrix, points, values, moving, terms)
        while damping <= 1e4:
            found = terms.step(damping) @ matrix
            gained = before - _cost(found, points, values, moving, terms)
            if gained > 0:
                break
            damping = max(damping, 1e-4) * 8
        else:
            break
        moved = np.linalg.norm(found[:3, 3] - matrix[:3, 3]) + 100 * np.abs(found[:3, :3] - matrix[:3, :3]).max()
        matrix, damping = found, damping / 4
        if moved < 0.005 * fixed.step_mm or gained < 1e-6:
            break
    return matrix


@dataclass(frozen=True, eq=False)
class _Terms:
    """The linear equations of a step for rotation and translation (6) and the linear change of intensities (2).

    Attributes:
        normal: Matrix (8, 8).
        right: Right side (8,).
        centre: Point that is rotated about, RAS mm of the moving image.
        gain: Gain of the moving image's intensities.
        offset: Their offset.
        spread: Robust standard deviation of what is left.
    """

    normal: Array
    right: Array
    centre: Array
    gain: float
    offset: float
    spread: float

    @classmethod
    def at(cls, matrix: Array, points: Array, values: Array, moving: _Level) -> _Terms | None:
        """The equations at a position; None where the images hardly overlap."""
        there = points @ matrix[:3, :3].T + matrix[:3, 3]
        seen, slopes, inside = moving.sampled(there)
        if inside.sum() < _LEAST_POINTS:
            return None
        there, seen, slopes, wanted = there[inside], seen[inside], slopes[inside], values[inside]
        gain, offset, spread = _linear(seen, wanted)
        left = wanted - gain * seen - offset
        weights = _tukey(left / spread)
        centre = there.mean(axis=0)
        slopes = gain * slopes
        design = np.column_stack([np.cross(there - centre, slopes), slopes, seen, np.ones(len(seen))])
        weighted = design * weights[:, None]
        return cls(design.T @ weighted, weighted.T @ left, centre, gain, offset, spread)

    def step(self, damping: float) -> Array:
        """The motion (4, 4) to make; none if nothing tells one."""
        normal = self.normal.copy()
        normal[np.diag_indices(8)] *= 1 + damping
        motion = np.eye(4)
        try:
            change = np.linalg.solve(normal, self.right)
        except np.linalg.LinAlgError:
            return motion
        motion[:3, :3] = _rotation(np.clip(change[:3], -0.2, 0.2))
        motion[:3, 3] = self.centre - motion[:3, :3] @ self.centre + change[3:6]
        return motion


def _rotation(vector: Array) -> Array:
    """The rotation by a vector (Rodrigues)."""
    from scipy.spatial.transform import Rotation

    found: Array = Rotation.from_rotvec(vector).as_matrix()
    return found


def _linear(seen: Array, wanted: Array) -> tuple[float, float, float]:
    """Gain and offset that bring one set of values nearest to another, few far ones left out; and the robust spread."""
    gain, offset = _fitted(seen, wanted, np.ones(len(seen)))
    for _ in range(_ROUNDS):
        left = wanted - gain * seen - offset
        spread = 1.4826 * float(np.median(np.abs(left))) + _LEAST_SPREAD
        gain, offset = _fitted(seen, wanted, _tukey(left / spread))
    return gain, offset, spread


def _fitted(seen: Array, wanted: Array, weights: Array) -> tuple[float, float]:
    """The weighted line of least squares."""
    total = float(weights.sum())
    if total <= 0:
        return 0.0, float(wanted.mean())
    a, b = float(weights @ seen) / total, float(weights @ wanted) / total
    variance = float(weights @ (seen - a) ** 2) / total
    gain = float(weights @ ((seen - a) * (wanted - b))) / total / variance if variance > 1e-12 else 0.0
    return gain, b - gain * a


def _tukey(scaled: Array) -> Array:
    """The weight of each difference, in robust standard deviations: 1 for none, 0 from 4.685 on."""
    weights: Array = np.clip(1 - (scaled / _TUKEY) ** 2, 0, None) ** 2
    return weights


def _cost(matrix: Array, points: Array, values: Array, moving: _Level, terms: _Terms) -> float:
    """The mean of Tukey's loss, 0 to 1, and more where the images share less, so that leaving one gains nothing."""
    seen, _, inside = moving.sampled(points @ matrix[:3, :3].T + matrix[:3, 3], slopes=False)
    if inside.sum() < _LEAST_POINTS:
        return math.inf
    seen, wanted = seen[inside], values[inside]
    gain, offset = _fitted(seen, wanted, _tukey((wanted - terms.gain * seen - terms.offset) / terms.spread))
    loss = 1 - np.clip(1 - ((wanted - gain * seen - offset) / (_TUKEY * terms.spread)) ** 2, 0, None) ** 3
    return float(loss.mean()) + 0.5 * max(0.0, 0.7 - float(inside.mean()))


def _correlation(matrix: Array, points: Array, values: Array, moving: _Level) -> tuple[float, float]:
    seen, _, inside = moving.sampled(points @ matrix[:3, :3].T + matrix[:3, 3], slopes=False)
    overlap = float(inside.mean()) if len(inside) else 0.0
    if inside.sum() < _LEAST_POINTS:
        return -1.0, overlap
    a, b = seen[inside] - seen[inside].mean(), values[inside] - values[inside].mean()
    norm = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return (float((a * b).sum()) / norm if norm > 0 else -1.0), overlap


def _agreement(matrix: Array, fixed: _Level, moving: _Level) -> tuple[float, float]:
    """Normalised cross-correlation and overlap on the grid of a level."""
    points, values = fixed.points
    return _correlation(matrix, points, values, moving)


def _residual_mm(matrix: Array, fixed: _Level, moving: _Level) -> float:
    """The median shift that blocks of about 40 mm would still need (Lucas-Kanade), at most 20 mm each."""
    from scipy.ndimage import uniform_filter

    index = np.indices(fixed.voxels.shape).reshape(3, -1).T.astype(np.float64)
    points = index @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
    seen, slopes, inside = moving.sampled(points @ matrix[:3, :3].T + matrix[:3, 3])
    slopes = slopes @ matrix[:3, :3]
    known = (inside & fixed.body.ravel()).astype(np.float64)
    if known.sum() < _LEAST_POINTS:
        return math.nan
    wanted = fixed.voxels.ravel().astype(np.float64)
    gain, offset, _ = _linear(seen[known > 0], wanted[known > 0])
    left, slopes = (wanted - gain * seen - offset) * known, gain * slopes * known[:, None]
    spacing = np.linalg.norm(fixed.affine[:3, :3], axis=0)
    size = [max(3, round(10 * fixed.step_mm / mm)) for mm in spacing]
    stride = tuple(slice(n // 2, None, n) for n in size)

    def blocks(field: Array) -> Array:
        found: Array = uniform_filter(field.reshape(fixed.voxels.shape), size, mode="constant")[stride].ravel()
        return found

    share = blocks(known)
    squares = np.stack([[blocks(slopes[:, i] * slopes[:, j]) for j in range(3)] for i in range(3)])
    pulls = np.stack([blocks(slopes[:, i] * left) for i in range(3)])
    shifts = []
    for place in np.flatnonzero(share > 0.3):
        of_block: Array = squares[:, :, place]
        values = np.linalg.eigvalsh(of_block)
        if values[0] > 0.02 * values[-1] > 0:
            shifts.append(min(float(np.linalg.norm(np.linalg.solve(of_block, pulls[:, place]))), 20.0))
    return float(np.median(shifts)) if shifts else math.nan


def _rows(matrix: NDArray[Any]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in matrix)


def _failed(reason: str, began: float, ncc: float = math.nan) -> Registration:
    return Registration(_rows(np.eye(4)), ncc, 0.0, math.nan, time.perf_counter() - began, reason)
