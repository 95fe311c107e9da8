"""The spacing for a cohort: its median spacing, or a coarser one for images far larger than a window."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import CaseRow, Cohort
from volseg.volume import read_volume

_NARROWEST = 16  # smallest width in pixels of a region on a coarser grid
_WORTH = 1.25  # factor below which a coarser grid is not worth a resampling
_STEP = 32  # windows of networks are multiples of it
_CASES = 12  # number of cases whose labels are measured


def fit_spacing(cohort: Cohort, *, voxels: int) -> list[float]:
    """Choose the spacing in mm along X, Y, Z that images are resampled to.

    For volumes it is the median. For images of one slice it is the median too, unless a window of this many pixels
    shows little of an image. Then the grid is coarsened equally along both axes until a window shows a whole image; but
    every region stays 16 pixels wide, so that small or thin ones are not lost. A chest X-ray of 3000 x 3000 pixels is
    reduced to about the size of the window, since lungs are large; nuclei, vessels and small lesions keep the full
    resolution. A factor below 1.25 changes nothing. Predictions are always on the grid of the file.

    Args:
        cohort: Cohort; medians are of its labelled cases, and widths are measured on up to 12 of them, none kept for a
            test.
        voxels: Number of voxels of a training window, `roi_voxels`.

    Raises:
        VolsegError: A label cannot be read.
    """
    if not cohort.flat:
        return cohort.median_spacing_mm()
    rows = [cohort.rows[key] for key in sorted(cohort.labelled) or cohort.keys]
    spacing_mm = _medians([row.along_ras(row.spacing_mm) for row in rows])
    shape = _medians([row.along_ras(row.shape) for row in rows])
    factor = math.sqrt(math.prod(shape) / voxels)
    if factor >= _WORTH:
        # A longer side of 362 voxels would need two windows of 352; one of 352 needs one.
        factor = max(shape) / max(_STEP, max(shape) / factor // _STEP * _STEP)
        factor = min(factor, narrowest_px(cohort, rows) / _NARROWEST)
    if factor < _WORTH:
        factor = 1.0
    return [float(f"{mm * (factor if n > 1 else 1):.6g}") for mm, n in zip(spacing_mm, shape, strict=True)]


def narrowest_px(cohort: Cohort, rows: Sequence[CaseRow]) -> float:
    """The width in pixels of the region that is narrowest in its median case; 0 if nothing is labelled.

    Args:
        cohort: Cohort of the cases.
        rows: Rows of candidates; up to 12 that have a label and are not kept for a test are read.
    """
    keys = [row.key for row in rows if row.key in cohort.labelled and not row.test]
    widths: dict[str, list[float]] = {name: [] for name in cohort.labels.names}
    for key in keys[:: max(1, math.ceil(len(keys) / _CASES))]:
        label, objects = cohort.label_path(key), cohort.instances_path(key)
        if label is None:
            continue
        masks = cohort.labels.masks(read_volume(label).voxels)
        numbers = read_volume(objects).voxels if objects else None
        for name, mask in zip(cohort.labels.names, masks, strict=True):
            if mask.any():
                widths[name].append(mean_width_px(mask if numbers is None else np.where(mask, numbers, 0)))
    return min((statistics.median(found) for found in widths.values() if found), default=0.0)


def mean_width_px(numbers: NDArray[np.generic]) -> float:
    """Twice the area over the length of the boundary: the width of a strip, half the diameter of a disc.

    The boundary is counted in sides of pixels, times pi / 4, which is right on average over all directions.

    Args:
        numbers: Object numbers of any shape, 0 outside; objects that touch have a boundary between them.

    >>> strip = np.zeros((1000, 100, 1), np.uint8)
    >>> strip[:, 40:50] = 1
    >>> round(mean_width_px(strip) * math.pi / 4, 1)
    9.9
    """
    sides = 0
    for axis in [axis for axis, n in enumerate(numbers.shape) if n > 1]:
        moved = np.moveaxis(np.pad(numbers, [(int(axis == one),) * 2 for one in range(numbers.ndim)]), axis, 0)
        before, after = moved[:-1], moved[1:]
        # A side between two objects belongs to the boundaries of both.
        sides += int(np.count_nonzero((before != after) & (before != 0)))
        sides += int(np.count_nonzero((before != after) & (after != 0)))
    return 2 * int(np.count_nonzero(numbers)) / (max(1, sides) * math.pi / 4)


def _medians(values: Sequence[Sequence[float]]) -> list[float]:
    """The median along each axis."""
    return [statistics.median(along) for along in zip(*values, strict=True)]
