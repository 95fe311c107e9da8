"""The decision that Dice deserves: the set of voxels whose expected Dice is largest, from probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import GeometryError
from volseg.metrics.probability_rows import ProbabilityRows
from volseg.metrics.temperature import Scaling

DICE_DECISION_DEFINITION = (
    "The decision P with the largest expected Dice 2 sum(p over P) / (|P| + sum(p)) consists of the voxels whose "
    "probability p exceeds half of that Dice (Lipton et al. 2014, arXiv:1402.1892; RankSEG, Dai and Li, JMLR 2023). "
    "It equals a threshold of 0.5 where a network is certain, and takes more voxels where it is not."
)

# Rounds after which the regions that exclude each other no longer change worth mentioning; most need two or three.
_MAX_ROUNDS = 8
_PLAIN = Scaling()


@dataclass(frozen=True)
class DiceThreshold:
    """A threshold of one region and what is expected of its decision.

    Attributes:
        threshold: Probability that a voxel of the region must exceed; 0 to 0.5 without a correction.
        expected_dice: Expected Dice of the decision, 0 to 1; 0 if no voxel has a probability above 0.
        voxels: Number of voxels above the threshold.
        total: Sum of all probabilities, the expected size of the region in voxels.
    """

    threshold: float
    expected_dice: float
    voxels: int
    total: float


def dice_threshold(probability: NDArray[np.floating[Any]], scaling: Scaling = _PLAIN) -> DiceThreshold:
    """Find the threshold whose decision has the largest expected Dice; it is exact, without a sort or a histogram.

    The ratio 2 sum(p over P) / (|P| + sum(p)) is largest for a set of the form `p > ratio / 2` (Lipton et al. 2014,
    arXiv:1402.1892). From any set to the set of its own ratio, the ratio grows until it stays (Dinkelbach 1967,
    doi:10.1287/mnsc.13.7.492), so that every later set lies within the first one. The size of the region in the
    denominator is its mean, which changes the result by the inverse of that size: nothing from some ten voxels on.

    Beside the sum of all, only voxels above the threshold of some set are looked at, so that little memory is taken.

    Args:
        probability: Probability (...) of each voxel to belong to the region, 0 to 1.
        scaling: Correction of the probabilities.

    Returns:
        Threshold of the probability as it was given, half of the expected Dice without a correction; 0.5 exactly if no
        voxel has a probability above 0. The other numbers are those of the corrected probabilities.

    >>> found = dice_threshold(np.array([0.9, 0.45, 0.4, 0.1]))  # 2 x 1.75 / (3 + 1.85) of the first three
    >>> round(found.expected_dice, 4), round(found.threshold, 4), found.voxels
    (0.7216, 0.3608, 3)
    """
    rows = ProbabilityRows(probability)
    total = scaling.total(rows)

    def above(threshold: float) -> NDArray[np.floating[Any]]:
        """The corrected probabilities above a corrected threshold."""
        return scaling.apply(rows.above(scaling.threshold(threshold)))

    inside = above(0.5)
    if not inside.size:
        highest = float(scaling.apply(np.array([rows.highest]))[0])
        if not highest > 0:
            return DiceThreshold(0.5, 0.0, 0, total)
        inside = above(highest / 2)
    size, total_inside = inside.size, float(inside.sum(dtype=np.float64))
    ratio = 2 * total_inside / (size + total)
    inside = above(ratio / 2)
    size, total_inside = inside.size, float(inside.sum(dtype=np.float64))
    while True:
        now = 2 * total_inside / (size + total)
        if not now > ratio:
            return DiceThreshold(scaling.threshold(ratio / 2), max(now, ratio), size, total)
        ratio = now
        size, total_inside = _above(inside, ratio / 2)
        if 2 * size < inside.size:
            inside = inside[inside > ratio / 2]


def _above(probability: NDArray[np.floating[Any]], threshold: float) -> tuple[int, float]:
    """Number and sum of the probabilities (n,) above a threshold, which need not be picked out for it."""
    size = int(np.count_nonzero(probability > threshold))
    bound = probability.dtype.type(threshold)
    raised = float(np.maximum(probability, bound).sum(dtype=np.float64))
    return size, raised - float(bound) * (probability.size - size)


def decide_by_dice(
    probabilities: NDArray[np.floating[Any]], *, exclusive: bool, scalings: Sequence[Scaling] | None = None
) -> NDArray[np.bool_]:
    """Decide the masks with the largest expected Dice, region by region.

    Regions that exclude each other share out the voxels that several claim: a voxel goes to the region whose expected
    Dice it raises most, and the thresholds follow until the sum of the regions' expected Dice no longer grows.

    Args:
        probabilities: Probabilities (R, ...) of the regions, without a channel of background.
        exclusive: Whether a voxel belongs to one region at most.
        scalings: Correction of the probabilities of each region; None (the default) for none.

    Returns:
        Masks (R, ...).

    Raises:
        GeometryError: The array has no axis of regions.

    >>> decide_by_dice(np.array([[0.9, 0.45, 0.1], [0.0, 0.5, 0.2]]), exclusive=True).astype(int).tolist()
    [[1, 0, 0], [0, 1, 0]]
    """
    if probabilities.ndim < 2:
        raise GeometryError(f"probabilities must have the axes (R, ...), got shape {probabilities.shape}")
    given = [_PLAIN] * len(probabilities) if scalings is None else scalings
    masks = np.zeros(probabilities.shape, dtype=bool)
    if not exclusive:
        for mask, one, scaling in zip(masks, probabilities, given, strict=True):
            np.greater(one, dice_threshold(one, scaling).threshold, out=mask)
        return masks
    numbers = regions_by_dice(probabilities, given)
    for number, mask in enumerate(masks, start=1):
        np.equal(numbers, number, out=mask)
    return masks


def regions_by_dice(
    probabilities: NDArray[np.floating[Any]], scalings: Sequence[Scaling] | None = None
) -> NDArray[np.uint16]:
    """As `decide_by_dice`, for regions that exclude each other, in one array.

    Args:
        probabilities: Probabilities (R, ...) of the regions, without a channel of background.
        scalings: Correction of the probabilities of each region; None (the default) for none.

    Returns:
        Number (...) of the region of each voxel, from 1; 0 is background.

    >>> regions_by_dice(np.array([[0.9, 0.45, 0.1], [0.0, 0.5, 0.2]])).tolist()
    [1, 2, 0]
    """
    given = [_PLAIN] * len(probabilities) if scalings is None else scalings
    places, region = _share_out(probabilities.reshape(len(probabilities), -1), given)
    numbers = np.zeros(probabilities.shape[1:], np.uint16)
    numbers.reshape(-1)[places] = region
    return numbers


def decide_some_by_dice(
    probabilities: NDArray[np.floating[Any]],
    plain: NDArray[np.bool_],
    scalings: Sequence[Scaling | None],
    *,
    exclusive: bool,
) -> NDArray[np.bool_]:
    """Decide some regions for the largest expected Dice, and leave the others as a threshold has decided them.

    A region that is left keeps each of its voxels. If regions exclude each other, the others share out the rest.

    Args:
        probabilities: Probabilities (R, ...) of the regions, without a channel of background.
        plain: Masks (R, ...) of the plain decision.
        scalings: Correction of the probabilities of each region that is decided by its Dice; None for one that is left.
        exclusive: Whether a voxel belongs to one region at most.

    Returns:
        Masks (R, ...).

    >>> soft = np.array([[0.9, 0.45, 0.1], [0.0, 0.5, 0.2]])
    >>> decide_some_by_dice(soft, soft > 0.5, [Scaling(), None], exclusive=False).astype(int).tolist()
    [[1, 1, 0], [0, 0, 0]]
    """
    chosen = [number for number, scaling in enumerate(scalings) if scaling is not None]
    of_chosen = [scaling for scaling in scalings if scaling is not None]
    masks: NDArray[np.bool_] = plain.copy()
    if not chosen:
        return masks
    if not exclusive:
        for number, scaling in zip(chosen, of_chosen, strict=True):
            masks[number] = probabilities[number] > dice_threshold(probabilities[number], scaling).threshold
        return masks
    if len(chosen) == len(plain):
        return decide_by_dice(probabilities, exclusive=True, scalings=of_chosen)
    taken = plain[[number for number in range(len(plain)) if number not in chosen]].any(axis=0)
    free = np.where(taken, np.zeros((), probabilities.dtype), probabilities[chosen])
    masks[chosen] = decide_by_dice(free, exclusive=True, scalings=of_chosen)
    return masks


def _share_out(
    probabilities: NDArray[np.floating[Any]], scalings: Sequence[Scaling]
) -> tuple[NDArray[np.intp], NDArray[np.uint16]]:
    """Voxels that some region may claim, and the region of each, counted from 1; 0 is background.

    Args:
        probabilities: Probabilities (R, N) of the regions.
        scalings: Correction of each region.
    """
    found = [dice_threshold(one, scaling) for one, scaling in zip(probabilities, scalings, strict=True)]
    # A threshold falls while a region loses voxels to others: half of it leaves room. The second keeps each voxel whose
    # largest channel is a region.
    possible = np.zeros(probabilities.shape[1], dtype=bool)
    for one, scaling, each in zip(probabilities, scalings, found, strict=True):
        possible |= one > scaling.threshold(min(each.expected_dice / 4, 1 / (len(found) + 1)))
    places = np.flatnonzero(possible)
    near = np.stack([scaling.apply(one[places]) for one, scaling in zip(probabilities, scalings, strict=True)])
    totals = np.array([one.total for one in found])
    chosen = _largest(near)
    best = float(_expected(near, chosen, totals)[1].sum())
    sizes = np.array([one.voxels for one in found], dtype=np.float64)
    ratios = np.array([one.expected_dice for one in found])
    for _ in range(_MAX_ROUNDS):
        region = _by_gain(near, ratios, sizes + totals)
        sizes, ratios = _expected(near, region, totals)
        if ratios.sum() <= best:
            break
        best, chosen = float(ratios.sum()), region
    return places, chosen


def share_voxels(
    channels: Iterable[NDArray[np.floating[Any]]], found: Sequence[DiceThreshold]
) -> tuple[NDArray[np.uint16], NDArray[np.floating[Any]]]:
    """Share out voxels among regions that exclude each other, with one channel in memory after the other.

    It is the first round of `decide_by_dice`: each voxel above the threshold of some regions goes to the one whose
    expected Dice it raises most.

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
    near: NDArray[np.floating[Any]], ratios: NDArray[np.float64], denominators: NDArray[np.float64]
) -> NDArray[np.uint16]:
    """The region (n,) whose expected Dice each voxel raises most, from 1; 0 if it raises none."""
    region = np.zeros(near.shape[1], np.uint16)
    for number, _, better in _claims(near, ratios, denominators):
        # A later region has a larger number, and this takes a tenth of the time of a mask.
        np.maximum(region, better * np.uint16(number), out=region)
    return region


def _largest(near: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """The region (n,) of the largest probability, background included."""
    highest = 1 - near.sum(axis=0)
    region = np.zeros(near.shape[1], dtype=np.uint16)
    for number, probability in enumerate(near, start=1):
        np.maximum(region, (probability > highest) * np.uint16(number), out=region)
        np.maximum(highest, probability, out=highest)
    return region


def _expected(
    near: NDArray[np.floating[Any]], region: NDArray[np.uint16], totals: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Number of voxels and expected Dice of each region of a decision, from its voxels' own probabilities."""
    own = [region == number for number in range(1, len(near) + 1)]
    sizes = np.array([np.count_nonzero(mask) for mask in own], np.float64)
    sums = np.array([float((probability * mask).sum()) for probability, mask in zip(near, own, strict=True)])
    return sizes, np.divide(2 * sums, sizes + totals, out=np.zeros_like(sums), where=sizes + totals > 0)
