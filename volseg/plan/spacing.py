"""The working spacing: percentiles, finer where a region would vanish, coarser for large images of one slice."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import CaseRow, Cohort
from volseg.plan.decision import Decision
from volseg.plan.fingerprint import Fingerprint, SmallRegion
from volseg.plan.taking import QUICK_VOXELS, take_fingerprint
from volseg.volume import read_volume

_NARROWEST = 16  # smallest width in pixels of a region on a coarser grid
_WORTH = 1.25  # factor below which a coarser grid is not worth a resampling
_STEP = 32  # windows of networks are multiples of it
_ANISOTROPIC = 3  # factor above which slices are thick, as in nnU-Net
_CASES = 12  # number of cases whose labels are measured


def fit_spacing(cohort: Cohort, *, voxels: int, fingerprint: Fingerprint | None = None) -> list[float]:
    """Choose the spacing in mm along X, Y, Z that images are resampled to.

    For volumes it is that of `plan_spacing`: the median, or less where slices are thick or a region would vanish. For
    images of one slice it is the median too, unless a window of this many pixels shows little of an image. Then the
    grid is coarsened equally along both axes until a window shows a whole image; but every region stays 16 pixels wide,
    so that small or thin ones are not lost. A chest X-ray of 3000 x 3000 pixels is reduced to about the size of the
    window, since lungs are large; nuclei, vessels and small lesions keep the full resolution. A factor below 1.25
    changes nothing. Predictions are always on the grid of the file.

    Args:
        cohort: Cohort; medians are of its labelled cases, and widths are measured on up to 12 of them, none kept for a
            test.
        voxels: Number of voxels of a training window, `roi_voxels`.
        fingerprint: Fingerprint of the cohort; None (the default) to take one quickly.

    Raises:
        VolsegError: A label of an image of one slice cannot be read.
    """
    if not cohort.flat:
        facts = take_fingerprint(cohort, voxels=QUICK_VOXELS) if fingerprint is None else fingerprint
        return [float(mm) for mm in plan_spacing(facts).value]
    return _fit_flat(cohort, voxels=voxels)


def plan_spacing(facts: Fingerprint) -> Decision:
    """The working spacing of volumes.

    It is the median along each axis. Along an axis that is more than three times coarser than the others and has less
    than a third of their voxels, it is the 10th percentile, as in nnU-Net (Isensee et al. 2021,
    doi:10.1038/s41592-020-01008-z), so that thin slices are not made as thick as the others. On no grid may a region
    vanish from a case: the axis along which its slices are fewest is refined until one of its voxels stays.

    Args:
        facts: Fingerprint.
    """
    median = list(facts.spacing_mm)
    chosen, reason = _percentiles(facts)
    lost = {(one.key, one.name): one for one in facts.small if not one.kept_on(chosen)}
    before = list(chosen)
    vanishing = list(lost.values())
    while vanishing:
        finer = _refined(chosen, vanishing)
        if finer == chosen:
            break
        chosen = finer
        vanishing = [one for one in facts.small if not one.kept_on(chosen)]
    change = "cases of other spacing that move the median"
    if lost:
        first = min(lost.values(), key=lambda one: (len(one.positions), one.key))
        extent = " x ".join(map(str, first.extent))
        own = "x".join(f"{mm:g}" for mm in first.spacing_mm)
        more = f", and {len(lost) - 1} more regions of cases" if len(lost) > 1 else ""
        reason = (
            f"on {_mm(before)} mm, {reason}, the region {first.name} of {first.key} would vanish: it takes {extent} "
            f"voxels of {own} mm{more}; the finest grid that is needed keeps each"
        )
        change = (
            f"without {first.key} it would be coarser; --spacing_mm [{','.join(f'{mm:g}' for mm in before)}] takes that"
        )
    else:
        reason = f"{reason}; no region of the {facts.looked_at} labels that were read vanishes on it"
    if chosen == median and facts.anisotropy > _ANISOTROPIC:
        change = "thinner slices in a tenth of the cases"
    return Decision("spacing_mm", chosen, reason, change)


def _percentiles(facts: Fingerprint) -> tuple[list[float], str]:
    """The spacing by percentiles, and its reason."""
    chosen = list(facts.spacing_mm)
    worst = max(range(3), key=lambda axis: chosen[axis])
    others = [axis for axis in range(3) if axis != worst]
    coarse = chosen[worst] > _ANISOTROPIC * max(chosen[axis] for axis in others)
    few = _ANISOTROPIC * facts.shape[worst] < min(facts.shape[axis] for axis in others)
    if not (coarse and few):
        return chosen, "the median of the cohort along each axis"
    tenth = max(facts.spacing_range_mm[worst][1], *(chosen[axis] for axis in others))
    if tenth >= chosen[worst]:
        factor = chosen[worst] / min(chosen)
        return (
            chosen,
            f"the median along each axis; slices are {factor:.1f} times thicker in nine of ten cases",
        )
    chosen[worst] = tenth
    return chosen, (
        f"the median in plane, and along {'XYZ'[worst]}, where slices are thick, the 10th percentile ({tenth:g} mm, "
        f"where the median is {facts.spacing_mm[worst]:g} mm)"
    )


def _refined(chosen: Sequence[float], vanishing: Sequence[SmallRegion]) -> list[float]:
    """A finer spacing along the axis on which a region needs it most; at last that of its own case."""
    finer = list(chosen)
    for one in vanishing:
        ratios = [to / (n * mm) for to, n, mm in zip(finer, one.extent, one.spacing_mm, strict=True)]
        axis = max(range(3), key=lambda axis: ratios[axis])
        own = one.spacing_mm[axis]
        if ratios[axis] > 1:
            finer[axis] = _floor(max(own, one.extent[axis] * own))
        else:  # its bounding box is met, its voxels are not
            coarser = [axis for axis in range(3) if finer[axis] > one.spacing_mm[axis]]
            if not coarser:
                continue
            axis = max(coarser, key=lambda axis: finer[axis] / one.spacing_mm[axis])
            finer[axis] = _floor(max(one.spacing_mm[axis], finer[axis] / _WORTH))
    return finer


def _floor(mm: float) -> float:
    """A spacing with three digits, never rounded up by more than a hundredth of a thousandth."""
    return float(f"{mm:.6g}")


def _mm(spacing_mm: Sequence[float]) -> str:
    return " x ".join(f"{mm:g}" for mm in spacing_mm)


def _fit_flat(cohort: Cohort, *, voxels: int) -> list[float]:
    """The spacing of images of one slice."""
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
        masks = cohort.labels.each_mask(read_volume(label).voxels)
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
