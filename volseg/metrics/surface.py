"""Distances between the surfaces of two masks, exact and in millimetres."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from volseg.errors import UsageError
from volseg.metrics.lattice import Distances, Lattice, upper_mm
from volseg.metrics.overlap import Mask, check_masks, check_spacing
from volseg.metrics.surfel import areas_mm2, codes

Reading = Literal["directed", "pooled", "surfel"]

READINGS: tuple[Reading, ...] = get_args(Reading)
TOLERANCE_MM = 3.0

HD95_DEFINITION = (
    "HD95 = the larger of the two directed 95th percentiles (interpolated linearly) of the Euclidean distance in mm "
    "from each boundary voxel of one mask to the nearest boundary voxel of the other, between voxel centres. A "
    "boundary voxel is one of the mask with a face neighbour outside it; beyond the grid counts as outside. This is "
    "the definition of MONAI's compute_hausdorff_distance and of MetricsReloaded (doi:10.1038/s41592-023-02151-z); "
    "tools that pool both directions (medpy) or weigh surface elements (surface-distance) give other numbers; where "
    "the head of a report names one of these readings, it holds instead. In an image of one slice the boundary is that "
    "within the slice; a border with voxels of the label 'ignore' is none, since nobody knows what lies there. Defined "
    "only where both masks are present: a missed or invented region has no HD95 and is counted apart."
)

READING_NOTES: dict[Reading, str] = {
    "directed": "directed: the larger of the two directed percentiles over boundary voxels (MONAI, MetricsReloaded)",
    "pooled": "pooled: one percentile of the distances of both directions together, over boundary voxels (medpy, "
    "panoptica)",
    "surfel": "surfel: the larger of the two directed percentiles over surface elements weighted with their area, not "
    "interpolated (surface-distance); surface Dice and mean surface distance are weighted likewise",
}

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
    "boundary (Nikolov 2021, doi:10.2196/26151); a distance equal to the tolerance is within it. Missed and invented "
    "count as 0; both empty is undefined and left out."
)


@dataclass(frozen=True)
class SurfaceDistances:
    """The distances between two surfaces in both directions, from which every surface metric is computed.

    Attributes:
        from_prediction: Distances (P,) in mm from each surface element of the prediction to the nearest of the
            reference; all are NaN if the reference is empty.
        from_reference: Distances (R,) in mm from each element of the reference; all are NaN if the prediction is empty.
        prediction_weights: Weights (P,): 1 for a boundary voxel, the area in mm2 for a surfel.
        reference_weights: Weights (R,) of the elements of the reference.
        reading: Name of the definition of an element and of a percentile.
    """

    from_prediction: Distances
    from_reference: Distances
    prediction_weights: Distances
    reference_weights: Distances
    reading: Reading

    @property
    def defined(self) -> bool:
        """Whether neither mask is empty."""
        return bool(self.from_prediction.size and self.from_reference.size)

    def hausdorff_mm(self, percentile: float = 95.0) -> float:
        """Hausdorff distance in mm at a percentile; NaN if a mask is empty.

        Raises:
            UsageError: The percentile is outside 0 to 100.
        """
        if not 0 <= percentile <= 100:
            raise UsageError(f"the percentile must be from 0 to 100, got {percentile}")
        if not self.defined:
            return math.nan
        if self.reading == "pooled":
            return float(np.percentile(np.concatenate([self.from_prediction, self.from_reference]), percentile))
        if self.reading == "surfel":
            return max(
                _weighted_percentile(self.from_prediction, self.prediction_weights, percentile),
                _weighted_percentile(self.from_reference, self.reference_weights, percentile),
            )
        return max(float(np.percentile(one, percentile)) for one in (self.from_prediction, self.from_reference))

    def mean_mm(self) -> float:
        """Average symmetric surface distance in mm, both directions pooled; NaN if a mask is empty."""
        if not self.defined:
            return math.nan
        total = self.from_prediction @ self.prediction_weights + self.from_reference @ self.reference_weights
        return float(total / (self.prediction_weights.sum() + self.reference_weights.sum()))

    def surface_dice(self, tolerance_mm: float = TOLERANCE_MM) -> float:
        """Fraction of both surfaces within the tolerance of the other; 0 if one mask is empty, NaN if both are.

        Raises:
            UsageError: The tolerance is below 0.
        """
        if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
            raise UsageError(f"the tolerance must be 0 mm or more, got {tolerance_mm} mm")
        total = self.prediction_weights.sum() + self.reference_weights.sum()
        if not total:
            return math.nan
        farthest_mm = upper_mm(tolerance_mm)
        near = self.prediction_weights[self.from_prediction <= farthest_mm].sum()  # NaN is not near
        near += self.reference_weights[self.from_reference <= farthest_mm].sum()
        return float(near / total)


def surface_distances(
    prediction: Mask,
    reference: Mask,
    spacing_mm: Sequence[float],
    *,
    reading: Reading = "directed",
    unseen: Mask | None = None,
) -> SurfaceDistances:
    """Compute all distances between the surfaces of two masks, exactly: see `READING_NOTES`.

    Args:
        prediction: Mask (X, Y, Z), True inside.
        reference: Mask of the same shape, True inside.
        spacing_mm: Spacing in mm along X, Y, Z, whole numbers or fractions.
        reading: Definition, `directed`, `pooled` or `surfel`.
        unseen: Mask of the same shape of the voxels that nobody looked at, where neither of the masks is True: no
            surface lies between them and a mask. Nothing is defined if a mask has no other surface.

    Raises:
        LabelError: A mask is not boolean.
        GeometryError: The shapes differ, or the spacing does not fit them.
        UsageError: There is no such reading.

    >>> prediction, reference = np.zeros((2, 4, 1, 1), bool)
    >>> prediction[0], reference[2] = True, True
    >>> found = surface_distances(prediction, reference, (1.5, 1, 3))
    >>> found.hausdorff_mm(), found.mean_mm(), found.surface_dice(2.5), found.surface_dice(3)
    (3.0, 3.0, 0.0, 1.0)
    """
    if reading not in READINGS:
        raise UsageError(f"the reading must be one of {', '.join(READINGS)}, got {reading!r}")
    masks = [prediction, reference] if unseen is None else [prediction, reference, unseen]
    check_masks(*masks)
    if not all(mask.any() for mask in masks[:2]):  # missed or invented, whatever was seen of its surface
        masks = masks[:2]
    spacing = check_spacing(spacing_mm, prediction.ndim)
    # NIfTI voxels are stored with X fastest: read them in that order, the last axis the fastest. Surfels are not
    # transposed: their triangles depend a little on the order of the axes.
    axes = list(range(prediction.ndim))
    if reading != "surfel":
        axes.sort(key=lambda axis: -prediction.strides[axis])
    masks = [mask.transpose(axes) for mask in masks]
    box = bounding_box(*masks[:2])
    box = box_with_neighbours(box, masks[0].shape) if len(masks) > 2 else box
    masks = [mask[box] for mask in masks]
    if reading == "surfel":
        return _surfel_distances(masks, tuple(spacing[axis] for axis in axes))
    lattice = Lattice.around(masks[0].shape, tuple(spacing[axis] for axis in axes))
    flats = [lattice.flat(mask) for mask in masks]
    on_prediction, on_reference = (lattice.boundary(flat, unseen=flats[2:]) for flat in flats[:2])
    if _hidden(masks, on_prediction, on_reference):
        return _undefined(reading)
    from_prediction = lattice.nearest_mm(on_prediction, on_reference)
    from_reference = lattice.nearest_mm(on_reference, on_prediction)
    return SurfaceDistances(
        from_prediction, from_reference, np.ones(len(from_prediction)), np.ones(len(from_reference)), reading
    )


def hausdorff_mm(
    prediction: Mask,
    reference: Mask,
    spacing_mm: Sequence[float],
    *,
    percentile: float = 95.0,
    reading: Reading = "directed",
) -> float:
    """Hausdorff distance in mm at a percentile: the larger of the two directed percentiles over boundary voxels.

    The definition of MONAI and MetricsReloaded: see `HD95_DEFINITION`; `READING_NOTES` has the others. Source:
    Huttenlocher 1993, doi:10.1109/34.232073; Maier-Hein 2024, doi:10.1038/s41592-023-02151-z.

    Args:
        prediction: Mask (X, Y, Z), True inside.
        reference: Mask of the same shape, True inside.
        spacing_mm: Spacing in mm along X, Y, Z, whole numbers or fractions.
        percentile: Percentile, 0 to 100; 100 is the Hausdorff distance itself.
        reading: Definition, `directed`, `pooled` or `surfel`.

    Returns:
        The distance, or NaN if either mask is empty: `overlap.outcome` says which.

    Raises:
        LabelError: A mask is not boolean.
        GeometryError: The shapes differ, or the spacing does not fit them.
        UsageError: The percentile is outside 0 to 100, or there is no such reading.

    >>> prediction, reference = np.zeros((2, 4, 1, 1), bool)
    >>> prediction[0], reference[2] = True, True
    >>> hausdorff_mm(prediction, reference, (1.5, 1, 3))
    3.0
    """
    return surface_distances(prediction, reference, spacing_mm, reading=reading).hausdorff_mm(percentile)


def mean_surface_distance_mm(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> float:
    """Average symmetric surface distance in mm: the mean of both directions' distances, pooled.

    Source: Heimann 2009, doi:10.1109/TMI.2009.2013851. Arguments and errors as for `hausdorff_mm`.

    >>> prediction, reference = np.array([[1, 0, 0, 0], [1, 0, 0, 1]], bool)
    >>> mean_surface_distance_mm(prediction, reference, (2.0,))  # 0 from the prediction; 0 and 6 from the reference
    2.0
    """
    return surface_distances(prediction, reference, spacing_mm).mean_mm()


def surface_dice(
    prediction: Mask, reference: Mask, spacing_mm: Sequence[float], *, tolerance_mm: float = TOLERANCE_MM
) -> float:
    """Surface Dice (normalised surface distance): the fraction of both boundaries within a tolerance of the other.

    Source: Nikolov 2021, doi:10.2196/26151, here over boundary voxels as in MONAI. Arguments and errors as for
    `hausdorff_mm`; a tolerance below 0 is a UsageError.

    Returns:
        Surface Dice, 0 to 1: 0 if one mask is empty, NaN if both are.

    >>> prediction, reference = np.array([[1, 0, 0, 0], [1, 0, 0, 1]], bool)
    >>> surface_dice(prediction, reference, (2.0,), tolerance_mm=3)  # 2 of the 3 boundary voxels
    0.6666666666666666
    """
    return surface_distances(prediction, reference, spacing_mm).surface_dice(tolerance_mm)


def boundary(mask: Mask) -> Mask:
    """The voxels of a mask that have a face neighbour outside it; beyond the array is outside.

    Args:
        mask: Mask (...), True inside.

    >>> boundary(np.array([[1, 1, 1], [1, 1, 1], [1, 1, 1]], bool)).astype(int).tolist()
    [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    lattice = Lattice(mask.shape, (1.0,) * mask.ndim, (1,) * mask.ndim)
    found = lattice.boundary(lattice.flat(mask)).reshape(lattice.padded)
    return found[(slice(1, -1),) * mask.ndim]


def bounding_box(*masks: Mask) -> tuple[slice, ...]:
    """The smallest box that holds every mask, as one slice object per axis; empty slices if all are empty.

    Args:
        masks: Masks (...) of one shape, True inside.

    >>> bounding_box(np.array([0, 1, 0, 0], bool), np.array([0, 0, 1, 0], bool))
    (slice(1, 3, None),)
    """
    # The slowest axis first: its slabs are contiguous in memory, and the other axes are read from one slab's
    # projection.
    filled = [np.zeros(side, dtype=bool) for side in masks[0].shape]
    for mask in masks:
        axes = sorted(range(mask.ndim), key=lambda axis: -mask.strides[axis])
        slowest, others = axes[0], tuple(axes[1:])
        slabs = np.any(mask, axis=others)
        filled[slowest] |= slabs
        where = np.flatnonzero(slabs)
        if where.size and others:
            part = mask[(slice(None),) * slowest + (slice(int(where[0]), int(where[-1]) + 1),)]
            shadow = np.any(part, axis=slowest)
            for axis in others:
                kept = axis - (axis > slowest)
                filled[axis] |= np.any(shadow, axis=tuple(other for other in range(shadow.ndim) if other != kept))
    ends = [np.flatnonzero(along) for along in filled]
    return tuple(slice(int(end[0]), int(end[-1]) + 1) if end.size else slice(0, 0) for end in ends)


def box_with_neighbours(box: Sequence[slice], shape: Sequence[int]) -> tuple[slice, ...]:
    """A box with the voxels around it, as far as the grid goes.

    >>> box_with_neighbours([slice(0, 2), slice(3, 5)], (9, 9))
    (slice(0, 3, None), slice(2, 6, None))
    """
    return tuple(
        slice(max(0, one.start - 1), min(side, one.stop + 1)) if one.stop else one
        for one, side in zip(box, shape, strict=True)
    )


def _undefined(reading: Reading) -> SurfaceDistances:
    """Distances of which every metric is NaN."""
    nothing = np.zeros(0)
    return SurfaceDistances(nothing, nothing, nothing, nothing, reading)


def _hidden(masks: Sequence[Mask], on_prediction: Mask, on_reference: Mask) -> bool:
    """Whether a mask holds something and none of its surface was seen."""
    return any(
        bool(mask.any()) and not on_mask.any()
        for mask, on_mask in zip(masks[:2], (on_prediction, on_reference), strict=True)
    )


def _surfel_distances(masks: Sequence[Mask], spacing: tuple[float, ...]) -> SurfaceDistances:
    """The distances between the 2x2x2 blocks through which the surfaces pass, weighted by the area in each."""
    missing = 3 - masks[0].ndim
    blocks = [codes(_slab(mask))[(...,) + (1,) * missing] for mask in masks]
    areas = areas_mm2(spacing + (1.0,) * missing)
    lattice = Lattice.around(blocks[0].shape, spacing)
    passed = [(block != 0) & (block != 255) for block in blocks[:2]]
    for unseen in blocks[2:]:  # of a block that is not seen whole nobody knows the surface
        passed = [one & (unseen == 0) for one in passed]
    on_prediction, on_reference = (lattice.flat(one) for one in passed)
    if _hidden(masks, on_prediction, on_reference):
        return _undefined("surfel")
    return SurfaceDistances(
        lattice.nearest_mm(on_prediction, on_reference),
        lattice.nearest_mm(on_reference, on_prediction),
        areas[blocks[0][passed[0]]],
        areas[blocks[1][passed[1]]],
        "surfel",
    )


def _slab(mask: Mask) -> Mask:
    """A plane as a slab of two layers: it has no end between them, so its surface is its rim, 1 mm2 per mm."""
    missing = 3 - mask.ndim
    return np.broadcast_to(mask.reshape(mask.shape + (1,) * missing), mask.shape + (2,) * missing)


def _weighted_percentile(distances: Distances, weights: Distances, percentile: float) -> float:
    """The smallest distance up to which at least that fraction of the weight is found: no interpolation."""
    order = np.argsort(distances)
    share = np.cumsum(weights[order]) / weights.sum()
    return float(distances[order][min(int(np.searchsorted(share, percentile / 100)), len(distances) - 1)])


def __getattr__(name: str) -> object:
    if name.startswith("__"):  # what Python itself looks for while it imports
        raise AttributeError(name)
    from volseg.metrics.earlier import earlier_function

    return earlier_function(__name__, name)
