"""Margins in mm: how far a prediction must grow to contain the whole reference, on grids of any spacing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from volseg.errors import GeometryError
from volseg.metrics.overlap import Mask, check_spacing
from volseg.metrics.surface import bounding_box

MARGIN_DEFINITION = (
    "Margin = largest distance in mm from a voxel centre of the reference to the nearest voxel centre of the "
    "prediction: what the prediction must grow by, the same in all directions of space, to contain the whole reference."
)
_ROUNDING_MM = 1e-5


def margin_to_contain(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> float:
    """The margin of `MARGIN_DEFINITION` in mm: 0 if nothing is outside, infinite if nothing was predicted.

    Args:
        prediction: Mask (X, Y, Z).
        reference: Mask of the same shape.
        spacing_mm: Distance in mm between voxel centres along X, Y, Z.

    Raises:
        GeometryError: The shapes differ, or a spacing is not above 0.

    >>> line = np.zeros((5, 1, 1), bool)
    >>> line[:2] = True
    >>> margin_to_contain(line, np.ones((5, 1, 1), bool), (2.0, 1.0, 1.0))
    6.0
    """
    from scipy.ndimage import distance_transform_edt

    if prediction.shape != reference.shape:
        raise GeometryError(f"a prediction of shape {prediction.shape} and a reference of {reference.shape}")
    spacing = check_spacing(spacing_mm, prediction.ndim)
    outside = reference & ~prediction
    if not outside.any():
        return 0.0
    if not prediction.any():
        return math.inf
    box = bounding_box(prediction, outside)
    distance = distance_transform_edt(~prediction[box], sampling=spacing)
    return float(distance[outside[box]].max())


def grown(mask: Mask, margin_mm: float, spacing_mm: Sequence[float]) -> Mask:
    """All voxels whose centre lies within a margin of a voxel centre of the mask: dilation by a ball in mm.

    Args:
        mask: Mask (X, Y, Z); it stays as it is.
        margin_mm: Margin in mm, 0 or more.
        spacing_mm: Distance in mm between voxel centres along X, Y, Z.

    Raises:
        GeometryError: A spacing is not above 0.

    >>> dot = np.zeros((5, 3, 1), bool)
    >>> dot[2, 1] = True
    >>> grown(dot, 1.0, (1.0, 2.0, 1.0))[:, :, 0].astype(int).T.tolist()
    [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    """
    from scipy.ndimage import distance_transform_edt

    spacing = check_spacing(spacing_mm, mask.ndim)  # SciPy's distances by a negative one are wrong, and nothing says so
    result: NDArray[np.bool_] = mask.copy()
    if not mask.any() or margin_mm <= 0:
        return result
    reach = [math.ceil(margin_mm / mm) for mm in spacing]
    box = tuple(
        slice(max(0, one.start - more), min(length, one.stop + more))
        for one, more, length in zip(bounding_box(mask), reach, mask.shape, strict=True)
    )
    result[box] = distance_transform_edt(~mask[box], sampling=spacing) <= margin_mm + _ROUNDING_MM
    return result
