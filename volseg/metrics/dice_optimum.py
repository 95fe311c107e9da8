"""The set of voxels whose expected Dice is largest, of one region: its threshold, by Dinkelbach's iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.metrics.likely_voxels import likely_voxels
from volseg.metrics.temperature import Scaling

PLAIN = Scaling()
FIRST_BOUND = 0.125
"""Half of an expected Dice of 0.25: where a network expects more, one pass over the volume finds all that counts."""

ROUNDING = 1e-9
"""Share of a bound by which a sum may be wrong."""


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


def dice_threshold(probability: NDArray[np.floating[Any]], scaling: Scaling = PLAIN) -> DiceThreshold:
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
    flat = probability.ravel(order="K")
    bound = FIRST_BOUND / 4 if scaling.changes else FIRST_BOUND  # to keep a value costs less than to correct it again
    while True:
        values, total = likely_voxels(flat, bound, scaling)
        if values.size:
            ratio = expected_ratio(values, total)
            if ratio / 2 >= bound * (1 - ROUNDING):
                return best_threshold(values, total, scaling)
            bound = ratio / 2  # the best set has no smaller ratio, and all its voxels are above half of it
            continue
        highest = float(scaling.apply(flat.max(initial=0, keepdims=True))[0])
        if not highest > 0:
            return DiceThreshold(0.5, 0.0, 0, total)
        bound = highest / 2


def best_threshold(values: NDArray[np.floating[Any]], total: float, scaling: Scaling) -> DiceThreshold:
    """The best set within voxels that hold it.

    Args:
        values: Corrected probabilities (n,) of all voxels above some bound; half of their ratio is not below it.
        total: Sum of all corrected probabilities.
        scaling: Correction, for the threshold.
    """
    ratio = expected_ratio(values, total)
    while True:
        size, inside = _above(values, ratio / 2)
        now = 2 * inside / (size + total) if size else 0.0
        if not now > ratio:
            return DiceThreshold(scaling.threshold(ratio / 2), max(now, ratio), size, total)
        ratio = now
        if 2 * size < values.size:
            values = values[np.flatnonzero(values > ratio / 2)]


def expected_ratio(values: NDArray[np.floating[Any]], total: float) -> float:
    """The expected Dice of the set of all voxels (n,) that were picked."""
    return 2 * sum_precisely(values) / (values.size + total) if values.size else 0.0


def sum_precisely(values: NDArray[np.floating[Any]]) -> float:
    """The sum of (n,) in double precision."""
    return float(values.sum(dtype=np.float64))


def _above(probability: NDArray[np.floating[Any]], threshold: float) -> tuple[int, float]:
    """Number and sum of the probabilities (n,) above a threshold, which need not be picked out for it."""
    size = int(np.count_nonzero(probability > threshold))
    bound = probability.dtype.type(threshold)
    raised = sum_precisely(np.maximum(probability, bound))
    return size, raised - float(bound) * (probability.size - size)
