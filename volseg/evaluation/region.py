"""One row of an evaluation: every metric of one region of one case, from its two masks."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.evaluation.scores import EvaluationSettings, RegionScores
from volseg.metrics import (
    POINT_RULES,
    Mask,
    bounding_box,
    box_with_neighbours,
    correction_effort,
    count_contours,
    count_holes,
    dice,
    jaccard,
    margin_to_contain,
    match_objects,
    outcome,
    precision,
    recall,
    surface_distances,
    time_saved,
    uw_madison_score,
    volume_ml,
)
from volseg.volume import slice_axis

Instances = NDArray[np.integer[Any]]


def score_region(
    key: str,
    patient: str,
    region: str,
    guess: Mask,
    truth: Mask,
    *,
    image_shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    method: EvaluationSettings,
    slices_along: int | None = None,
    instances: Instances | None = None,
    unseen: Mask | None = None,
    beyond: Mask | None = None,
) -> RegionScores:
    """Compute the row of one region of a case.

    Args:
        key: Key of the case.
        patient: Patient of the case.
        region: Name of the region.
        guess: Mask (X, Y, Z) of the prediction, cropped to a box of the image that holds both masks.
        truth: Mask (X, Y, Z) of the reference, cropped to the same box.
        image_shape: Shape of the whole image; along an axis of one voxel there is no surface, no object and no hole.
        spacing_mm: Spacing in mm along X, Y, Z.
        method: Settings of the evaluation.
        slices_along: Axis that counts the slices, see `volseg.volume.slice_axis`; None (the default) for that of a grid
            whose axes run to the right, the front and the head.
        instances: Number of the object in each voxel of the reference (X, Y, Z), cropped to the same box; None (the
            default) if its objects are its connected parts.
        unseen: Mask (X, Y, Z) of the voxels that nobody looked at, cropped to the same box, in which neither mask has
            one; None (the default) if all were seen.
        beyond: Mask (X, Y, Z) of the prediction within these voxels, cropped to the same box: they join its objects,
            and are as near to the reference as others; None (the default) for no voxel.
    """
    if slices_along is None:
        slices_along = slice_axis(np.diag([*spacing_mm, 1.0]), image_shape)
    whole = guess if beyond is None else guess | beyond
    margin_mm = _finite(margin_to_contain(whole, truth, spacing_mm)) if method.margins else None
    seen = _seen_slices(guess.shape, unseen, image_shape, slices_along)
    parts = whole if unseen is not None and instances is not None else None
    box = bounding_box(*(guess, truth) if parts is None else (parts, truth))
    if unseen is not None:
        box = box_with_neighbours(box, guess.shape)
        unseen = unseen[box]
    guess, truth = guess[box], truth[box]
    thin = _thin(image_shape)
    wide = tuple(mm for axis, mm in enumerate(spacing_mm) if axis not in thin)
    flat_guess, flat_truth = (np.logical_or.reduce(mask, axis=thin) for mask in (guess, truth))
    flat_unseen = None if unseen is None else np.logical_or.reduce(unseen, axis=thin)
    surfaces = surface_distances(flat_guess, flat_truth, wide, reading=method.reading, unseen=flat_unseen)
    rule, saved = POINT_RULES.get(region), None
    slices = image_shape[slices_along] - int(np.count_nonzero(~seen))
    if rule and slices:
        one, other = (np.compress(seen[box[slices_along]], mask, axis=slices_along) for mask in (guess, truth))
        saved = time_saved(one, other, rule, slices=slices, slice_axis=slices_along)
    effort = correction_effort(
        guess,
        truth,
        spacing_mm,
        tolerance_mm=method.tolerance_mm,
        path_tolerance_mm=method.apl_tolerance_mm,
        slice_axis=slices_along,
        unseen=unseen,
    )
    minutes_per_mm = method.minutes_per_metre / 1000
    row = RegionScores(
        key,
        patient,
        region,
        dice=_number(dice(guess, truth)),
        hd95_mm=_number(surfaces.hausdorff_mm(95)),
        reference_ml=volume_ml(truth, spacing_mm),
        predicted_ml=volume_ml(guess, spacing_mm),
        outcome=outcome(guess, truth),
        surface_dice=_number(surfaces.surface_dice(method.tolerance_mm)),
        mean_surface_distance_mm=_number(surfaces.mean_mm()),
        hausdorff_mm=_number(surfaces.hausdorff_mm(100)),
        jaccard=_number(jaccard(guess, truth)),
        precision=_number(precision(guess, truth)),
        recall=_number(recall(guess, truth)),
        uw_madison_score=_number(uw_madison_score(guess, truth, image_shape=image_shape, unseen=unseen)),
        added_path_length_mm=effort.added_path_mm,
        slices_to_correct=effort.slices,
        correction_minutes=effort.added_path_mm * minutes_per_mm,
        tolerant_path_length_mm=effort.tolerant_path_mm,
        tolerant_minutes=effort.tolerant_path_mm * minutes_per_mm,
        time_saved=saved.points if saved else None,
        time_saved_from_empty=saved.from_empty if saved else None,
        margin_mm=margin_mm,
    )
    if not method.objects:
        return row
    flat_instances = None if instances is None else np.maximum.reduce(instances[box], axis=thin, initial=0)
    flat_parts = None if parts is None else np.logical_or.reduce(parts[box], axis=thin)
    objects = match_objects(flat_guess, flat_truth, instances=flat_instances, whole=flat_parts)
    contours, holes = (
        [count(mask) for mask in (flat_guess, flat_truth)]
        for count in (
            partial(count_contours, slice_axis=slices_along, unseen=flat_unseen),
            partial(count_holes, unseen=flat_unseen),
        )
    )
    return replace(
        row,
        reference_objects=objects.reference,
        predicted_objects=objects.predicted,
        matched_objects=objects.matched,
        object_f1=_number(objects.f1),
        reference_contours=contours[1],
        predicted_contours=contours[0],
        reference_holes=holes[1],
        predicted_holes=holes[0],
    )


def _seen_slices(
    shape: tuple[int, ...], unseen: Mask | None, image_shape: tuple[int, int, int], slices_along: int
) -> NDArray[np.bool_]:
    """Whether somebody looked at a voxel of each slice of a box that holds all voxels that nobody looked at."""
    if unseen is None:
        return np.ones(shape[slices_along], bool)
    within = tuple(axis for axis in range(3) if axis != slices_along)
    found: NDArray[np.bool_] = np.count_nonzero(unseen, axis=within) < math.prod(image_shape[axis] for axis in within)
    return found


def _number(value: float) -> float | None:
    """The number, or None if it is undefined."""
    return None if math.isnan(value) else value


def _finite(value: float) -> float | None:
    """The number, or None if it is infinite."""
    return value if math.isfinite(value) else None


def _thin(image_shape: tuple[int, int, int]) -> tuple[int, ...]:
    """The axes of one voxel; none if all are."""
    thin = tuple(axis for axis, side in enumerate(image_shape) if side == 1)
    return thin if len(thin) < 3 else ()
