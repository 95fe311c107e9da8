"""The fingerprint of a scan: spacing, field of view and intensities, by which it is compared with calibrated ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from volseg.volume import Volume

SCAN_FEATURES = {
    "spacing": "logarithm of the voxel spacing in mm, from left to right, from back to front, from foot to head",
    "extent": "logarithm of the field of view in mm along the same axes",
    "range": "logarithm of the 99th less the 1st percentile",
    "middle": "place of the median within that range",
    "lowest": "share of voxels within a thousandth of the range of the lowest value",
    "rough": "logarithm of the mean second difference between neighbours along an axis, over the range",
    "uneven": "standard deviation of the means of blocks, over the range",
    "tilt": "difference of the means of the two halves along an axis, over the range",
}
_AXES = "xyz"
_MOST_VOXELS = 2**21  # of which percentiles are taken; larger images are thinned
_BLOCKS = 6
_LEAST = 1e-6


def scan_features(channels: Sequence[Volume]) -> dict[str, float]:
    """The numbers of `SCAN_FEATURES` of a scan, by names such as `spacing x` and `rough 0 z` (of channel 0).

    Axes are those of the patient, whatever the order of the voxels is. A number that is undefined is left out, such
    as a second difference of a single slice.

    Args:
        channels: One volume (X, Y, Z) per channel, on one grid.

    >>> image = np.arange(64.0).reshape(4, 4, 4)
    >>> found = scan_features([Volume(image, np.diag([1.0, 1.0, 2.0, 1.0]))])
    >>> round(found["spacing z"], 3), round(found["extent z"], 3), round(found["middle 0"], 3)
    (0.693, 2.079, 0.5)
    """
    turned = [_turned(channel) for channel in channels]
    found: dict[str, float] = {}
    for axis, name in enumerate(_AXES):
        voxels, spacing_mm = turned[0]
        found[f"spacing {name}"] = math.log(spacing_mm[axis])
        found[f"extent {name}"] = math.log(spacing_mm[axis] * voxels.shape[axis])
    for number, (voxels, _) in enumerate(turned):
        found |= {_named(name, number): value for name, value in _intensities(voxels).items()}
    return found


def _named(name: str, channel: int) -> str:
    feature, _, axis = name.partition(" ")
    return f"{feature} {channel} {axis}".strip()


def _turned(volume: Volume) -> tuple[NDArray[np.floating], tuple[float, ...]]:
    """The voxels along the patient's axes, in RAS directions, and their spacing in mm; oblique axes are the nearest."""
    directions = np.asarray(volume.affine_ras, np.float64)[:3, :3]
    strength = np.abs(directions / np.linalg.norm(directions, axis=0))
    order = [0, 0, 0]
    free_rows, free_columns = [0, 1, 2], [0, 1, 2]
    while free_rows:
        row, column = max(
            ((row, column) for row in free_rows for column in free_columns), key=lambda pair: strength[pair]
        )
        order[row] = column
        free_rows.remove(row)
        free_columns.remove(column)
    voxels = np.transpose(np.asarray(volume.voxels), order)
    flips = tuple(
        slice(None, None, -1) if directions[row, column] < 0 else slice(None) for row, column in enumerate(order)
    )
    return voxels[flips], tuple(float(np.linalg.norm(directions[:, column])) for column in order)


def _intensities(voxels: NDArray[np.floating]) -> dict[str, float]:
    thin = voxels[tuple(slice(None, None, step) for step in _steps(voxels.shape))].astype(np.float64)
    finite = thin[np.isfinite(thin)]
    if not finite.size:
        return {}
    low, middle, high = np.percentile(finite, (1, 50, 99)).tolist()
    width = high - low
    if not width > 0:
        return {}
    found = {
        "range": math.log(width),
        "middle": (middle - low) / width,
        "lowest": float((finite <= finite.min() + width / 1000).mean()),
    }
    for axis, name in enumerate(_AXES):
        # Neighbours along the axis itself are never thinned.
        steps = [1 if other == axis else step for other, step in enumerate(_steps(voxels.shape))]
        lines = voxels[tuple(slice(None, None, step) for step in steps)]
        if lines.shape[axis] < 3:
            continue
        lines = np.clip((np.moveaxis(lines, axis, 0).astype(np.float64) - low) / width, 0, 1)
        second = np.abs(lines[2:] - 2 * lines[1:-1] + lines[:-2])
        found[f"rough {name}"] = math.log(float(np.nanmean(second)) + _LEAST)
        half = lines.shape[0] // 2
        found[f"tilt {name}"] = float(np.nanmean(lines[-half:]) - np.nanmean(lines[:half]))
    found["uneven"] = float(np.std(_block_means(np.clip((thin - low) / width, 0, 1))))
    return found


def _steps(shape: Sequence[int]) -> list[int]:
    """The step along each axis that leaves at most `_MOST_VOXELS`, the same for all but short axes."""
    step = 1
    while math.prod(-(-side // min(step, max(1, side // 16))) for side in shape) > _MOST_VOXELS and step < max(shape):
        step += 1
    return [min(step, max(1, side // 16)) for side in shape]


def _block_means(voxels: NDArray[np.float64]) -> NDArray[np.float64]:
    for axis in range(3):
        count = min(_BLOCKS, voxels.shape[axis])
        starts = (np.arange(count) * voxels.shape[axis]) // count
        sizes = np.diff([*starts, voxels.shape[axis]])
        shape = [-1 if other == axis else 1 for other in range(3)]
        voxels = np.add.reduceat(np.nan_to_num(voxels), starts, axis=axis) / sizes.reshape(shape)
    return voxels
