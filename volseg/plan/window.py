"""The training window that fits a cohort and a network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from volseg.errors import BundleError
from volseg.volume import slice_axis

# Ratio of voxel sizes above which the length of a window in mm counts. Below it the proportions of the image serve
# better: on the phantom (3.62 x 3.62 x 3 mm) lengths in mm give 64 x 32 x 64, 30 % of the image; 64 x 64 x 32 has 37 %.
_THICK = 2
# Number of slices of a window for a network that takes slices in turn: its neighbours in the window are the context.
_SLICES = 8


def fit_roi(
    shape: Sequence[int],
    *,
    divisor: int | Sequence[int],
    voxels: int,
    slices: int | None = None,
    spacing_mm: Sequence[float] | None = None,
) -> list[int]:
    """Choose the training window for a cohort: near its median shape, within a budget, on the network's grid.

    Each axis is rounded to the nearest multiple of its divisor; then the largest axis shrinks until at most `voxels`
    remain: the largest in voxels; or in mm if slices are more than twice as thick as the smallest side of a voxel, so
    that the window is as long in the body along each axis. If the network halves an axis (divisor above 1), two
    multiples stay along one such axis, since normalisation over a single voxel in the deepest stage is undefined. An
    axis that is not halved may be one voxel.

    A network that takes slices in turn gains nothing from more slices, but from larger ones: the axis that they lie
    along shrinks before the others, down to 8.

    Args:
        shape: Median number of voxels along X, Y, Z.
        divisor: Number of which each axis must be a multiple; one for all, or one per axis.
        voxels: Largest number of voxels.
        slices: Axis along which slices lie, for a network that takes them one by one; None for others.
        spacing_mm: Spacing in mm along X, Y, Z; None (the default) for that of cubes.

    >>> fit_roi([35, 50, 36], divisor=32, voxels=64 * 64 * 32)
    [32, 64, 32]
    >>> fit_roi([266, 266, 1], divisor=[32, 32, 1], voxels=256 * 256)
    [256, 256, 1]
    >>> fit_roi([266, 266, 144], divisor=[32, 32, 1], voxels=2**20, slices=2)
    [256, 256, 16]
    >>> fit_roi([512, 512, 180], divisor=16, voxels=2**20, spacing_mm=[0.76, 0.76, 2.5])
    [144, 144, 48]
    """
    sizes_mm = [1.0] * len(shape) if spacing_mm is None else [float(mm) for mm in spacing_mm]
    if max(sizes_mm) <= _THICK * min(sizes_mm):
        sizes_mm = [1.0] * len(shape)
    steps = axis_divisors(divisor, axes=len(shape))
    roi = [max(1, math.floor(n / step + 0.5)) * step for n, step in zip(shape, steps, strict=True)]
    roi = grow_roi(roi, steps, shape=shape)
    while math.prod(roi) > voxels:
        smaller = [[n - steps[i] if i == axis else n for i, n in enumerate(roi)] for axis in range(len(roi))]
        fits = [axis for axis, to in enumerate(smaller) if to[axis] and grow_roi(to, steps, shape=shape) == to]
        if not fits:
            break
        first = slices is not None and slices in fits and smaller[slices][slices] >= _SLICES
        roi = smaller[
            slices if first and slices is not None else max(fits, key=lambda axis: (sizes_mm[axis] * roi[axis], axis))
        ]
    return roi


def fit_axis(spacing_mm: Sequence[float], shape: Sequence[int]) -> int:
    """The axis that slices lie along, for a network that takes them one by one: see `volseg.volume.slice_axis`.

    Args:
        spacing_mm: Spacing in mm along X, Y, Z, which run right, anterior, superior.
        shape: Median number of voxels along these axes.

    >>> fit_axis([1.5, 1.5, 3], [266, 266, 144]), fit_axis([3, 0.5, 0.5], [30, 320, 320])  # axial, sagittal
    (2, 0)
    """
    return slice_axis(np.diag([*spacing_mm, 1.0]), shape)


def divisors_in_plane(divisor: int, *, axis: int) -> list[int]:
    """The number of which a window must be a multiple along each axis: `divisor` in the slice plane, 1 across it.

    >>> divisors_in_plane(16, axis=2), divisors_in_plane(16, axis=0)
    ([16, 16, 1], [1, 16, 16])
    """
    return [1 if of == axis else divisor for of in range(3)]


def grow_roi(roi: Sequence[int], divisors: Sequence[int], *, shape: Sequence[int]) -> list[int]:
    """The window, with a second multiple along its longest halved axis if all would shrink to a single voxel.

    >>> grow_roi([32, 32, 7], [32, 32, 1], shape=[20, 30, 7])
    [32, 64, 7]
    """
    grown = list(roi)
    halved = [axis for axis, step in enumerate(divisors) if step > 1]
    if halved and all(roi[axis] == divisors[axis] for axis in halved):
        axis = max(halved, key=lambda axis: (shape[axis], -axis))
        grown[axis] += divisors[axis]
    return grown


def axis_divisors(divisor: int | Sequence[int], *, axes: int = 3) -> list[int]:
    """One divisor per axis.

    Raises:
        BundleError: The numbers are not whole, not above 0, or not one per axis.

    >>> axis_divisors(32), axis_divisors([32, 32, 1])
    ([32, 32, 32], [32, 32, 1])
    """
    divisors = [divisor] * axes if isinstance(divisor, int) else list(divisor)
    if len(divisors) != axes or not all(isinstance(step, int) and step > 0 for step in divisors):
        raise BundleError(f"roi_divisor is {divisor!r}, expected a whole number or {axes} of them, such as [32, 32, 1]")
    return divisors


def check_roi(roi_size: object, *, divisor: int | Sequence[int]) -> list[int]:
    """Return the window if it is on the network's grid.

    Args:
        roi_size: Window size in voxels along X, Y, Z.
        divisor: Number of which each axis must be a multiple, or one number per axis; see `fit_roi`.

    Raises:
        BundleError: The window does not fit; the message names the nearest one that does.

    >>> check_roi([96, 96, 64], divisor=32), check_roi([256, 256, 1], divisor=[32, 32, 1])
    ([96, 96, 64], [256, 256, 1])
    """
    divisors = axis_divisors(divisor)
    if (
        not isinstance(roi_size, (list, tuple))
        or len(roi_size) != 3
        or not all(isinstance(n, int) and n > 0 for n in roi_size)
    ):
        example = ",".join(str(2 * step) for step in divisors)
        raise BundleError(f"roi_size must be three whole numbers such as [{example}], got {roi_size!r}")
    nearest = [max(1, round(n / step)) * step for n, step in zip(roi_size, divisors, strict=True)]
    nearest = grow_roi(nearest, divisors, shape=roi_size)
    if list(roi_size) != nearest:
        reason = f"its axes must be multiples of {divisors}, one of them at least twice"
        shown = str(nearest).replace(" ", "")
        raise BundleError(f"the network cannot take roi_size {list(roi_size)}: {reason}; try --roi_size {shown}")
    return list(roi_size)
