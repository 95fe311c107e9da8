"""Outliers: values measured of a label map without a reference, their usual range, and how unusual a case is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import UsageError
from volseg.labels import LabelTable
from volseg.metrics import Mask, count_objects, widest_axis

FEWEST = 5  # number of cases from which a spread is computed
USUAL = 2.0  # z up to which a value is usual
_LARGEST_Z = 6.0
_NEARLY_ALL = 0.95
_MAD_TO_SIGMA = 1.4826  # factor for a normal distribution

Values = Mapping[tuple[str, str], float]
"""Values by (check, region); the region is empty for a check of the image."""

Z_DEFINITION = (
    "z = (value - median) / (1.4826 x median absolute deviation) over the training cases, at most 6; a value that "
    "training cases reach or pass is no more unusual than the share of them that does. Values above z 2 are named."
)


@dataclass(frozen=True)
class Check:
    """The definition of one measured value.

    Attributes:
        name: Name such as `volume`.
        definition: Definition in one sentence.
        two_sided: Whether too small a value is unusual too.
        floor: Smallest spread, so that a tiny deviation among cases that are all alike is not unusual.
    """

    name: str
    definition: str
    two_sided: bool
    floor: float


CHECKS: tuple[Check, ...] = (
    Check("volume", "Volume = natural logarithm of the region's volume in ml.", True, 0.05),
    Check("parts", "Parts = natural logarithm of the number of connected parts.", False, 0.25),
    Check(
        "jump",
        "Jump = largest change of the region's area between neighbouring slices, over its largest area; slices lie "
        "along the axis of largest spacing, else along the axial one.",
        False,
        0.03,
    ),
    Check(
        "grey",
        "Grey = median of the image in the region less that of the whole image, over the range of the image.",
        True,
        0.02,
    ),
    Check("range", "Range = natural logarithm of the image's 99th less its 1st percentile.", True, 0.1),
)

_CHECKS = {check.name: check for check in CHECKS}


@dataclass(frozen=True, eq=False)
class ReferenceRange:
    """The usual range of one check and region.

    Attributes:
        median: Median over the cases that have the region.
        spread: Spread: 1.4826 times the median absolute deviation, at least the check's floor.
        sorted: Values (n,) of these cases, ascending.
        share: Fraction of all cases that have the region.
    """

    median: float
    spread: float
    sorted: NDArray[np.float64]
    share: float

    def z(self, value: float, *, among: bool = False) -> float:
        """Compute how unusual a value is.

        Args:
            value: Value of the case.
            among: Whether the case itself is one of those from which the range was computed.
        """
        z = float(np.clip((value - self.median) / self.spread, -_LARGEST_Z, _LARGEST_Z))
        beyond = self.sorted >= value if z > 0 else self.sorted <= value
        count = int(beyond.sum()) - among
        if count <= 0:
            return z
        limit = max(0.0, -NormalDist().inv_cdf(min(count / len(self.sorted), 0.5)))
        return math.copysign(min(abs(z), limit), z)


@dataclass(frozen=True)
class Finding:
    """One unusual value of a case.

    Attributes:
        check: Name of the check, or `absent`, `invented` or `disagreement`.
        region: Name of the region; empty for the whole case.
        weight: Weight by which the findings of a case are ordered.
        reason: Explanation for people.
    """

    check: str
    region: str
    weight: float
    reason: str


def measure(
    masks: Iterable[Mask],
    spacing_mm: Sequence[float],
    labels: LabelTable,
    image: NDArray[Any] | None = None,
    *,
    slice_axis: int | None = None,
    voxel_ml: float | None = None,
) -> Values:
    """Measure one case by all checks; an empty region has no value.

    Args:
        masks: Masks (X, Y, Z) of the R regions.
        spacing_mm: Spacing in mm along X, Y, Z.
        labels: Label table of the R regions.
        image: Image (X, Y, Z) of any scale, or None.
        slice_axis: Axis that counts the slices; None for the one of largest spacing, the last of equal ones.
        voxel_ml: Volume of a voxel in ml; None (the default) for that of the spacing.

    >>> mask = np.zeros((1, 4, 4, 3), bool)
    >>> mask[0, :2, :2] = True
    >>> values = measure(mask, (10, 10, 10), LabelTable.exclusive(["a"]))
    >>> round(math.exp(values["volume", "a"])), values["parts", "a"], values["jump", "a"]
    (12, 0.0, 0.0)
    """
    values: dict[tuple[str, str], float] = {}
    low = middle = high = math.nan
    if image is not None:
        finite = _finite(image)
        if finite.size:
            low, middle, high = np.percentile(finite, (1, 50, 99)).tolist()
        if high > low:
            values["range", ""] = math.log(high - low)
    axis = widest_axis(spacing_mm) if slice_axis is None else slice_axis
    of_voxel = math.prod(spacing_mm) / 1000 if voxel_ml is None else voxel_ml
    for name, mask in zip(labels.names, masks, strict=True):
        if not mask.any():
            continue
        values["volume", name] = math.log(int(np.count_nonzero(mask)) * of_voxel)
        values["parts", name] = math.log(count_objects(mask))
        values["jump", name] = area_jump(mask, axis)
        if image is not None and high > low and (inside := _finite(image[mask])).size:
            values["grey", name] = (float(np.median(inside)) - middle) / (high - low)
    return values


def _finite(voxels: NDArray[Any]) -> NDArray[Any]:
    """The voxels (n,) that are numbers; all as they are if none can be another."""
    return voxels[np.isfinite(voxels)] if voxels.dtype.kind == "f" else voxels


def area_jump(mask: Mask, axis: int) -> float:
    """The largest change of area between neighbouring slices, divided by the largest area; the ends do not count.

    >>> mask = np.zeros((4, 4, 4), bool)
    >>> mask[:, :, 0] = mask[:, :, 1] = mask[:2, :, 3] = True
    >>> area_jump(mask, 2)  # areas 16, 16, 0, 8
    1.0
    """
    area = mask.sum(axis=tuple(i for i in range(3) if i != axis))
    held = np.flatnonzero(area)
    if held.size < 2:
        return 0.0
    inside = area[held[0] : held[-1] + 1].astype(np.float64)
    return float(np.abs(np.diff(inside)).max() / inside.max())


def learn(cases: Sequence[Values]) -> dict[tuple[str, str], ReferenceRange]:
    """Compute the usual ranges from the measured values of several cases.

    Raises:
        UsageError: There are fewer than five cases.
    """
    if len(cases) < FEWEST:
        raise UsageError(
            f"there must be at least {FEWEST} cases to learn from beside those predicted, got {len(cases)}; name a "
            "folder of more predictions, or a labelled cohort"
        )
    norms = {}
    for name in dict.fromkeys(name for values in cases for name in values):
        there = np.sort([values[name] for values in cases if name in values])
        if there.size < FEWEST:
            continue
        median = float(np.median(there))
        spread = max(_MAD_TO_SIGMA * float(np.median(np.abs(there - median))), _CHECKS[name[0]].floor)
        norms[name] = ReferenceRange(median, spread, there, len(there) / len(cases))
    return norms


def unusual(
    values: Values, norms: Mapping[tuple[str, str], ReferenceRange], *, among: bool = False
) -> tuple[float, list[Finding]]:
    """Compute how unusual a case is, with the reasons.

    Each check gives the negative decimal logarithm of the fraction of usual cases beyond its z (Fisher 1925); their
    mean is about 0.4 for a usual case. The checks depend on each other, so it is no p-value.

    Args:
        values: Values of the case.
        norms: Usual ranges from `learn`.
        among: Whether the case itself is one of those from which the ranges were computed.
    """
    surprises, findings = [], []
    for (name, region), norm in norms.items():
        check = _CHECKS[name]
        value = values.get((name, region))
        if value is None:
            if name == "volume" and norm.share >= _NEARLY_ALL:
                surprises.append(surprisal(_LARGEST_Z))
                reason = f"{_of(region)} is empty; {norm.share * 100:.0f} % of the training cases have it"
                findings.append(Finding("absent", region, _LARGEST_Z, reason))
            continue
        z = norm.z(value, among=among)
        surprises.append(surprisal(abs(z)) if check.two_sided else surprisal(z, two_sided=False))
        if (abs(z) if check.two_sided else z) > USUAL:
            findings.append(Finding(name, region, abs(z), _reason(name, region, value, norm, z)))
    for name, region in values:
        if name == "volume" and (name, region) not in norms:
            surprises.append(surprisal(_LARGEST_Z))
            findings.append(Finding("invented", region, _LARGEST_Z, f"{_of(region)} is in hardly any training case"))
    return (math.fsum(surprises) / len(surprises) if surprises else 0.0), findings


def surprisal(z: float, *, two_sided: bool = True) -> float:
    """The negative decimal logarithm of the probability of a normal value beyond z.

    >>> round(surprisal(1.96), 2), round(surprisal(0, two_sided=False), 2)
    (1.3, 0.3)
    """
    tail = math.erfc(z / math.sqrt(2)) / 2
    return -math.log10(2 * tail if two_sided else tail)


def _reason(name: str, region: str, value: float, norm: ReferenceRange, z: float) -> str:
    many = f"(z {z:+.1f})"
    if name == "volume":
        much = "large" if z > 0 else "small"
        return f"{_of(region)} is {much}: {math.exp(value):.3g} ml, usually {math.exp(norm.median):.3g} ml {many}"
    if name == "parts":
        return f"{_of(region)} is in {math.exp(value):.0f} parts, usually {math.exp(norm.median):.0f} {many}"
    if name == "jump":
        return (
            f"{_of(region)} changes by {value * 100:.0f} % of its area from slice to slice, "
            f"usually {norm.median * 100:.0f} % {many}"
        )
    if name == "grey":
        return f"{_of(region)} lies on {'brighter' if z > 0 else 'darker'} voxels than usual {many}"
    return f"the image's range is {'wider' if z > 0 else 'narrower'} than in training {many}"


def _of(region: str) -> str:
    return region.replace("_", " ")
