"""Temperature: how sharp the probabilities of a region are against what turns out to be true, and their correction."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TEMPERATURE_DEFINITION = (
    "A temperature T divides the log odds of a region's probabilities: above 1 the network was too sure. It is fitted "
    "by the likelihood (Guo et al. 2017, arXiv:1706.04599) in the voxels whose probability lies between 0.001 and "
    "0.999, each patient with the same weight, and applied there alone; it moves no voxel across 0.5."
)
DOUBTFUL = 1e-3
"""Probabilities closer than this to 0 or 1 count as certain, and have no temperature."""

_STEPS = 65535  # of the range 0 to 1, as in the files of probabilities
_COOLEST, _HOTTEST = 0.2, 5.0


def temper(probability: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.floating[Any]]:
    """The probabilities at a temperature: their log odds are divided by it, where they are not certain.

    Args:
        probability: Probability (...) of a region, 0 to 1; it is returned as it is at temperature 1.
        temperature: Temperature, above 0.

    >>> temper(np.array([0.0, 0.2, 0.5, 1.0]), 2.0).round(3).tolist()
    [0.0, 0.333, 0.5, 1.0]
    """
    if temperature == 1:
        return probability
    doubtful = (probability > DOUBTFUL) & (probability < 1 - DOUBTFUL)
    result = probability.copy()
    p = probability[doubtful]
    result[doubtful] = 1 / (1 + np.exp((np.log1p(-p) - np.log(p)) / temperature))
    return result


def probability_histogram(probability: NDArray[np.floating[Any]], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Counts (2, 65536) of voxels outside and inside the truth, by the probability in steps of 1/65535.

    Only voxels with a doubtful probability are counted.

    >>> counts = probability_histogram(np.array([0.25, 0.25, 1.0]), np.array([True, False, True]))
    >>> counts.sum(axis=1).tolist()
    [1.0, 1.0]
    """
    doubtful = (probability > DOUBTFUL) & (probability < 1 - DOUBTFUL)
    steps = np.rint(probability[doubtful].astype(np.float64) * _STEPS).astype(np.intp)
    inside = truth[doubtful]
    both = [np.bincount(steps[inside == side], minlength=_STEPS + 1) for side in (False, True)]
    return np.stack(both).astype(np.float64)


def fit_temperature(counts: NDArray[np.float64]) -> float:
    """The temperature of the largest likelihood, 0.2 to 5, rounded to 0.001; 1 without a doubtful voxel.

    Args:
        counts: Weights (2, 65536) of voxels outside and inside, see `probability_histogram`.

    >>> counts = np.zeros((2, 65536))
    >>> counts[:, round(0.9 * 65535)] = [3, 7]  # 90 % were said, and 70 % came true
    >>> fit_temperature(counts)  # log(9) / log(7 / 3)
    2.593
    """
    from scipy.optimize import minimize_scalar

    held = np.flatnonzero(counts.sum(axis=0))
    if not held.size:
        return 1.0
    p = held / _STEPS
    odds = np.log(p) - np.log1p(-p)
    outside, inside = counts[:, held] / counts.sum()

    def loss(log_temperature: float) -> float:
        scaled = odds * np.exp(-log_temperature)
        return float((inside * np.logaddexp(0, -scaled) + outside * np.logaddexp(0, scaled)).sum())

    found = minimize_scalar(
        loss, bounds=(np.log(_COOLEST), np.log(_HOTTEST)), method="bounded", options={"xatol": 1e-6}
    )
    return round(float(np.exp(found.x)), 3)
