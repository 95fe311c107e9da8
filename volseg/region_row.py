"""The numbers of one region of one case: two masks in, a row out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.method import Method
from volseg.metrics.effort import POINT_RULES, added_path_length_mm, slices_to_correct, time_saved
from volseg.metrics.objects import count_contours, count_holes, match_objects
from volseg.metrics.overlap import Mask, dice, jaccard, outcome, precision, recall, volume_ml
from volseg.metrics.surface import bounding_box, surface_distances
from volseg.metrics.uw_madison import uw_madison_score
from volseg.row import Row

Instances = NDArray[np.integer[Any]]


def region_row(
    key: str,
    patient: str,
    region: str,
    guess: Mask,
    truth: Mask,
    *,
    image_shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    method: Method,
    instances: Instances | None = None,
) -> Row:
    """The row of one region.

    Args:
        key: the case.
        patient: of the case.
        region: its name.
        guess: (X, Y, Z), the prediction, cropped to a box of the image that holds both masks.
        truth: likewise, the reference.
        image_shape: of the whole image; along an axis of one voxel there is no surface, no object and no hole.
        spacing_mm: mm along X, Y, Z.
        method: the choices.
        instances: (X, Y, Z), cropped likewise: the number of the object in each voxel of the reference; None where its
            objects are its connected parts.
    """
    box = bounding_box(guess, truth)
    guess, truth = guess[box], truth[box]
    thin = _thin(image_shape)
    wide = tuple(mm for axis, mm in enumerate(spacing_mm) if axis not in thin)
    flat_guess, flat_truth = (np.logical_or.reduce(mask, axis=thin) for mask in (guess, truth))
    surfaces = surface_distances(flat_guess, flat_truth, wide, reading=method.reading)
    rule = POINT_RULES.get(region)
    saved = time_saved(guess, truth, rule, slices=image_shape[2]) if rule else None
    path_mm = added_path_length_mm(guess, truth, spacing_mm)
    row = Row(
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
        uw_madison_score=_number(uw_madison_score(guess, truth, image_shape=image_shape)),
        added_path_length_mm=path_mm,
        slices_to_correct=slices_to_correct(guess, truth, spacing_mm, tolerance_mm=method.tolerance_mm),
        correction_minutes=path_mm / 1000 * method.minutes_per_metre,
        time_saved=saved.points if saved else None,
        time_saved_from_empty=saved.from_empty if saved else None,
    )
    if not method.objects:
        return row
    flat_instances = None if instances is None else np.maximum.reduce(instances[box], axis=thin, initial=0)
    return _with_objects(row, flat_guess, flat_truth, flat_instances)


def _with_objects(row: Row, guess: Mask, truth: Mask, instances: Instances | None) -> Row:
    objects = match_objects(guess, truth, instances=instances)
    return replace(
        row,
        reference_objects=objects.reference,
        predicted_objects=objects.predicted,
        matched_objects=objects.matched,
        object_f1=_number(objects.f1),
        reference_contours=count_contours(truth),
        predicted_contours=count_contours(guess),
        reference_holes=count_holes(truth),
        predicted_holes=count_holes(guess),
    )


def _number(value: float) -> float | None:
    """None where undefined."""
    return None if math.isnan(value) else value


def _thin(image_shape: tuple[int, int, int]) -> tuple[int, ...]:
    """The axes of one voxel; none where all are."""
    thin = tuple(axis for axis, side in enumerate(image_shape) if side == 1)
    return thin if len(thin) < 3 else ()
