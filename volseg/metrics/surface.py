"""Distances between the surfaces of two masks, exact and in millimetres."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from volseg.errors import UsageError
from volseg.metrics.overlap import Mask, check_masks, check_spacing

Distances = NDArray[np.float64]

HD95_DEFINITION = (
    "HD95 = the larger of the two directed 95th percentiles (interpolated linearly) of the Euclidean distance in mm "
    "from each boundary voxel of one mask to the nearest boundary voxel of the other, between voxel centres. A "
    "boundary voxel is one of the mask with a face neighbour outside it; beyond the grid counts as outside. This is "
    "the definition of MONAI's compute_hausdorff_distance and of MetricsReloaded (doi:10.1038/s41592-023-02151-z); "
    "tools that pool both directions (medpy) or weigh surface elements (surface-distance) give other numbers. "
    "Defined only where both masks are present: a missed or invented region has no HD95 and is counted apart."
)

HAUSDORFF_DEFINITION = (
    "Hausdorff distance = the largest of all distances that HD95 takes its percentiles of (Huttenlocher 1993, "
    "doi:10.1109/34.232073); one stray voxel decides it. Defined only where both masks are present."
)

MEAN_SURFACE_DISTANCE_DEFINITION = (
    "Mean surface distance = the mean in mm of the distances from each boundary voxel of either mask to the other's "
    "boundary, both directions pooled (average symmetric surface distance, Heimann 2009, "
    "doi:10.1109/TMI.2009.2013851). Defined only where both masks are present."
)

SURFACE_DICE_DEFINITION = (
    "Surface Dice = the share of the boundary voxels of both masks that lie within the tolerance of the other's "
    "boundary (Nikolov 2021, doi:10.2196/26151). Missed and invented count as 0; both empty is undefined and left out."
)

# Larger leaves build sooner; the tree answers one batch only.
_LEAF_SIZE = 32


def hausdorff_mm(prediction: Mask, reference: Mask, spacing_mm: Sequence[float], *, percentile: float = 95.0) -> float:
    """Hausdorff distance in mm at a percentile: the larger of the two directed percentiles over boundary voxels.

    The definition of MONAI and MetricsReloaded: see `HD95_DEFINITION`. Source: Huttenlocher 1993,
    doi:10.1109/34.232073; Maier-Hein 2024, doi:10.1038/s41592-023-02151-z.

    Args:
        prediction: (X, Y, Z), True inside.
        reference: same shape, True inside.
        spacing_mm: mm along X, Y, Z; whole numbers and fractions may mix.
        percentile: 0 to 100; 100 is the Hausdorff distance itself.

    Returns:
        The distance, or NaN where either mask is empty: `overlap.outcome` says which.

    Raises:
        LabelError: a mask that is not boolean.
        GeometryError: shapes that differ, or a spacing that does not fit them.
        UsageError: a percentile outside 0 to 100.

    >>> prediction, reference = np.zeros((2, 4, 1, 1), bool)
    >>> prediction[0], reference[2] = True, True
    >>> hausdorff_mm(prediction, reference, (1.5, 1, 3))
    3.0
    """
    if not 0 <= percentile <= 100:
        raise UsageError(f"the percentile is {percentile}, expected 0 to 100")
    from_prediction, from_reference = directed_distances_mm(prediction, reference, spacing_mm)
    if not from_prediction.size or not from_reference.size:
        return math.nan
    return max(float(np.percentile(distances, percentile)) for distances in (from_prediction, from_reference))


def directed_distances_mm(
    prediction: Mask, reference: Mask, spacing_mm: Sequence[float]
) -> tuple[Distances, Distances]:
    """Distance in mm from each boundary voxel of one mask to the nearest boundary voxel of the other.

    Args:
        prediction: (X, Y, Z), True inside.
        reference: same shape, True inside.
        spacing_mm: mm along X, Y, Z.

    Returns:
        (P,) from the prediction to the reference and (R,) from the reference to the prediction, for P and R boundary
        voxels in no particular order; NaN throughout where the other mask is empty.

    Raises:
        LabelError: a mask that is not boolean.
        GeometryError: shapes that differ, or a spacing that does not fit them.

    >>> a, b = np.array([True, False, False]), np.array([True, False, True])
    >>> [distances.tolist() for distances in directed_distances_mm(a, b, (2.5,))]
    [[0.0], [0.0, 5.0]]
    """
    check_masks(prediction, reference)
    spacing = np.array(check_spacing(spacing_mm, prediction.ndim))
    # NIfTI voxels lie in memory with X fastest: walk them as they lie, the last axis the fastest.
    axes = sorted(range(prediction.ndim), key=lambda axis: -prediction.strides[axis])
    prediction, reference, spacing = prediction.transpose(axes), reference.transpose(axes), spacing[axes]
    box = bounding_box(prediction, reference)
    on_prediction, on_reference = boundary(prediction[box]), boundary(reference[box])
    from_prediction, from_reference = np.argwhere(on_prediction), np.argwhere(on_reference)
    # A voxel on both boundaries is 0 mm away and needs no search.
    prediction_apart = ~on_reference[tuple(from_prediction.T)]
    reference_apart = ~on_prediction[tuple(from_reference.T)]
    return (
        _nearest_mm(from_prediction * spacing, from_reference * spacing, prediction_apart),
        _nearest_mm(from_reference * spacing, from_prediction * spacing, reference_apart),
    )


def boundary(mask: Mask) -> Mask:
    """The voxels of a mask that have a face neighbour outside it; beyond the array counts as outside.

    Args:
        mask: (...), True inside.

    >>> boundary(np.array([[1, 1, 1], [1, 1, 1], [1, 1, 1]], bool)).astype(int).tolist()
    [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    padded = np.pad(mask, 1)
    centre = (slice(1, -1),) * mask.ndim
    inside = mask.copy()
    for axis in range(mask.ndim):
        for neighbour in (slice(None, -2), slice(2, None)):  # the voxel before and the voxel after, along the axis
            inside &= padded[(*centre[:axis], neighbour, *centre[axis + 1 :])]
    return mask & ~inside


def bounding_box(*masks: Mask) -> tuple[slice, ...]:
    """The smallest box that holds every mask, as one slice an axis; empty slices where all are empty.

    Args:
        masks: one or more of one shape (...), True inside.

    >>> bounding_box(np.array([0, 1, 0, 0], bool), np.array([0, 0, 1, 0], bool))
    (slice(1, 3, None),)
    """
    axes = range(masks[0].ndim)
    box = []
    for axis in axes:
        others = tuple(other for other in axes if other != axis)
        filled = np.flatnonzero(np.any([mask.any(axis=others) for mask in masks], axis=0))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1) if filled.size else slice(0, 0))
    return tuple(box)


def _nearest_mm(starts: Distances, ends: Distances, apart: Mask) -> Distances:
    """Distance from each start to the nearest end, by a search tree; 0 where not `apart`.

    Args:
        starts: (S, axes), mm.
        ends: (E, axes), mm.
        apart: (S,), whether the start is no end itself.
    """
    from scipy.spatial import cKDTree

    if not len(ends):
        return np.full(len(starts), np.nan)
    distances = np.zeros(len(starts))
    if apart.any():
        tree = cKDTree(ends, leafsize=_LEAF_SIZE, compact_nodes=False, balanced_tree=False)
        distances[apart], _ = tree.query(starts[apart])
    return distances
