"""The work that a prediction is expected to make: mm of contour by region, from what the network promises of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

from volseg.cohort import RegionBounds
from volseg.labels import LabelTable
from volseg.metrics import added_path_length_mm
from volseg.volume import Volume, slice_axis

# Without any word of the network a prediction counts as this good.
_UNKNOWN = 0.5


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


def contour_mm(label: Volume, labels: LabelTable) -> dict[str, float]:
    """The length of the contour of each region in mm, summed over slices."""
    axis = slice_axis(label.affine_ras, label.shape)
    empty = np.zeros(label.shape, dtype=np.bool_)
    return {
        name: added_path_length_mm(empty, mask, label.spacing_mm, slice_axis=axis)
        for name, mask in zip(labels.names, labels.each_mask(label.voxels), strict=True)
    }


def expected_mm(
    contours: Mapping[str, Mapping[str, float]], promises: Mapping[str, Mapping[str, Promise]]
) -> dict[str, dict[str, float]]:
    """The mm of contour that each case is expected to need, by region: the share that is not right times its length.

    A region of which nothing was predicted is reckoned with the median length of the other cases that have it.

    Args:
        contours: Length of the predicted contour in mm, by case and region.
        promises: Dice that is reckoned with, by case and region.

    >>> contours = {"a": {"liver": 100.0}, "b": {"liver": 0.0}}
    >>> expected_mm(contours, {key: {"liver": Promise(0.75, "network")} for key in contours})
    {'a': {'liver': 25.0}, 'b': {'liver': 25.0}}
    """
    regions = list(dict.fromkeys(name for case in contours.values() for name in case))
    usual = {}
    for name in regions:
        held = [case[name] for case in contours.values() if case.get(name)]
        usual[name] = median(held) if held else 0.0
    return {
        key: {name: (1 - promises[key][name].dice) * (mm or usual[name]) for name, mm in case.items()}
        for key, case in contours.items()
    }
