"""The work of correcting a prediction: contour to redraw, slices to change, and a published point score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from volseg.errors import UsageError
from volseg.metrics.lattice import Flat, Lattice, margin_within
from volseg.metrics.overlap import Mask, check_masks, check_spacing, dice_by_slice, widest_axis
from volseg.metrics.surface import bounding_box, box_with_neighbours

ADDED_PATH_LENGTH_DEFINITION = (
    "Added path length = the contour of the reference that the prediction's contour does not cover, in mm, summed over "
    "slices (Vaassen 2020, doi:10.1016/j.phro.2019.12.001): contour pixels times the pixel side, without tolerance. "
    "Missed gives the whole contour; what must only be erased adds nothing."
)
TOLERANT_PATH_DEFINITION = (
    "The same with a tolerance: contour of the reference that lies further from the prediction's contour than a "
    "tolerance within its slice. Vaassen allows none; one was added to their programs later (pyAPL), and PlatiPy takes "
    "one rounded up to whole pixels. By default 3 mm, and where a pixel is larger its side."
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
TOLERANT_MINUTES_DEFINITION = (
    "Time to correct of a reader who leaves alone what lies within the tolerance: added path length with tolerance "
    "times the same minutes, a model likewise."
)
TIME_SAVED_DEFINITION = (
    "Time saved = points a slice, averaged over all slices of the case: large bowel +5 if the slice's Dice is above "
    "0.80, else -2; small bowel +3 above 0.70, else -3; stomach +2 above 0.85, else -4. A slice where both are empty "
    "passes, and what such slices give is stated apart; one that nobody looked at (the label 'ignore') is left out. "
    "Regions of other names have none."
)

# About 8 mm of contour per second: an assumption, to be replaced by a measurement of one's own.
MINUTES_PER_METRE = 2.0
PATH_TOLERANCE_MM = 3.0
"""Tolerance of the added path length with tolerance, where a pixel is no larger; that of surface Dice too."""


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
    unseen: Mask | None = None,
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
        unseen: Mask (X, Y, Z) of the voxels that nobody looked at, see `correction_effort`.

    Raises:
        LabelError: A mask is not boolean.
        GeometryError: The shapes differ, or the spacing does not fit them.
        UsageError: The tolerance is below 0.

    >>> prediction, reference = np.zeros((2, 4, 4, 1), bool)
    >>> prediction[0:2, 0:2], reference[0:2, 0:3] = True, True  # a column of 2 pixels to add
    >>> added_path_length_mm(prediction, reference, (1.5, 1.5, 3))
    3.0
    """
    contours = _Contours.of(prediction, reference, spacing_mm, tolerance_mm, slice_axis, unseen=unseen)
    return contours.added_mm(tolerance_mm)


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
    return _Contours.of(prediction, reference, spacing_mm, tolerance_mm, slice_axis).slices(tolerance_mm)


@dataclass(frozen=True)
class Effort:
    """The work of correcting one region.

    Attributes:
        added_path_mm: Added path length without tolerance, see `added_path_length_mm`.
        tolerant_path_mm: The same with the path's tolerance.
        path_tolerance_mm: The path's tolerance that was taken.
        slices: Slices to correct, see `slices_to_correct`.
    """

    added_path_mm: float
    tolerant_path_mm: float
    path_tolerance_mm: float
    slices: int


def correction_effort(
    prediction: Mask,
    reference: Mask,
    spacing_mm: Sequence[float],
    *,
    tolerance_mm: float,
    path_tolerance_mm: float | None = None,
    slice_axis: int | None = None,
    unseen: Mask | None = None,
) -> Effort:
    """All measures of the work at once, which finds the contours once.

    Args:
        prediction: Mask (X, Y, Z), True inside.
        reference: Mask of the same shape, True inside.
        spacing_mm: Spacing in mm along X, Y, Z.
        tolerance_mm: Tolerance of the slices to correct.
        path_tolerance_mm: Tolerance of the added path length with tolerance; None for 3 mm, and for the side of a pixel
            (the square root of its area) where that is larger, since a mask says nothing finer.
        slice_axis: Axis that counts the slices, see `added_path_length_mm`, as for the errors.
        unseen: Mask (X, Y, Z) of the voxels that nobody looked at, where neither of the masks is True: no contour lies
            between them and a mask.

    >>> prediction, reference = np.zeros((2, 4, 4, 1), bool)
    >>> prediction[0:2, 0:2], reference[0:2, 0:4] = True, True  # two columns of 2 pixels to add
    >>> correction_effort(prediction, reference, (4, 4, 5), tolerance_mm=3)
    Effort(added_path_mm=16.0, tolerant_path_mm=8.0, path_tolerance_mm=4.0, slices=1)
    """
    check_masks(prediction, reference)
    spacing = check_spacing(spacing_mm, prediction.ndim)
    axis = widest_axis(spacing) if slice_axis is None else slice_axis % prediction.ndim
    if path_tolerance_mm is None:
        pixel_mm = math.sqrt(math.prod(mm for one, mm in enumerate(spacing) if one != axis))
        path_tolerance_mm = max(PATH_TOLERANCE_MM, pixel_mm)
    for one in (tolerance_mm, path_tolerance_mm):
        _check_tolerance(one)
    contours = _Contours.of(prediction, reference, spacing, max(tolerance_mm, path_tolerance_mm), axis, unseen=unseen)
    return Effort(
        contours.added_mm(0.0), contours.added_mm(path_tolerance_mm), path_tolerance_mm, contours.slices(tolerance_mm)
    )


def _check_tolerance(tolerance_mm: float) -> None:
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise UsageError(f"the tolerance must be 0 mm or more, got {tolerance_mm} mm")


@dataclass(frozen=True)
class _Contours:
    """The contours of both masks in every slice, on one lattice whose first axis counts the slices."""

    lattice: Lattice
    prediction: Flat
    reference: Flat

    @classmethod
    def of(
        cls,
        prediction: Mask,
        reference: Mask,
        spacing_mm: Sequence[float],
        tolerance_mm: float,
        slice_axis: int | None,
        *,
        unseen: Mask | None = None,
    ) -> _Contours:
        masks = [prediction, reference] if unseen is None else [prediction, reference, unseen]
        check_masks(*masks)
        spacing = check_spacing(spacing_mm, prediction.ndim)
        _check_tolerance(tolerance_mm)
        slice_axis = widest_axis(spacing) if slice_axis is None else slice_axis % prediction.ndim
        axes = [slice_axis, *(axis for axis in range(prediction.ndim) if axis != slice_axis)]
        box = bounding_box(prediction, reference)
        box = box if unseen is None else box_with_neighbours(box, prediction.shape)
        boxed = [mask[box].transpose(axes) for mask in masks]
        ordered = tuple(spacing[axis] for axis in axes)
        lattice = Lattice(boxed[0].shape, ordered, (1, *margin_within(tolerance_mm, ordered[1:])))
        within = tuple(range(1, prediction.ndim))
        flats = [lattice.flat(mask) for mask in boxed]
        return cls(lattice, *(lattice.boundary(flat, axes=within, unseen=flats[2:]) for flat in flats[:2]))

    @property
    def pixel_mm(self) -> float:
        """The side of a pixel within a slice; of an oblong one the square root of its area."""
        return math.sqrt(math.prod(self.lattice.spacing_mm[1:]))

    def added_mm(self, tolerance_mm: float) -> float:
        """The reference's contour further than the tolerance from the prediction's."""
        return len(self.beyond(self.reference, self.prediction, tolerance_mm)) * self.pixel_mm

    def slices(self, tolerance_mm: float) -> int:
        """The number of slices with a contour further than the tolerance from the other."""
        pairs = ((self.reference, self.prediction), (self.prediction, self.reference))
        places = np.concatenate([self.beyond(*pair, tolerance_mm) for pair in pairs])
        return len(np.unique(places // self.lattice.steps[0]))

    def beyond(self, starts: Flat, ends: Flat, tolerance_mm: float) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """The flat indices of one contour further than the tolerance from the other within their slice."""
        return self.lattice.beyond(starts, ends, tolerance_mm, axes=tuple(range(1, len(self.lattice.shape))))
