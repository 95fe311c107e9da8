"""Confidence: the quality that a network expects of its own decision, from its probabilities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import GeometryError
from volseg.metrics.overlap import Mask

EXPECTED_DICE_DEFINITION = (
    "Expected Dice = 2 sum(p over P) / (|P| + sum(p)) of the network's probabilities p and its decision P: the Dice "
    "that the network expects of itself, close to its mean where p is calibrated and voxels are independent (soft Dice "
    "confidence, Borges 2024, arXiv:2402.10665). Undefined where nothing is decided; trained networks expect too much, "
    "so it orders cases and does not predict their Dice."
)


def expected_dice(probability: NDArray[np.floating[Any]], decision: Mask, *, total: float | None = None) -> float:
    """The Dice that a network expects of its own decision, 0 to 1; NaN if the decision is empty.

    Source: the soft Dice confidence of Borges 2024, arXiv:2402.10665.

    Args:
        probability: Probability (...) of each voxel to belong to the region, 0 to 1.
        decision: Mask of the same shape, True if the network decided for the region.
        total: Sum of all probabilities, if it is known; then those outside the decision are not looked at.

    Raises:
        GeometryError: The shapes differ.

    >>> expected_dice(np.array([0.9, 0.7, 0.4, 0.0]), np.array([True, True, False, False]))  # 2 x 1.6 / (2 + 2.0)
    0.8
    """
    if probability.shape != decision.shape:
        raise GeometryError(
            f"the decision must have the probabilities' shape {probability.shape}, got {decision.shape}"
        )
    size = int(np.count_nonzero(decision))
    if not size:
        return math.nan
    inside = float(probability.sum(where=decision, dtype=np.float64))
    return 2 * inside / (size + (float(probability.sum(dtype=np.float64)) if total is None else total))
