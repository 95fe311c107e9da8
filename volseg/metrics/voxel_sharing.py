"""Regions that exclude each other: each voxel goes to the one whose expected Dice it raises most."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import GeometryError
from volseg.metrics.dice_optimum import (
    FIRST_BOUND,
    PLAIN,
    ROUNDING,
    DiceThreshold,
    best_threshold,
    dice_threshold,
    expected_ratio,
    sum_precisely,
)
from volseg.metrics.likely_voxels import single, sum_voxels
from volseg.metrics.temperature import Scaling

# Rounds after which the regions that exclude each other no longer change worth mentioning; most need two or three.
_MAX_ROUNDS = 8
_ENOUGH = 5e-5  # expected Dice per region that no further round could add
_HARDLY = 5e-6  # expected Dice per region: a round that adds less is the last
_LITTLE = 0.05  # expected Dice below which a region is gone through as a whole
_MOST_DOUBTFUL = 0.25  # share of the volume above which the background tells too little
_PART = 2**18  # voxels gone through together, which stay in the processor's cache

Numbers = NDArray[np.unsignedinteger[Any]]
"""Number of the region of each voxel, from 1; 0 is background."""


def share_out(
    probabilities: NDArray[np.floating[Any]],
    scalings: Sequence[Scaling],
    background: NDArray[np.floating[Any]] | None,
) -> tuple[NDArray[np.intp], Numbers]:
    """Voxels that some region may claim, and the region of each.

    Args:
        probabilities: Probabilities (R, N) of the regions.
        scalings: Correction of each region.
        background: Probability (N,) of the background, or None.

    Returns:
        Places (n,) and numbers (n,).
    """
    places, near, found = _near(probabilities, scalings, background)
    totals = np.array([one.total for one in found])
    sizes = np.array([one.voxels for one in found], dtype=np.float64)
    ratios = np.array([one.expected_dice for one in found])
    enough = float(ratios.sum()) - _ENOUGH * len(near)  # no decision has more than each region by itself
    best, chosen = -1.0, np.zeros(places.size, _kind(len(near)))
    for _ in range(_MAX_ROUNDS):
        region = _by_gain(near, ratios, sizes + totals)
        sizes, ratios = _expected(near, region, totals)
        added = float(ratios.sum()) - best
        if added <= 0:
            break
        best, chosen = best + added, region
        if best >= enough:
            return places, chosen
        if added < _HARDLY * len(near):
            break
    largest = _largest(near)
    return places, largest if _expected(near, largest, totals)[1].sum() > best else chosen


def _near(
    probabilities: NDArray[np.floating[Any]],
    scalings: Sequence[Scaling],
    background: NDArray[np.floating[Any]] | None,
) -> tuple[NDArray[np.intp], list[NDArray[np.floating[Any]]], list[DiceThreshold]]:
    """Voxels that some region may claim, the corrected probabilities (n,) of each region there, and its threshold.

    A threshold falls while a region loses voxels to others: half of it leaves room, and so much that each voxel is kept
    whose largest channel is a region. Where the background is almost sure nothing else is likely, so that it saves a
    pass over each region.
    """
    first = min(FIRST_BOUND, 1 / (len(probabilities) + 1))
    possible = None if background is None else background < 1 - first
    soft = possible is None or np.count_nonzero(possible) > _MOST_DOUBTFUL * possible.size
    if possible is None or soft or any(scaling.changes for scaling in scalings):
        return _near_each(probabilities, scalings)
    places, near, totals = _gathered(probabilities, possible)
    ratios, low = [], []
    for one, values, total in zip(probabilities, near, totals, strict=True):
        ratio = expected_ratio(values[np.flatnonzero(values > 2 * first)], total)
        if ratio < 4 * first:
            # A region that expects so little of itself may have voxels where the background is almost sure.
            ratio = ratio if ratio > _LITTLE else dice_threshold(one).expected_dice
            low.append(one > min(ratio / 4, first))
        ratios.append(min(ratio, 4 * first))
    if low:
        added = np.flatnonzero(np.greater(np.logical_or.reduce(low), possible))
        places = np.concatenate([places, added])
        near = [np.concatenate([own, single(one[added])]) for own, one in zip(near, probabilities, strict=True)]
    found = []
    for values, total, ratio in zip(near, totals, ratios, strict=True):
        likely = values[np.flatnonzero(values > ratio / 2 * (1 - ROUNDING))]
        found.append(best_threshold(likely, total, PLAIN))
    return places, near, found


def _near_each(
    probabilities: NDArray[np.floating[Any]], scalings: Sequence[Scaling]
) -> tuple[NDArray[np.intp], list[NDArray[np.floating[Any]]], list[DiceThreshold]]:
    """Do the same without a background, or where it tells little: each region is gone through."""
    of_regions = list(zip(probabilities, scalings, strict=True))
    found = [dice_threshold(one, scaling) for one, scaling in of_regions]
    possible = np.zeros(probabilities.shape[1], dtype=bool)
    for (one, scaling), known in zip(of_regions, found, strict=True):
        possible |= one > scaling.threshold(min(known.expected_dice / 4, 1 / (len(found) + 1)))
    places = np.flatnonzero(possible)
    return places, [scaling.apply(single(one[places])) for one, scaling in of_regions], found


def _gathered(
    probabilities: NDArray[np.floating[Any]], possible: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], list[NDArray[np.floating[Any]]], list[float]]:
    """Places (n,) of possible voxels, the probabilities (n,) of each region there, and the sum of all of each region.

    One part of the volume after the other is gone through, so that it is read from the memory once.
    """
    parts = [slice(start, start + _PART) for start in range(0, possible.size, _PART)] or [slice(0, 0)]
    there = [np.flatnonzero(possible[part]) for part in parts]
    near, totals = [], []
    for one in probabilities:
        both = [(one[part][places], sum_voxels(one[part])) for part, places in zip(parts, there, strict=True)]
        near.append(single(np.concatenate([picked for picked, _ in both])))
        totals.append(math.fsum(total for _, total in both))
    places = [of_part + part.start for part, of_part in zip(parts, there, strict=True)]
    return np.concatenate(places), near, totals


def share_voxels(
    channels: Iterable[NDArray[np.floating[Any]]], found: Sequence[DiceThreshold]
) -> tuple[NDArray[np.uint16], NDArray[np.floating[Any]]]:
    """Share out voxels among regions that exclude each other, with one channel in memory after the other.

    It is the first round of `volseg.metrics.decide_by_dice`: each voxel above the threshold of some regions goes to the
    one whose expected Dice it raises most.

    Args:
        channels: Probabilities (X, Y, Z) of each region.
        found: Threshold of each region.

    Returns:
        Number (X, Y, Z) of the region of each voxel, from 1; 0 is background. And the probability of that region.

    >>> channels = np.array([[0.9, 0.45, 0.1], [0.0, 0.5, 0.2]])
    >>> share_voxels(channels, [dice_threshold(one) for one in channels])[0].tolist()
    [1, 2, 0]
    """
    ratios = np.array([one.expected_dice for one in found])
    region, winner = None, None
    for number, probability, better in _claims(channels, ratios, np.array([one.voxels + one.total for one in found])):
        if region is None or winner is None:
            region, winner = np.zeros(probability.shape, np.uint16), np.zeros_like(probability)
        np.copyto(region, np.uint16(number), where=better)
        np.copyto(winner, probability, where=better)
    if region is None or winner is None:
        raise GeometryError("voxels must be shared out among regions, got none")
    return region, winner


def _claims(
    channels: Iterable[NDArray[np.floating[Any]]], ratios: NDArray[np.float64], denominators: NDArray[np.float64]
) -> Iterator[tuple[int, NDArray[np.floating[Any]], NDArray[np.bool_]]]:
    """Each region's number, its probabilities, and where it raises its expected Dice more than all before it do."""
    gain = None
    for number, (probability, ratio, denominator) in enumerate(zip(channels, ratios, denominators, strict=True), 1):
        # What the voxel adds to 2 S / (n + total): its share of the numerator less that of the denominator.
        rise = (probability - probability.dtype.type(ratio / 2)) * np.float32(2 / max(denominator, 1e-12))
        if gain is None:
            gain = np.zeros_like(rise)
        yield number, probability, rise > gain
        np.maximum(gain, rise, out=gain)


def _by_gain(
    near: Sequence[NDArray[np.floating[Any]]], ratios: NDArray[np.float64], denominators: NDArray[np.float64]
) -> Numbers:
    """The region (n,) whose expected Dice each voxel raises most; 0 if it raises none."""
    kind = _kind(len(near))
    region = np.zeros(near[0].shape, kind)
    for number, _, better in _claims(near, ratios, denominators):
        # A later region has a larger number, and this takes a tenth of the time of a mask.
        np.maximum(region, better * kind(number), out=region)
    return region


def _largest(near: Sequence[NDArray[np.floating[Any]]]) -> Numbers:
    """The region (n,) of the largest probability, background included."""
    kind = _kind(len(near))
    highest = 1 - near[0]
    for probability in near[1:]:
        highest -= probability
    region = np.zeros(highest.shape, dtype=kind)
    for number, probability in enumerate(near, start=1):
        np.maximum(region, (probability > highest) * kind(number), out=region)
        np.maximum(highest, probability, out=highest)
    return region


def _kind(regions: int) -> type[np.unsignedinteger[Any]]:
    """The smallest type that numbers the regions."""
    return np.uint8 if regions < 256 else np.uint16


def _expected(
    near: Sequence[NDArray[np.floating[Any]]], region: Numbers, totals: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Number of voxels and expected Dice of each region of a decision, from its voxels' own probabilities."""
    own = [np.flatnonzero(region == number) for number in range(1, len(near) + 1)]
    sizes = np.array([one.size for one in own], np.float64)
    sums = np.array([sum_precisely(probability[one]) for probability, one in zip(near, own, strict=True)])
    return sizes, np.divide(2 * sums, sizes + totals, out=np.zeros_like(sums), where=sizes + totals > 0)
