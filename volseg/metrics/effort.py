"""The work of correcting a prediction: contour to redraw, slices to change, and a published point score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from volseg.errors import UsageError
from volseg.metrics.lattice import Flat, Lattice, steps_within
from volseg.metrics.overlap import Mask, check_masks, check_spacing, dice_by_slice, widest_axis
from volseg.metrics.surface import bounding_box

ADDED_PATH_LENGTH_DEFINITION = (
    "Added path length = the contour of the reference that the prediction's contour does not cover, in mm, summed over "
    "slices (Vaassen 2020, doi:10.1016/j.phro.2019.12.001): contour pixels times the pixel side, without tolerance. "
    "Missed gives the whole contour; what must only be erased adds nothing."
)
SLICES_TO_CORRECT_DEFINITION = (
    "Slices to correct = slices in which a contour pixel of one mask lies further than the tolerance from the contour "
    "of the other within the slice, or only one mask is there. Here and in all that goes slice by slice, slices lie "
    "along the axis of largest spacing, else along the axial one."
)
CORRECTION_DEFINITION = (
    "Time to correct = added path length times the minutes that drawing a metre of contour takes: a model, not a "
    "measurement; time your own readers and set the factor."
)
TIME_SAVED_DEFINITION = (
    "Time saved = points a slice, averaged over all slices of the case: large bowel +5 if the slice's Dice is above "
    "0.80, else -2; small bowel +3 above 0.70, else -3; stomach +2 above 0.85, else -4. A slice where both are empty "
    "passes, and what such slices give is stated apart. Regions of other names have none."
)

# About 8 mm of contour per second: an assumption, to be replaced by a measurement of one's own.
MINUTES_PER_METRE = 2.0


@dataclass(frozen=True)
class PointRule:
    """The points of a slice: `passed` above the Dice threshold, else `failed`."""

    threshold: float
    passed: float
    failed: float


POINT_RULES: Mapping[str, PointRule] = {
    "large_bowel": PointRule(0.80, 5, -2),
    "small_bowel": PointRule(0.70, 3, -3),
    "stomach": PointRule(0.85, 2, -4),
}


@dataclass(frozen=True)
class TimeSaved:
    """The mean points per slice.

    Attributes:
        points: Mean over all slices.
        from_empty: Part of it that comes from slices empty in both masks.
        slices: Number of slices.
        empty: Number of slices that are empty in both masks.
    """

    points: float
    from_empty: float
    slices: int
    empty: int


def time_saved(
    prediction: Mask, reference: Mask, rule: PointRule, *, slices: int | None = None, slice_axis: int = -1
) -> TimeSaved:
    """The coursework's score of one region: points by the Dice of each slice, averaged over slices.

    A slice empty in both masks passes, so that an organ in few slices scores high whatever is predicted in those;
    compare `from_empty`. The points are the coursework's own; no paper supports them as a measure of time.

    Args:
        prediction: Mask (X, Y, Z), True inside.
        reference: Mask of the same shape, True inside.
        rule: Threshold and points; `POINT_RULES` has those of the three organs.
        slices: Number of slices of the whole image, if the masks are cropped; the others are empty.
        slice_axis: Axis that counts the slices, by default the last; `volseg.volume.slice_axis` gives that of an
            affine.

    Raises:
        LabelError: A mask is not boolean.
        GeometryError: The shapes differ.
        UsageError: There are fewer slices than in the masks.

    >>> prediction, reference = np.array([[[1, 0, 1]], [[1, 0, 0]]], bool)  # right, both empty, invented
    >>> time_saved(prediction, reference, POINT_RULES["stomach"], slices=4)  # 2 + 2 - 4 + 2 over 4 slices
    TimeSaved(points=0.5, from_empty=1.0, slices=4, empty=2)
    """
    by_slice = dice_by_slice(prediction, reference, slice_axis=slice_axis)
    total = len(by_slice) if slices is None else slices
    if total < max(1, len(by_slice)):
        raise UsageError(
            f"slices must be at least the {len(by_slice)} of the masks, got {total}; give those of the whole image"
        )
    held = by_slice[~np.isnan(by_slice)]
    empty = total - len(held)
    passed = int((held > rule.threshold).sum())
    from_empty = empty * rule.passed / total
    points = (passed * rule.passed + (len(held) - passed) * rule.failed) / total + from_empty
    return TimeSaved(points, from_empty, total, empty)


def added_path_length_mm(
    prediction: Mask,
    reference: Mask,
    spacing_mm: Sequence[float],
    *,
    tolerance_mm: float = 0.0,
    slice_axis: int | None = None,
) -> float:
    """The length of reference contour that the prediction's contour does not cover, in mm, summed over slices.

    A contour pixel has one of its four neighbours within the slice outside the mask; its length is the pixel side, and
    for oblong pixels the square root of their area. Source: Vaassen 2020, doi:10.1016/j.phro.2019.12.001, who allow no
    tolerance.

    Args:
        prediction: Mask (X, Y, Z), True inside.
        reference: Mask of the same shape, True inside.
        spacing_mm: Spacing in mm along X, Y, Z.
        tolerance_mm: Distance in mm within the slice up to which contour counts as covered; 0 by default.
        slice_axis: Axis that counts the slices; `volseg.volume.slice_axis` gives that of an affine. By default it is
            the axis of largest spacing, or the last if no spacing is the largest alone.

    Raises:
        LabelError: A mask is not boolean.
        GeometryError: The shapes differ, or the spacing does not fit them.
        UsageError: The tolerance is below 0.

    >>> prediction, reference = np.zeros((2, 4, 4, 1), bool)
    >>> prediction[0:2, 0:2], reference[0:2, 0:3] = True, True  # a column of 2 pixels to add
    >>> added_path_length_mm(prediction, reference, (1.5, 1.5, 3))
    3.0
    """
    contours = _Contours.of(prediction, reference, spacing_mm, tolerance_mm, slice_axis)
    added = contours.beyond(contours.reference, contours.prediction, tolerance_mm)
    return len(added) * math.sqrt(math.prod(contours.lattice.spacing_mm[1:]))


def slices_to_correct(
    prediction: Mask,
    reference: Mask,
    spacing_mm: Sequence[float],
    *,
    tolerance_mm: float = 0.0,
    slice_axis: int | None = None,
) -> int:
    """Count the slices in which some contour is further than the tolerance from the other mask's contour.

    A slice that is empty in only one mask counts. Arguments and errors as for `added_path_length_mm`.

    >>> prediction, reference = np.zeros((2, 4, 4, 3), bool)
    >>> prediction[0, :3, 0] = reference[0, :, 0] = reference[0, 0, 2] = True  # one pixel short, nothing, missed
    >>> slices_to_correct(prediction, reference, (1, 1, 3)), slices_to_correct(
    ...     prediction, reference, (1, 1, 3), tolerance_mm=1)
    (2, 1)
    """
    contours = _Contours.of(prediction, reference, spacing_mm, tolerance_mm, slice_axis)
    places = np.concatenate(
        [
            contours.beyond(contours.reference, contours.prediction, tolerance_mm),
            contours.beyond(contours.prediction, contours.reference, tolerance_mm),
        ]
    )
    return len(np.unique(places // contours.lattice.steps[0]))


@dataclass(frozen=True)
class _Contours:
    """The contours of both masks in every slice, on one lattice whose first axis counts the slices."""

    lattice: Lattice
    prediction: Flat
    reference: Flat

    @classmethod
    def of(
        cls, prediction: Mask, reference: Mask, spacing_mm: Sequence[float], tolerance_mm: float, slice_axis: int | None
    ) -> _Contours:
        check_masks(prediction, reference)
        spacing = check_spacing(spacing_mm, prediction.ndim)
        if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
            raise UsageError(f"the tolerance must be 0 mm or more, got {tolerance_mm} mm")
        slice_axis = widest_axis(spacing) if slice_axis is None else slice_axis % prediction.ndim
        axes = [slice_axis, *(axis for axis in range(prediction.ndim) if axis != slice_axis)]
        box = bounding_box(prediction, reference)
        boxed = [mask[box].transpose(axes) for mask in (prediction, reference)]
        ordered = tuple(spacing[axis] for axis in axes)
        margin = tuple(1 + steps_within(tolerance_mm, step) for step in ordered)
        lattice = Lattice(boxed[0].shape, ordered, (1, *margin[1:]))
        within = tuple(range(1, prediction.ndim))
        return cls(lattice, *(lattice.boundary(lattice.flat(mask), axes=within) for mask in boxed))

    def beyond(self, starts: Flat, ends: Flat, tolerance_mm: float) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """The flat indices of one contour further than the tolerance from the other within their slice."""
        return self.lattice.beyond(starts, ends, tolerance_mm, axes=tuple(range(1, len(self.lattice.shape))))
