"""What is known of a prediction without its reference: numbers of a region, from its probabilities and its decision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.metrics import Mask, bounding_box, box_with_neighbours, expected_dice, temper

Features = Mapping[str, float]
"""Numbers by name."""

_STEPS = 65535  # of the range 0 to 1, as in the files of probabilities that a calibration reads

REGION_FEATURES = {
    "expected_loss": "1 - expected Dice, of the probabilities at the region's temperature",
    "surface_entropy": "mean entropy in bits of the voxels on both sides of the decision's surface",
    "doubt": "sum of min(p, 1 - p) over the size of the decision",
    "log_ml": "natural logarithm of the predicted volume in ml",
}


def region_features(
    probability: NDArray[np.floating[Any]], mask: Mask, *, voxel_ml: float, temperature: float = 1.0
) -> dict[str, float]:
    """The numbers of `REGION_FEATURES`; none if nothing was predicted.

    Probabilities are rounded to steps of 1/65535, as in the files that a calibration reads: in a large image those
    below half a step add up to as much as a small region.

    Args:
        probability: Probability (X, Y, Z) of each voxel to belong to the region.
        mask: Decision of the same shape.
        voxel_ml: Volume of a voxel in ml.
        temperature: Temperature of the region, see `volseg.metrics.temper`.

    >>> mask = np.zeros((4, 4, 4), bool)
    >>> mask[1:3, 1:3, 1:3] = True
    >>> found = region_features(np.where(mask, 0.75, 0.0), mask, voxel_ml=0.001)
    >>> {name: round(value, 3) for name, value in found.items()}
    {'expected_loss': 0.143, 'surface_entropy': 0.203, 'doubt': 0.25, 'log_ml': -4.828}
    """
    size = int(np.count_nonzero(mask))
    if not size:
        return {}
    tempered = temper(np.rint(probability * probability.dtype.type(_STEPS)) / _STEPS, temperature)
    box = box_with_neighbours(bounding_box(mask), mask.shape)
    near = _surface(mask[box])
    on_surface = tempered[box][near].astype(np.float64)
    doubt = float(np.minimum(tempered, 1 - tempered).sum(dtype=np.float64))
    return {
        "expected_loss": 1 - expected_dice(tempered, mask),
        "surface_entropy": float(_entropy_bits(on_surface).mean()) if on_surface.size else 0.0,
        "doubt": doubt / size,
        "log_ml": math.log(size * voxel_ml),
    }


def _surface(mask: Mask) -> Mask:
    """The voxels that have a neighbour across a face on the other side of the decision."""
    near: Mask = np.zeros(mask.shape, bool)
    for axis in range(mask.ndim):
        low = tuple(slice(None, -1) if i == axis else slice(None) for i in range(mask.ndim))
        high = tuple(slice(1, None) if i == axis else slice(None) for i in range(mask.ndim))
        changes = mask[low] != mask[high]
        near[low] |= changes
        near[high] |= changes
    return near


def _entropy_bits(p: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(p, 1e-12, 1 - 1e-12)
    found: NDArray[np.float64] = -(inside * np.log2(inside) + (1 - inside) * np.log2(1 - inside))
    return found
