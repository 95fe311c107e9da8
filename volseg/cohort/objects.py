"""The map of objects of a label that a person corrected: numbers of before stay, and what is new gets one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.labels import LabelMap


def numbered_anew(
    label_map: LabelMap,
    former: NDArray[np.integer[Any]] | None,
    *,
    spacing_mm: tuple[float, float, float],
    unseen: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint32]:
    """The objects of a label map by number, 0 outside.

    Voxels that had a number keep it. Others take that of the nearest voxel of their connected part, and a part without
    any is a new object. An object that was one part and is several now becomes as many; the largest keeps the number.

    Args:
        label_map: Corrected label map (X, Y, Z); objects of two values are never one part.
        former: Numbers (X, Y, Z) of the objects before; None if there were none.
        spacing_mm: Spacing in mm along X, Y, Z.
        unseen: Mask (X, Y, Z) of the voxels that nobody looked at, which are of no object; None if all were seen.

    >>> before = np.array([1, 1, 0, 2, 2, 0, 0, 0]).reshape(8, 1, 1)
    >>> label_map = np.array([1, 1, 1, 1, 1, 0, 1, 1], np.uint8).reshape(8, 1, 1)
    >>> numbered_anew(label_map, before, spacing_mm=(1, 1, 1)).ravel().tolist()
    [1, 1, 1, 2, 2, 0, 3, 3]
    >>> label_map = np.array([1, 0, 1, 2, 2, 0, 0, 0], np.uint8).reshape(8, 1, 1)
    >>> before = np.array([1, 1, 1, 2, 2, 0, 0, 0]).reshape(8, 1, 1)
    >>> numbered_anew(label_map, before, spacing_mm=(1, 1, 1)).ravel().tolist()
    [1, 0, 3, 2, 2, 0, 0, 0]
    """
    from scipy import ndimage

    joined = np.ones((3, 3, 3), bool)
    seen = label_map != 0 if unseen is None else (label_map != 0) & ~unseen
    old = np.zeros(label_map.shape, np.uint32) if former is None else former.astype(np.uint32)
    numbers = np.where(seen, old, np.uint32(0))
    free = int(old.max(initial=0)) + 1
    for value in np.unique(label_map[seen]).tolist():
        parts, _ = ndimage.label(seen & (label_map == value), joined)
        boxes = ndimage.find_objects(parts)
        for part in np.unique(parts[(parts > 0) & (numbers == 0)]).tolist():
            here, inside = numbers[boxes[part - 1]], parts[boxes[part - 1]] == part
            known = inside & (here != 0)
            if not known.any():
                here[inside] = free
                free += 1
                continue
            nearest = ndimage.distance_transform_edt(
                ~known, sampling=spacing_mm, return_distances=False, return_indices=True
            )
            missing = inside & (here == 0)
            here[missing] = here[tuple(nearest[:, missing])]
    differs = numbers != old
    for number in np.union1d(old[differs], numbers[differs]).tolist():
        parts, count = ndimage.label(numbers == number, joined)
        if number == 0 or count < 2 or ndimage.label(old == number, joined)[1] != 1:
            continue
        sizes = np.bincount(parts.ravel())[1:]
        for part in (np.argsort(-sizes, kind="stable")[1:] + 1).tolist():
            numbers[parts == part] = free
            free += 1
    return numbers
