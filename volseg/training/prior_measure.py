"""How far the contours of two days lie apart after their alignment, measured on pairs of days of training patients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from volseg.labels import LabelTable
from volseg.transforms import PriorFiles, prior_distances
from volseg.volume import Grid, read_volume

LEAST_WIDTH_MM, MOST_WIDTH_MM = 2.0, 60.0
_STEP_MM = 4.0
_NEAR_MM = 60.0  # voxels further from an earlier contour tell nothing about its width
_FEWEST_VOXELS = 200
_WIDTHS = np.geomspace(LEAST_WIDTH_MM, MOST_WIDTH_MM, 60)
_APART, _FEWEST_PAIRS = 1.2, 4
_BEST_STRANGERS = 10.0  # per cent


def measured_widths(pairs: Sequence[tuple[str, PriorFiles]], labels: LabelTable) -> dict[str, float]:
    """The width of each region's blur under which the contours of today are most likely, given those of other days.

    The probability of a voxel is 1 / (1 + exp(4 d / width)) of its signed distance d to the aligned earlier contour;
    the width of maximum likelihood is searched for between 2 and 60 mm, on a grid of about 4 mm.

    Args:
        pairs: Label map of a day with another day of the same patient, aligned to it.
        labels: Label table of the cohort.

    Returns:
        Width in mm by region; a region with too few voxels is left out.
    """
    distances: dict[str, list[NDArray[np.float32]]] = {name: [] for name in labels.names}
    inside: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in labels.names}
    for path, prior in pairs:
        today = read_volume(path)
        values = labels.check(today.voxels)
        steps = [max(1, round(_STEP_MM / mm)) for mm in today.spacing_mm]
        every = tuple(slice(step // 2, None, step) for step in steps)
        affine = np.array(today.affine_ras, dtype=np.float64)
        affine[:3, 3] += affine[:3, :3] @ np.array([step // 2 for step in steps], dtype=np.float64)
        affine[:3, :3] *= steps
        coarse = values[every]
        found, known = prior_distances(prior, Grid(coarse.shape, affine), labels)
        if (ignored := labels.ignored(coarse)) is not None:
            known &= ~ignored
        for name, mask in zip(labels.names, labels.masks(coarse), strict=True):
            near = known & (np.abs(found[name]) < _NEAR_MM)
            distances[name].append(found[name][near])
            inside[name].append(mask[near])
    widths = {}
    for name in labels.names:
        joined = np.concatenate(distances[name]) if distances[name] else np.empty(0, np.float32)
        masks = np.concatenate(inside[name]) if inside[name] else np.empty(0, dtype=bool)
        if masks.sum() >= _FEWEST_VOXELS:
            widths[name] = round(_most_likely(joined.astype(np.float64), masks), 1)
    return widths


def _most_likely(distance: NDArray[np.float64], inside: NDArray[np.bool_]) -> float:
    signed = np.where(inside, distance, -distance)
    loss = [float(np.logaddexp(0, 4 * signed / width).mean()) for width in _WIDTHS]
    return float(_WIDTHS[int(np.argmin(loss))])


def largest_misalignment_mm(own: Sequence[float], strangers: Sequence[float]) -> float | None:
    """What an alignment may leave if both images are of one patient: between his own days and other patients'.

    Args:
        own: What is left between days of one patient, mm.
        strangers: What is left between patients, mm.

    Returns:
        The geometric middle between the worst own pair and the best tenth of the strangers; None if these are not well
        apart, or of fewer than four each: then what is left does not tell whose day it is.

    >>> largest_misalignment_mm([1.5, 2.0, 1.0, 1.5], [8.0] * 5)
    4.0
    >>> largest_misalignment_mm([1.5, 2.0, 1.0, 1.5], [2.1] * 5) is None
    True
    """
    known, others = ([mm for mm in some if math.isfinite(mm)] for some in (own, strangers))
    if min(len(known), len(others)) < _FEWEST_PAIRS:
        return None
    worst, low = max(known), float(np.percentile(others, _BEST_STRANGERS))
    return round(math.sqrt(worst * low), 3) if low > _APART * worst else None


def told(content: Mapping[str, object]) -> str:
    """One line for the log."""
    widths = content["widths_mm"]
    words = ", ".join(f"{name} {mm:g}" for name, mm in widths.items()) if isinstance(widths, Mapping) else ""
    limit = content["misalignment_mm"]
    return f"measured on {content['pairs']} pairs of days: contours move within {words or 'an unknown width'} mm" + (
        f"; an alignment that leaves more than {limit} mm gives no prior" if limit is not None else ""
    )
