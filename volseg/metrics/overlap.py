"""Overlap of two masks: Dice and similar metrics, volume, and which of the two masks is empty."""

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

# Spacings whose ratio is below this factor count as equal, as in `volseg.volume.slice_axis`.
_THICKER = 1.01

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
    """Dice coefficient of two masks, 0 to 1; NaN if both are empty.

    Source: Dice 1945, doi:10.2307/1932409.

    Args:
        prediction: Mask (...), True inside.
        reference: Mask of the same shape, True inside.

    Raises:
        LabelError: A mask is not boolean.
        GeometryError: The shapes differ.

    >>> dice(np.array([True, True, True, False]), np.array([False, True, False, False]))
    0.5
    >>> dice(np.zeros(3, bool), np.zeros(3, bool))
    nan
    """
    check_masks(prediction, reference)
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(reference))
    return 2 * int(np.count_nonzero(prediction & reference)) / total if total else math.nan


def jaccard(prediction: Mask, reference: Mask) -> float:
    """Jaccard index (intersection over union), 0 to 1; NaN if both are empty.

    Source: Jaccard 1912, doi:10.1111/j.1469-8137.1912.tb05611.x. Arguments and errors as for `dice`.

    >>> jaccard(np.array([True, True, True, False]), np.array([False, True, False, False]))
    0.3333333333333333
    """
    check_masks(prediction, reference)
    return _ratio(prediction & reference, prediction | reference)


def precision(prediction: Mask, reference: Mask) -> float:
    """Fraction of the prediction that is right (positive predictive value), 0 to 1; NaN if nothing is predicted.

    Source: Taha 2015, doi:10.1186/s12880-015-0068-x. Arguments and errors as for `dice`.

    >>> precision(np.array([True, True, True, False]), np.array([False, True, False, True]))
    0.3333333333333333
    """
    check_masks(prediction, reference)
    return _ratio(prediction & reference, prediction)


def recall(prediction: Mask, reference: Mask) -> float:
    """Fraction of the reference that is found (sensitivity), 0 to 1; NaN if the reference is empty.

    Source: Taha 2015, doi:10.1186/s12880-015-0068-x. Arguments and errors as for `dice`.

    >>> recall(np.array([True, True, True, False]), np.array([False, True, False, True]))
    0.5
    """
    check_masks(prediction, reference)
    return _ratio(prediction & reference, reference)


def dice_by_slice(prediction: Mask, reference: Mask, *, slice_axis: int = -1) -> NDArray[np.float64]:
    """Dice of each slice, as `dice` of the two slices; NaN if both are empty.

    Args:
        prediction: Mask (X, Y, Z), True inside.
        reference: Mask of the same shape, True inside.
        slice_axis: Axis that counts the slices, by default the last.

    Returns:
        Dice values (slices,).

    Raises:
        LabelError: A mask is not boolean.
        GeometryError: The shapes differ.

    >>> prediction, reference = np.array([[[1, 0, 1], [1, 0, 0]], [[1, 0, 1], [0, 0, 1]]], bool)
    >>> dice_by_slice(prediction, reference).tolist()  # 2 / 3, both empty, 2 / 3
    [0.6666666666666666, nan, 0.6666666666666666]
    """
    check_masks(prediction, reference)
    within = tuple(axis for axis in range(prediction.ndim) if axis != slice_axis % prediction.ndim)
    shared, one, other = (
        np.count_nonzero(mask, axis=within) for mask in (prediction & reference, prediction, reference)
    )
    total = one + other
    by_slice: NDArray[np.float64] = np.divide(2.0 * shared, total, out=np.full(total.shape, np.nan), where=total > 0)
    return by_slice


def outcome(prediction: Mask, reference: Mask) -> Outcome:
    """Which of the two masks is not empty: `both present`, `missed`, `invented` or `both empty`.

    Args:
        prediction: Mask (...), True inside.
        reference: Mask of the same shape, True inside.

    Raises:
        LabelError: A mask is not boolean.
        GeometryError: The shapes differ.

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
        mask: Mask (X, Y, Z), True inside.
        spacing_mm: Spacing in mm along X, Y, Z.

    Raises:
        LabelError: A mask is not boolean.
        GeometryError: The spacing does not fit the mask.

    >>> volume_ml(np.ones((10, 10, 10), bool), (1.5, 1.5, 3))
    6.75
    """
    check_masks(mask)
    return int(np.count_nonzero(mask)) * math.prod(check_spacing(spacing_mm, mask.ndim)) / 1000


def _ratio(part: Mask, whole: Mask) -> float:
    total = int(np.count_nonzero(whole))
    return int(np.count_nonzero(part)) / total if total else math.nan


def check_masks(*masks: Mask) -> None:
    """Raise LabelError if a mask is not boolean, and GeometryError if shapes differ.

    >>> check_masks(np.zeros(3, np.uint8))
    Traceback (most recent call last):
    ...
    volseg.errors.LabelError: a mask must be of type bool, got uint8; compare a label map region by region...
    """
    for mask in masks:
        if mask.dtype != np.bool_:
            raise LabelError(
                f"a mask must be of type bool, got {mask.dtype}; compare a label map region by region, see "
                "LabelTable.masks"
            )
        if mask.shape != masks[0].shape:
            raise GeometryError(
                f"the masks must have one shape, got {masks[0].shape} and {mask.shape}; bring both onto one grid first"
            )


def check_spacing(spacing_mm: Sequence[float], axes: int) -> tuple[float, ...]:
    """Return the spacing as floats, one for each axis, or raise GeometryError.

    >>> check_spacing((1.5, 1.5, 3), 3)
    (1.5, 1.5, 3.0)
    """
    spacing = tuple(float(step) for step in spacing_mm)
    if len(spacing) != axes or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise GeometryError(f"the spacing must be {axes} lengths in mm, each above 0, got {spacing}")
    return spacing


def widest_axis(spacing_mm: Sequence[float]) -> int:
    """The axis whose spacing is larger than every other by at least 1 %, else the last: the slices of a mask.

    If an affine is known, use `volseg.volume.slice_axis`, which also finds the axial axis.

    >>> widest_axis((3, 0.8, 0.8)), widest_axis((0.8, 0.8, 0.5))
    (0, 2)
    """
    for axis, step in enumerate(spacing_mm):
        if all(step >= _THICKER * other for index, other in enumerate(spacing_mm) if index != axis):
            return axis
    return len(spacing_mm) - 1


def __getattr__(name: str) -> object:
    if name.startswith("__"):  # what Python itself looks for while it imports
        raise AttributeError(name)
    from volseg.metrics.earlier import earlier_function

    return earlier_function(__name__, name)
