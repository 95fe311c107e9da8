"""The values that a label map holds: whole numbers, and which of them there are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import LabelError

ROUNDING = 1e-3
"""Largest distance of a value of a label map from a whole number."""
_STEPS = (2**8 - 1, 2**16 - 1)
_MOST_STEP = 0.5  # of two labels, so that each is nearest to its own value
_SLAB_VOXELS = 2**20


def whole_numbers(label_map: NDArray[Any], *, case: str | None) -> NDArray[Any]:
    """The label map as whole numbers.

    Raises:
        LabelError: A value is a fraction, NaN or infinity.
    """
    if label_map.dtype.kind != "f":
        return label_map
    rounded: NDArray[Any] = np.rint(label_map)
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        off = ~(np.abs(label_map - rounded) <= ROUNDING)
    if off.any() and not _in_steps(np.unique(label_map).astype(np.float64)):
        odd = np.unique(label_map[off])
        shown = ", ".join(f"{value:.6g}" for value in odd[:3].tolist()) + (", ..." if len(odd) > 3 else "")
        cure = (
            "it was resampled with interpolation, or holds probabilities: resample it with nearest neighbour, or "
            "decide which voxels belong to the label"
        )
        if not np.isfinite(odd).any():
            cure = "write 0 there, or the value that is meant"
        raise LabelError(f"the label map holds {shown}, expected whole numbers; {cure}", case=case)
    return rounded


def _in_steps(values: NDArray[np.float64]) -> bool:
    """Whether values, ascending, are whole numbers that were stored in equal steps of their range.

    nibabel stores an array of floats so under a header of 8 or 16 bits (`findings/labels_under_a_header.sh`): of the
    labels 0, 1, 2 in 8 bits the file holds 0, 127 and 255 steps of 2 / 255, so 1 is 0.99608. The ends are whole then,
    and each value is the step that is nearest to a whole number. Probabilities and interpolated values are not.
    """
    ends = values[[0, -1]]
    if not np.isfinite(values).all() or (np.abs(ends - np.rint(ends)) > ROUNDING).any():
        return False
    for steps in _STEPS:
        step = (ends[1] - ends[0]) / steps
        places = (values - ends[0]) / step if step > 0 else values
        even = np.abs(places - np.rint(places)) < 0.05  # values of 32 bits
        if 0 < step < _MOST_STEP and even.all() and (np.abs(values - np.rint(values)) <= 0.501 * step + 1e-5).all():
            return True
    return False


def held_values(label_map: NDArray[Any]) -> NDArray[Any]:
    """The values that a label map holds, ascending; a table of 256 entries is faster than the sort of `np.unique`.

    Most of a label map is background: eight voxels that are all 0 are skipped at once.
    """
    if label_map.dtype.kind not in "iu" or not label_map.size or label_map.min() < 0 or label_map.max() > 255:
        return np.unique(label_map)
    voxels = label_map.ravel(order="K").astype(np.uint8, copy=False)
    whole = voxels.size // 8 * 8
    eights = voxels[:whole].view(np.uint64)
    some = eights[eights != 0]
    held = np.zeros(256, dtype=bool)
    held[0] = some.size < eights.size
    held[some.view(np.uint8)] = True
    held[voxels[whole:]] = True
    return np.flatnonzero(held)


def value_counts(label_map: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The number of voxels of each of the 256 values, slab by slab: `np.bincount` takes eight bytes per voxel.

    >>> value_counts(np.array([[0, 2], [2, 255]], np.uint8))[[0, 1, 2, 255]].tolist()
    [1, 0, 2, 1]
    """
    counts = np.zeros(256, np.int64)
    if not label_map.size:
        return counts
    axis = max(range(label_map.ndim), key=lambda one: abs(label_map.strides[one]))
    step = max(1, _SLAB_VOXELS * label_map.shape[axis] // label_map.size)
    for first in range(0, label_map.shape[axis], step):
        slab = label_map[(slice(None),) * axis + (slice(first, first + step),)]
        counts += np.bincount(slab.ravel(order="K"), minlength=256)
    return counts
