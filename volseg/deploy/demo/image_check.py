"""Checks of an uploaded volume: its size, and that it is no mask or label map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import VolumeError
from volseg.volume import Affine, spacing_mm

MAX_VOXELS = 300_000_000  # 512 x 512 x 1144
_LOOKED_AT = 2_000_000  # voxels that are checked, in whole slices
_LABELS = 256  # largest number of values of a label map
# Fraction of equal neighbours outside the background. Measured: at most 0.30 in 8-bit radiographs, scans and tissue, at
# least 0.75 in label maps, masks saved as JPEG, and single nuclei.
_PATCHY = 0.5


def check_grid(shape: Sequence[int], affine: Affine, *, grid_mm: Sequence[float], name: str) -> None:
    """Refuse a grid with too many voxels, as stored or as resampled for the network, before anything is read.

    Args:
        shape: Number of voxels along X, Y, Z, and maybe of channels.
        affine: Affine to RAS mm.
        grid_mm: Spacing in mm of the network's grid along the axes of the body.
        name: Name of the file.

    Raises:
        VolumeError: There are too many voxels.

    >>> check_grid((512, 512, 400), np.eye(4), grid_mm=(1, 1, 1), name="a")
    >>> check_grid((400, 400, 100), np.diag([5.0, 5, 5, 1]), grid_mm=(1, 1, 1), name="a")
    Traceback (most recent call last):
    volseg.errors.VolumeError: a has 2000 million voxels on the network's grid of 1 x 1 x 1 mm, more than 300; cut it
    """
    stored = math.prod(int(n) for n in shape)
    if stored > MAX_VOXELS:
        raise VolumeError(f"{name} has {stored / 1e6:.0f} million voxels, more than {MAX_VOXELS // 10**6}; cut it")
    axes = np.abs(affine[:3, :3]).argmax(axis=0)  # voxel axis -> the axis of the body it runs along
    sizes = zip(shape[:3], spacing_mm(affine), axes, strict=False)
    resampled = math.prod(max(1.0, n * mm / grid_mm[axis]) for n, mm, axis in sizes)
    if resampled > MAX_VOXELS:
        grid = " x ".join(f"{mm:g}" for mm in grid_mm)
        raise VolumeError(
            f"{name} has {resampled / 1e6:.0f} million voxels on the network's grid of {grid} mm, more than "
            f"{MAX_VOXELS // 10**6}; cut it"
        )


def check_voxels(voxels: NDArray[Any], *, name: str) -> None:
    """Refuse a volume that holds one value only, or looks like a mask or a label map.

    Two values mean a mask; whole numbers in patches, apart from the background, mean a label map.

    Args:
        voxels: Voxels (X, Y, Z).
        name: Name of the file.

    Raises:
        VolumeError: It does.

    >>> check_voxels(np.arange(1000).reshape(10, 10, 10), name="a")
    >>> check_voxels(np.kron(np.arange(8).reshape(2, 2, 2), np.ones((9, 9, 9))), name="a.nii")
    Traceback (most recent call last):
    volseg.errors.VolumeError: a.nii looks like a mask or label map (8 whole numbers in patches); upload the image
    """
    x, y, z = voxels.shape
    step = max(1, z * x * y // _LOOKED_AT)
    looked = voxels[:, :, ::step] if z > 1 else voxels
    values, counts = np.unique(looked, return_counts=True)
    if len(values) <= 2 and looked.size < voxels.size:  # perhaps only the slices that are looked at, such as air
        looked = voxels
        values, counts = np.unique(looked, return_counts=True)
    if len(values) == 1:
        raise VolumeError(f"{name} holds nothing but the value {values[0]:g}; upload an image")
    if len(values) == 2:
        raise VolumeError(f"{name} looks like a mask (it holds {values[0]:g} and {values[1]:g} only); upload the image")
    if len(values) > _LABELS or not np.array_equal(values, np.rint(values)):
        return
    background = values[counts.argmax()]
    equal = pairs = 0
    for axis in (0, 1):
        first, second = (np.moveaxis(looked, axis, 0)[cut] for cut in (slice(None, -1), slice(1, None)))
        counted = (first != background) | (second != background)
        pairs += int(counted.sum())
        equal += int((counted & (first == second)).sum())
    if equal > _PATCHY * pairs:
        raise VolumeError(
            f"{name} looks like a mask or label map ({len(values)} whole numbers in patches); upload the image"
        )
