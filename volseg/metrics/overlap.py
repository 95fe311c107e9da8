"""Overlap of two masks: Dice, volume, and which of the two is there at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from volseg.errors import GeometryError, LabelError

Mask = NDArray[np.bool_]
Outcome = Literal["both present", "missed", "invented", "both empty"]

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

DICE_DEFINITION = (
    "Dice = 2 |P and R| / (|P| + |R|) over voxels of the prediction P and the reference R (Dice 1945, "
    "doi:10.2307/1932409). Missed (P empty, R not) and invented (R empty, P not) count as 0; both empty is undefined "
    "and left out."
)
JACCARD_DEFINITION = (
    "Jaccard = |P and R| / |P or R| over voxels (Jaccard 1912, doi:10.1111/j.1469-8137.1912.tb05611.x). Missed and "
    "invented count as 0; both empty is undefined and left out."
)
PRECISION_DEFINITION = (
    "Precision = |P and R| / |P|, the share of the prediction that is right. Defined only where something is predicted."
)
RECALL_DEFINITION = (
    "Recall = |P and R| / |R|, the share of the reference that is found. Defined only where the reference is present."
)


def dice(prediction: Mask, reference: Mask) -> float:
    """Dice coefficient of two masks, 0 to 1; NaN where both are empty.

    Source: Dice 1945, doi:10.2307/1932409.

    Args:
        prediction: (...), True inside.
        reference: same shape, True inside.

    Raises:
        LabelError: a mask that is not boolean.
        GeometryError: shapes that differ.

    >>> dice(np.array([True, True, True, False]), np.array([False, True, False, False]))
    0.5
    >>> dice(np.zeros(3, bool), np.zeros(3, bool))
    nan
    """
    check_masks(prediction, reference)
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(reference))
    return 2 * int(np.count_nonzero(prediction & reference)) / total if total else math.nan


def outcome(prediction: Mask, reference: Mask) -> Outcome:
    """Which of the two masks holds anything: `both present`, `missed`, `invented` or `both empty`.

    Args:
        prediction: (...), True inside.
        reference: same shape, True inside.

    Raises:
        LabelError: a mask that is not boolean.
        GeometryError: shapes that differ.

    >>> outcome(np.zeros(3, bool), np.ones(3, bool))
    'missed'
    """
    check_masks(prediction, reference)
    if reference.any():
        return "both present" if prediction.any() else "missed"
    return "invented" if prediction.any() else "both empty"


def volume_ml(mask: Mask, spacing_mm: Sequence[float]) -> float:
    """Volume of a mask in millilitres: its voxels times the volume of one.

    Args:
        mask: (X, Y, Z), True inside.
        spacing_mm: mm along X, Y, Z.

    Raises:
        LabelError: a mask that is not boolean.
        GeometryError: a spacing that does not fit the mask.

    >>> volume_ml(np.ones((10, 10, 10), bool), (1.5, 1.5, 3))
    6.75
    """
    check_masks(mask)
    return int(np.count_nonzero(mask)) * math.prod(check_spacing(spacing_mm, mask.ndim)) / 1000


def check_masks(*masks: Mask) -> None:
    """Raise where a mask is not boolean (LabelError) or shapes differ (GeometryError).

    >>> check_masks(np.zeros(3, np.uint8))
    Traceback (most recent call last):
    ...
    volseg.errors.LabelError: the mask has type uint8, expected bool; a label map is compared region by region...
    """
    for mask in masks:
        if mask.dtype != np.bool_:
            raise LabelError(
                f"the mask has type {mask.dtype}, expected bool; a label map is compared region by region, see "
                "LabelTable.masks"
            )
        if mask.shape != masks[0].shape:
            raise GeometryError(
                f"the masks have the shapes {masks[0].shape} and {mask.shape}; bring both onto one grid first"
            )


def check_spacing(spacing_mm: Sequence[float], axes: int) -> tuple[float, ...]:
    """Return the spacing as floats, one for each axis, or raise GeometryError.

    >>> check_spacing((1.5, 1.5, 3), 3)
    (1.5, 1.5, 3.0)
    """
    spacing = tuple(float(step) for step in spacing_mm)
    if len(spacing) != axes or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise GeometryError(f"the spacing is {spacing}, expected {axes} lengths in mm, each above 0")
    return spacing
