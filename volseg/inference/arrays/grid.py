"""The grid that a network sees, and the voxels of a file on it: what MONAI's `Orientationd` and `Spacingd` make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.volume import Affine

# Difference in mm up to which MONAI takes a spacing for the one that was asked for.
_SAME_MM = 1e-3
# Distance in voxels by which axes may run aslant and still count as parallel, when an image is resampled.
_ASLANT = 2e-5
# The same for the way back to the file's grid; and two grid points that count as one, as in `volseg.transforms`.
SAME = 1e-3


@dataclass(frozen=True)
class NetworkGrid:
    """The grid that a network sees, of axes that run to the right, to the front and to the head.

    Attributes:
        axes: Axis of the file that becomes each axis of the network.
        flipped: Whether that axis of the file is reversed.
        matrix: Matrix (4, 4) from voxel index of this grid to that of the turned, not resampled volume; None if they
            are the same grid.
        shape: Shape (X, Y, Z).
        affine_ras: Affine (4, 4) of this grid.
    """

    axes: tuple[int, ...]
    flipped: tuple[bool, ...]
    matrix: NDArray[np.float64] | None
    shape: tuple[int, int, int]
    affine_ras: Affine

    @classmethod
    def of(cls, shape: Sequence[int], affine_ras: Affine, spacing_mm: Sequence[float]) -> NetworkGrid:
        """The grid of a spacing in mm for a file of that shape and affine (RAS mm)."""
        import nibabel

        affine = np.array(affine_ras, dtype=np.float64)
        towards = nibabel.io_orientation(affine)
        axes = tuple(int(np.flatnonzero(towards[:, 0] == axis)[0]) for axis in range(3))
        flipped = tuple(bool(towards[axis, 1] < 0) for axis in axes)
        for axis, reverse in zip(axes, flipped, strict=True):
            if reverse:
                affine[:, 3] += affine[:, axis] * (shape[axis] - 1)
                affine[:, axis] *= -1
        turned = affine[:, [*axes, 3]]
        x, y, z = (int(shape[axis]) for axis in axes)
        source = (x, y, z)
        target, size = _spaced(source, turned, spacing_mm)
        matrix: NDArray[np.float64] = np.linalg.solve(turned, target).astype(np.float64)
        same = np.allclose(turned, target, atol=_SAME_MM) or np.allclose(matrix, np.eye(4), atol=_SAME_MM)
        if size == source and same:
            return cls(axes, flipped, None, source, turned)
        return cls(axes, flipped, matrix, size, target)

    def turned(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """A view of a file's voxels (X, Y, Z) with turned axes."""
        cut = [slice(None)] * 3
        for axis, reverse in zip(self.axes, self.flipped, strict=True):
            cut[axis] = slice(None, None, -1 if reverse else 1)
        return voxels[tuple(cut)].transpose(self.axes)

    def resampled(self, turned: NDArray[np.float32]) -> NDArray[np.float32]:
        """A turned volume on this grid: linear, and constant beyond its edge; a new array unless nothing changes."""
        if self.matrix is None:
            return turned
        axes = parallel_axes(self.matrix, self.shape, _ASLANT)
        if axes == [0, 1, 2]:
            steps = [AxisStep.of(self.matrix, axis, axis, self.shape[axis], turned.shape[axis]) for axis in axes]
            for step in sorted(steps, key=lambda step: len(step.lower) / turned.shape[step.axis]):
                turned = step(turned)
            return turned
        return aslant(turned, self.matrix, self.shape)


def _spaced(
    shape: Sequence[int], affine: Affine, spacing_mm: Sequence[float]
) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """The affine and shape of a grid of a spacing over the same volume, without shear."""
    edges = affine[:3, :3]
    lengths = np.sqrt((edges**2).sum(axis=0))
    wanted = np.array([float(mm) for mm in spacing_mm])
    wanted = np.where(np.abs(lengths - wanted) <= _SAME_MM, lengths, wanted)
    # edges = rotation x upper triangle (shears and lengths): the rotation stays.
    triangle = np.linalg.cholesky(edges.T @ edges).T
    target = np.eye(4)
    target[:3, :3] = (edges @ np.linalg.inv(triangle)) * (np.sign(np.diag(triangle)) * np.abs(wanted))
    last = np.array(shape, dtype=np.float64) - 1
    corners = np.array([[x, y, z] for x in (0, last[0]) for y in (0, last[1]) for z in (0, last[2])]).T
    seen = np.linalg.solve(target[:3, :3], edges @ corners)
    size = np.round(np.ptp(seen, axis=1) + 1)
    lowest = [i for i in range(8) if np.allclose((seen - seen[:, i : i + 1]).min(axis=1), 0.0)]
    if lowest:
        target[:3, 3] = edges @ corners[:, lowest[0]] + affine[:3, 3]
    else:  # the middles lie on each other
        target[:3, 3] = edges @ ((last + 1) / 2) + affine[:3, 3] - target[:3, :3] @ (size / 2)
    x, y, z = (int(n) for n in size)
    return target, (x, y, z)


@dataclass(frozen=True)
class AxisStep:
    """Linear interpolation along one axis.

    Attributes:
        axis: Axis of the volume.
        lower: Index of the voxel before each new one.
        upper: Index of the voxel behind it.
        share: Weight (float32) of the voxel behind; None if all new voxels lie on old ones.
        idle: Whether nothing changes.
    """

    axis: int
    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    share: NDArray[np.float32] | None
    idle: bool

    @classmethod
    def of(
        cls, matrix: NDArray[np.float64], old: int, new: int, count: int, length: int, *, same: float = 1e-6
    ) -> AxisStep:
        """The step from an old axis of `length` voxels to a new one of `count`, by a matrix from new to old index."""
        places = (matrix[old, new] * np.arange(count) + matrix[old, 3]).clip(0, length - 1)
        lower = np.floor(places + same).astype(np.int64)
        share = places - lower
        on_voxels = bool((np.abs(share) < same).all())
        idle = on_voxels and np.array_equal(lower, np.arange(length))
        upper = np.minimum(lower + 1, length - 1)
        return cls(old, lower, upper, None if on_voxels else share.astype(np.float32), idle)

    def part(self, new: slice, first: int) -> AxisStep:
        """The step to some of the new voxels, from a volume that begins at the old voxel `first`."""
        share = None if self.share is None else self.share[new]
        return AxisStep(self.axis, self.lower[new] - first, self.upper[new] - first, share, False)

    def __call__(self, volume: NDArray[np.float32]) -> NDArray[np.float32]:
        """Interpolate a volume (X, Y, Z)."""
        if self.idle:
            return volume
        if self.share is None:
            return volume.take(self.lower, axis=self.axis)
        shape = list(volume.shape)
        shape[self.axis] = len(self.lower)
        made = np.empty(shape, np.float32)
        if self.axis == 0:
            for plane, lower, upper, share in zip(made, self.lower, self.upper, self.share, strict=True):
                np.subtract(volume[upper], volume[lower], out=plane)
                plane *= share
                plane += volume[lower]
            return made
        share = self.share.reshape([-1 if axis == self.axis else 1 for axis in (1, 2)])
        for into, plane in zip(made, volume, strict=True):
            before = plane.take(self.lower, axis=self.axis - 1)
            plane.take(self.upper, axis=self.axis - 1, out=into)
            into -= before
            into *= share
            into += before
        return made


def parallel_axes(matrix: NDArray[np.float64], shape: Sequence[int], aslant: float) -> list[int] | None:
    """The old axis along which each new axis runs; None if one leaves it by more than `aslant` voxels."""
    axes = [int(axis) for axis in np.abs(matrix[:3, :3]).argmax(axis=0)]
    off = np.abs(matrix[:3, :3]) * np.asarray(shape)
    off[axes, range(3)] = 0
    return axes if sorted(axes) == [0, 1, 2] and bool((off < aslant).all()) else None


def aslant(volume: NDArray[np.float32], matrix: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float32]:
    """A volume on a grid whose axes run aslant to its own: linear, and constant beyond its edge."""
    from scipy.ndimage import affine_transform

    made: NDArray[np.float32] = affine_transform(
        volume, matrix[:3, :3], matrix[:3, 3], tuple(shape), output=np.float32, order=1, mode="nearest"
    )
    return made
