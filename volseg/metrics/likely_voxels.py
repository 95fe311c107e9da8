"""The voxels that are likely to belong to a region, and the sum over all: one pass, a part of the volume at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.metrics.temperature import DOUBTFUL, Scaling

_ROW = 1024  # voxels; the sum of so few keeps six digits in single precision
_PART = 2**16  # voxels looked at together, which stay in the processor's cache


def sum_voxels(flat: NDArray[np.floating[Any]]) -> float:
    """The sum of probabilities (N,), to six digits at least, in a third of the time of `numpy.sum`.

    >>> sum_voxels(np.full(3000, 0.5, np.float32))
    1500.0
    """
    if flat.dtype.itemsize < 4:
        return float(flat.sum(dtype=np.float64))
    whole = flat.size // _ROW * _ROW
    rows = flat[:whole].reshape(-1, _ROW) @ np.ones(_ROW, flat.dtype)  # a product with ones is the fastest sum of rows
    return float(rows.sum(dtype=np.float64)) + float(flat[whole:].sum(dtype=np.float64))


def likely_voxels(
    flat: NDArray[np.floating[Any]], bound: float, scaling: Scaling
) -> tuple[NDArray[np.floating[Any]], float]:
    """Pick the corrected probabilities above a bound, and sum those of all voxels.

    Args:
        flat: Probability (N,) of each voxel, 0 to 1.
        bound: Corrected probability that a voxel must exceed.
        scaling: Correction of the probabilities.

    Returns:
        Corrected probabilities (n,) of the voxels above the bound, in single precision at least, and the sum of the
        corrected probabilities of all.

    >>> values, total = likely_voxels(np.array([0.9, 0.1, 0.2, 0.7]), 0.5, Scaling())
    >>> values.tolist(), round(total, 6)
    ([0.9, 0.7], 1.9)
    """
    picked = [flat[:0]]
    if not scaling.changes:
        for start in range(0, flat.size, _PART):
            part = flat[start : start + _PART]
            picked.append(part[np.flatnonzero(part > bound)])  # indices are faster than a mask
        return single(np.concatenate(picked)), sum_voxels(flat)
    # What is surely not of the region is multiplied by one number, and needs no correction voxel by voxel.
    low, lowest = scaling.factors[0], min(DOUBTFUL, scaling.threshold(bound))
    sums = []
    for start in range(0, flat.size, _PART):
        part = flat[start : start + _PART]
        some = part[np.flatnonzero(part > lowest)]
        corrected = scaling.apply(some)
        sums += [low * max(0.0, sum_voxels(part) - sum_voxels(some)), sum_voxels(corrected)]
        picked.append(corrected[np.flatnonzero(corrected > bound)])
    return single(np.concatenate(picked)), math.fsum(sums)


def single(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """The values (n,) in single precision at least."""
    return values.astype(np.promote_types(values.dtype, np.float32), copy=False)
