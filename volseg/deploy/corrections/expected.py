"""The work that a prediction is expected to make: mm of contour by region, from what the network promises of itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from volseg.cohort import RegionBounds, read_bounds, read_uncertainty
from volseg.labels import LabelTable
from volseg.metrics import added_path_length_mm
from volseg.volume import Volume, slice_axis

# Without any word of the network a prediction counts as this good.
_UNKNOWN = 0.5
# Up to so many times the usual score a case is a usual one: the differences below tell nothing of Dice or mm.
_USUAL_UNLIKENESS = 3.0


@dataclass(frozen=True)
class Promise:
    """The Dice of one region that is reckoned with, and where it comes from: `bound`, `network` or `nothing`."""

    dice: float
    source: str


def promise(bounds: RegionBounds | None, expected_dice: float | None) -> Promise:
    """The Dice that is reckoned with: the bound of a calibrated network, else what the network expects of itself.

    A region of which nothing was predicted counts by the probability that it is not there either.

    >>> promise(RegionBounds(dice_at_least=0.8), 0.95), promise(None, 0.95)
    (Promise(dice=0.8, source='bound'), Promise(dice=0.95, source='network'))
    >>> promise(RegionBounds(not_comparable="the spacing differs"), None)
    Promise(dice=0.5, source='nothing')
    """
    if bounds is not None and bounds.dice_at_least is not None:
        missed = bounds.missed if bounds.dice_at_least == 0 else None
        return Promise(bounds.dice_at_least if missed is None else 1 - missed, "bound")
    if expected_dice is not None:
        return Promise(expected_dice, "network")
    return Promise(_UNKNOWN, "nothing")


def read_promises(predictions: Path, keys: Iterable[str], pairs: Mapping[str, str]) -> dict[str, dict[str, Promise]]:
    """The Dice that is reckoned with in each region of each case, from the `uncertainty.csv` of a folder.

    Args:
        predictions: Folder of predictions.
        keys: Cases.
        pairs: Name of each region among the predictions' own, by the name that is wanted.

    Raises:
        UsageError: The file is something else.
    """
    bounds, expected = read_bounds(predictions), read_uncertainty(predictions)
    return {
        key: {
            name: promise(bounds.get(key, {}).get(own), expected.get(key, {}).get(own)) for name, own in pairs.items()
        }
        for key in keys
    }


@dataclass(frozen=True)
class Extent:
    """How much of a region there is to draw.

    Attributes:
        contour_mm: Length of its contour in mm, summed over slices.
        pixels_mm: Length in mm if each pixel of it was contour.
    """

    contour_mm: float
    pixels_mm: float


def extents(label: Volume, labels: LabelTable) -> dict[str, Extent]:
    """The extent of each region of a label map."""
    axis = slice_axis(label.affine_ras, label.shape)
    pixel_mm = math.sqrt(math.prod(mm for other, mm in enumerate(label.spacing_mm) if other != axis))
    empty = np.zeros(label.shape, dtype=np.bool_)
    return {
        name: Extent(added_path_length_mm(empty, mask, label.spacing_mm, slice_axis=axis), int(mask.sum()) * pixel_mm)
        for name, mask in zip(labels.names, labels.each_mask(label.voxels), strict=True)
    }


def lacking_dice(promises: Mapping[str, Promise], unlikeness: float) -> dict[str, float]:
    """The Dice that a case is expected to lack by region: what is promised, more if the case is unlike usual ones.

    A network promises too much of what it has never seen. Among usual cases, up to three times the usual score, the
    order of what it promises is the better one (docs/benchmarks/loop_orders.md), so that the score counts from there
    on.

    Args:
        promises: What is promised of each region.
        unlikeness: How unlike the usual cases the case is; 1 is usual.

    >>> lacking_dice({"liver": Promise(0.75, "network")}, 2.0), lacking_dice({"liver": Promise(0.75, "network")}, 6.0)
    ({'liver': 0.25}, {'liver': 0.5})
    """
    factor = max(1.0, unlikeness / _USUAL_UNLIKENESS)
    return {name: min(1.0, (1 - one.dice) * factor) for name, one in promises.items()}


def expected_mm(
    found: Mapping[str, Mapping[str, Extent]], lacking: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """The mm of contour that each case is expected to need, by region.

    Of n pixels 2 n (1 - Dice) are expected to be wrong, and each is a pixel of contour to draw anew, until all of the
    contour is. A region of which nothing was predicted is reckoned with the median of the other cases that have it.

    Args:
        found: Extent by case and region.
        lacking: Expected lack of Dice, by case and region.

    >>> found = {"a": {"liver": Extent(100.0, 500.0)}, "b": {"liver": Extent(0.0, 0.0)}}
    >>> expected_mm(found, {"a": {"liver": 0.05}, "b": {"liver": 0.5}})
    {'a': {'liver': 50.0}, 'b': {'liver': 100.0}}
    """
    regions = list(dict.fromkeys(name for case in found.values() for name in case))
    usual = {}
    for name in regions:
        held = [case[name] for case in found.values() if name in case and case[name].pixels_mm > 0]
        usual[name] = Extent(
            median(one.contour_mm for one in held) if held else 0.0,
            median(one.pixels_mm for one in held) if held else 0.0,
        )
    return {
        key: {name: _mm(one, usual[name], lacking[key][name]) for name, one in case.items()}
        for key, case in found.items()
    }


def _mm(extent: Extent, usual: Extent, lacking: float) -> float:
    one = extent if extent.pixels_mm > 0 else usual
    return min(one.contour_mm, 2 * lacking * one.pixels_mm)
