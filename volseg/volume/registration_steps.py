"""The steps of a rigid alignment: images on coarser grids, Gauss-Newton steps by Tukey's biweight, and what is left."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from volseg.volume.volume import Volume

Array = NDArray[np.float64]

_POINTS = 12_000
_BODY = 0.1  # fraction of the robust range above which a voxel is of the body
_LEAST_POINTS = 50
_TUKEY, _ROUNDS, _LEAST_SPREAD = 4.685, 2, 0.01


@dataclass(frozen=True, eq=False)
class Level:
    """An image on a coarser grid: voxels scaled to about 0 to 1, affine, and the mask of the body."""

    voxels: NDArray[np.float32]
    affine: Array
    body: NDArray[np.bool_]
    step_mm: float

    @classmethod
    def of(cls, volume: Volume, step_mm: float) -> Level:
        """The level of a volume at a spacing of about `step_mm`."""
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


def starts(fixed: Level, moving: Level) -> list[Array]:
    """As the files say; with the bodies' middles on one another; and the latter higher or lower by 40 mm."""
    found = [np.eye(4)]
    for along in (0.0, -40.0, 40.0):
        start = np.eye(4)
        start[:3, 3] = moving.middle - fixed.middle + (0, 0, along)
        found.append(start)
    return found


def refine(matrix: Array, fixed: Level, moving: Level, *, steps: int) -> Array:
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
    def at(cls, matrix: Array, points: Array, values: Array, moving: Level) -> _Terms | None:
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


def _cost(matrix: Array, points: Array, values: Array, moving: Level, terms: _Terms) -> float:
    """The mean of Tukey's loss, 0 to 1, and more where the images share less, so that leaving one gains nothing."""
    seen, _, inside = moving.sampled(points @ matrix[:3, :3].T + matrix[:3, 3], slopes=False)
    if inside.sum() < _LEAST_POINTS:
        return math.inf
    seen, wanted = seen[inside], values[inside]
    gain, offset = _fitted(seen, wanted, _tukey((wanted - terms.gain * seen - terms.offset) / terms.spread))
    loss = 1 - np.clip(1 - ((wanted - gain * seen - offset) / (_TUKEY * terms.spread)) ** 2, 0, None) ** 3
    return float(loss.mean()) + 0.5 * max(0.0, 0.7 - float(inside.mean()))


def _correlation(matrix: Array, points: Array, values: Array, moving: Level) -> tuple[float, float]:
    seen, _, inside = moving.sampled(points @ matrix[:3, :3].T + matrix[:3, 3], slopes=False)
    overlap = float(inside.mean()) if len(inside) else 0.0
    if inside.sum() < _LEAST_POINTS:
        return -1.0, overlap
    a, b = seen[inside] - seen[inside].mean(), values[inside] - values[inside].mean()
    norm = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return (float((a * b).sum()) / norm if norm > 0 else -1.0), overlap


def agreement(matrix: Array, fixed: Level, moving: Level) -> tuple[float, float]:
    """Normalised cross-correlation and overlap on the grid of a level."""
    points, values = fixed.points
    return _correlation(matrix, points, values, moving)


def residual_mm(matrix: Array, fixed: Level, moving: Level) -> float:
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
