"""Counting and matching of a mask's objects: cells, nuclei, lesions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import GeometryError, LabelError, UsageError
from volseg.metrics.overlap import Mask, check_masks

IOU_THRESHOLD = 0.5

OBJECTS_DEFINITION = (
    "Objects = connected parts of the mask, joined over faces, edges and corners; each counts, whatever its size. "
    "Objects that touch count as one; but where the cohort has maps of objects, those of the reference are taken from "
    "there. Where nobody looked (the label 'ignore') nothing counts: without such a map, what lies on both sides of it "
    "is two parts, in both masks alike."
)
MATCHED_DEFINITION = (
    "Matched objects = pairs of one predicted and one reference object whose intersection over union is above 0.5, "
    "which leaves each at most one partner."
)
OBJECT_F1_DEFINITION = (
    "Object F1 = 2 matched / (predicted + reference objects). Missed and invented count as 0; both empty is undefined "
    "and left out."
)
CONTOURS_DEFINITION = (
    "Contours = closed outlines that a reader would draw, slice by slice: one round each connected part of a slice and "
    "one round each hole in it."
)
HOLES_DEFINITION = (
    "Holes = background that the mask encloses: parts joined over faces that touch no edge of the grid. A part with "
    "voxels of the label 'ignore' is none, since nobody knows where it ends."
)


@dataclass(frozen=True)
class Objects:
    """The numbers of objects of two masks.

    Attributes:
        predicted: Number of objects of the prediction.
        reference: Number of objects of the reference.
        matched: Number of pairs above the threshold.
        f1: 2 matched / (predicted + reference), 0 to 1; NaN if there is no object.
    """

    predicted: int
    reference: int
    matched: int

    @property
    def f1(self) -> float:
        """The F1 score of the objects, 0 to 1; NaN if there is no object."""
        total = self.predicted + self.reference
        return 2 * self.matched / total if total else math.nan


def match_objects(
    prediction: Mask,
    reference: Mask,
    *,
    iou_threshold: float = IOU_THRESHOLD,
    instances: NDArray[np.integer[Any]] | None = None,
    whole: Mask | None = None,
) -> Objects:
    """Count the objects of two masks and those that match: intersection over union above the threshold.

    An object is a part connected over faces, edges and corners (8 neighbours in an image, 26 in a volume). At a
    threshold of 0.5 or more no object has two partners, so none has to be chosen. Source: Kirillov 2019,
    doi:10.1109/CVPR.2019.00963.

    Args:
        prediction: Mask (X, Y) or (X, Y, Z), True inside.
        reference: Mask of the same shape, True inside.
        iou_threshold: Threshold, 0.5 to 1; 1 is never exceeded.
        instances: Number of the object, from 1, in each voxel of the reference, which separates touching objects; None
            (the default) for connected parts.
        whole: Mask of the prediction with its voxels where nobody looked, which join its parts and count for nothing
            else; None (the default) for the prediction.

    Raises:
        LabelError: A mask is not boolean, or a voxel of the reference belongs to no object.
        GeometryError: The shapes differ.
        UsageError: The threshold is outside 0.5 to 1.

    >>> prediction = np.array([[1, 1, 1, 0, 1, 0, 0]], bool)
    >>> reference = np.array([[0, 1, 1, 0, 0, 0, 1]], bool)
    >>> found = match_objects(prediction, reference)  # 2 of 3 voxels shared; one invented, one missed
    >>> found, found.f1
    (Objects(predicted=2, reference=2, matched=1), 0.5)
    >>> match_objects(reference, reference, instances=np.array([[0, 1, 9, 0, 0, 0, 4]]))  # the first two touch
    Objects(predicted=2, reference=3, matched=1)
    """
    check_masks(prediction, reference)
    if not 0.5 <= iou_threshold <= 1:
        raise UsageError(f"the threshold must be from 0.5 to 1, where a match is unique, got {iou_threshold}")
    if whole is None:
        ours, predicted = _labelled(prediction, diagonal=True)
    else:
        check_masks(prediction, whole)
        ours, predicted = _renumbered(prediction, _labelled(whole | prediction, diagonal=True)[0])
    if instances is None:
        theirs, expected = _labelled(reference, diagonal=True)
    else:
        theirs, expected = _renumbered(reference, instances)
    shared = prediction & reference
    pairs, overlap = np.unique(ours[shared] * np.int64(expected + 1) + theirs[shared], return_counts=True)
    one, other = np.divmod(pairs, expected + 1)
    union = np.bincount(ours.ravel())[one] + np.bincount(theirs.ravel())[other] - overlap
    # The quotient of two whole numbers is rounded as the threshold was; a product is not: 57 > 0.57 * 100.
    return Objects(predicted, expected, int((overlap / union > iou_threshold).sum()))


def count_objects(mask: Mask) -> int:
    """Count the connected parts of a mask, joined over faces, edges and corners.

    >>> count_objects(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 1, 1]], bool))
    2
    """
    check_masks(mask)
    return _labelled(mask, diagonal=True)[1]


def count_holes(mask: Mask, *, unseen: Mask | None = None) -> int:
    """Count the parts of the background that the mask encloses; in a volume a ring encloses nothing, in (X, Y) it does.

    Args:
        mask: Mask (X, Y) or (X, Y, Z).
        unseen: Mask of the same shape of the voxels that nobody looked at, where the mask has none; a part that holds
            such a voxel is not counted. None (the default) if all were seen.

    >>> count_holes(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)), count_holes(np.array([[1, 0, 1]], bool))
    (1, 0)
    """
    check_masks(*(mask,) if unseen is None else (mask, unseen))
    parts, count = _labelled(~np.pad(mask, 1), diagonal=False)
    open_ = 1 if unseen is None else len({1, *np.unique(parts[np.pad(unseen & ~mask, 1)]).tolist()})
    return count - open_  # the outside is one part, the first


def count_contours(mask: Mask, *, slice_axis: int = -1, unseen: Mask | None = None) -> int:
    """Count the closed outlines of a mask in all slices: one per part of a slice and one per hole of it.

    Args:
        mask: Mask (X, Y) or (X, Y, Z); parts are joined over edges and corners.
        slice_axis: Axis of a volume that counts the slices, by default the last; `volseg.volume.slice_axis` gives
            that of an affine.
        unseen: Mask of the voxels that nobody looked at, see `count_holes`.

    >>> ring = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    >>> count_contours(ring), count_contours(np.stack([ring, ~ring], axis=2))
    (2, 3)
    """
    check_masks(*(mask,) if unseen is None else (mask, unseen))
    planes = _planes(mask, slice_axis)
    hidden = None if unseen is None else _planes(unseen, slice_axis)
    used = np.flatnonzero(planes.any(axis=(0, 1)))
    return sum(
        count_objects(planes[..., z]) + count_holes(planes[..., z], unseen=None if hidden is None else hidden[..., z])
        for z in used.tolist()
    )


def _planes(mask: Mask, slice_axis: int) -> Mask:
    """The mask (X, Y, slices), of which there is one in a mask of fewer axes."""
    return mask.reshape(mask.shape + (1,) * (3 - mask.ndim)) if mask.ndim < 3 else np.moveaxis(mask, slice_axis, -1)


def _renumbered(mask: Mask, instances: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int32], int]:
    """The objects within a mask numbered from 1 without gaps, and their number."""
    if instances.shape != mask.shape:
        raise GeometryError(
            f"the map of objects must have the mask's shape {mask.shape}, got {instances.shape}; give one grid"
        )
    held = instances[mask]
    if (held == 0).any():
        raise LabelError(
            f"each voxel of the reference must belong to an object of its map, got {int((held == 0).sum())} that "
            "belong to none; convert the case again"
        )
    found, places = np.unique(held, return_inverse=True)
    numbered = np.zeros(mask.shape, dtype=np.int32)
    numbered[mask] = places + 1
    return numbered, len(found)


def _labelled(mask: Mask, *, diagonal: bool) -> tuple[NDArray[np.int32], int]:
    """The parts numbered from 1, and their number."""
    from scipy import ndimage

    neighbours = ndimage.generate_binary_structure(mask.ndim, mask.ndim if diagonal else 1)
    numbered = np.empty(mask.shape, dtype=np.int32)
    count = ndimage.label(mask, structure=neighbours, output=numbered)
    return numbered, int(count)
