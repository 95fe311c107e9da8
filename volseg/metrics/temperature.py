"""Temperature and shift: how the probabilities of a region stand to what turns out to be true, and their correction."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TEMPERATURE_DEFINITION = (
    "A temperature T divides the log odds of a region's probabilities: above 1 the network was too sure. It is fitted "
    "by the likelihood (Guo et al. 2017, arXiv:1706.04599) in the voxels whose probability lies between 0.001 and "
    "0.999, each patient with the same weight, and applied there alone; it moves no voxel across 0.5."
)
SCALING_DEFINITION = (
    "A scaling divides the log odds of a region's probabilities by a temperature and adds a shift (Platt 1999; Guo et "
    "al. 2017, arXiv:1706.04599), both fitted by the likelihood where the probability is doubtful. The shift makes the "
    "sum of the probabilities the size that regions have, which the decision with the largest expected Dice needs: a "
    "network that gives a tenth to every voxel of the background expects an organ of a tenth of the image. It keeps "
    "the order of the voxels; what is certain is never made less so."
)
DOUBTFUL = 1e-3
"""Probabilities closer than this to 0 or 1 count as certain, and have no temperature."""

_STEPS = 65535  # of the range 0 to 1, as in the files of probabilities
_COOLEST, _HOTTEST = 0.2, 5.0
_COOLEST_SHIFTED, _LARGEST_SHIFT = 0.1, 20.0
_PART = 2**15  # voxels corrected at once, which stay in the processor's cache


class Scaling(NamedTuple):
    """A correction of the log odds of a region's probabilities, see `SCALING_DEFINITION`.

    Attributes:
        temperature: Divisor of the log odds, above 0.
        shift: What is added to them then.
    """

    temperature: float = 1.0
    shift: float = 0.0

    @property
    def changes(self) -> bool:
        """Whether anything is corrected."""
        return self.temperature != 1 or self.shift != 0

    @property
    def ends(self) -> tuple[float, float]:
        """What becomes of the lowest and the highest doubtful probability."""
        return self._of(DOUBTFUL), self._of(1 - DOUBTFUL)

    @property
    def factors(self) -> tuple[float, float]:
        """What certain probabilities, and the complements of those near 1, are multiplied by; at most 1."""
        low, high = self.ends
        return min(1.0, low / DOUBTFUL), min(1.0, (1 - high) / DOUBTFUL)

    def apply(self, probability: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """The corrected probabilities (...), in the same order; the array itself if nothing is corrected.

        >>> Scaling(2.0).apply(np.array([0.0, 0.2, 0.5, 1.0])).round(3).tolist()
        [0.0, 0.333, 0.5, 1.0]
        >>> Scaling(1.0, -math.log(9)).apply(np.array([0.5, 0.9])).round(3).tolist()  # odds of 1 and 9, a ninth of them
        [0.1, 0.5]
        """
        if not self.changes:
            return probability
        flat = probability.reshape(-1)
        result = np.empty_like(flat)
        for start in range(0, flat.size, _PART):
            self._apply(flat[start : start + _PART], result[start : start + _PART])
        return result.reshape(probability.shape)

    def _apply(self, probability: NDArray[np.floating[Any]], result: NDArray[np.floating[Any]]) -> None:
        """Write the corrected probabilities (n,) into another array."""
        low, high = self.factors
        result[...] = probability
        np.clip(result, DOUBTFUL, 1 - DOUBTFUL, out=result)
        self._correct(result)
        np.copyto(result, low * probability, where=probability <= DOUBTFUL)
        np.copyto(result, 1 - high * (1 - probability), where=probability >= 1 - DOUBTFUL)

    def _correct(self, odds: NDArray[np.floating[Any]]) -> None:
        """Write the corrected probabilities over doubtful ones (n,)."""
        np.divide(1, odds, out=odds)
        odds -= 1
        with np.errstate(divide="ignore"):  # of 1
            np.log(odds, out=odds)
        odds /= odds.dtype.type(self.temperature)
        odds -= odds.dtype.type(self.shift)
        np.exp(odds, out=odds)
        odds += 1
        np.divide(1, odds, out=odds)

    def threshold(self, corrected: float) -> float:
        """The probability before the correction that a voxel must exceed to exceed a corrected one after it.

        >>> round(Scaling(2.0, 0.5).threshold(Scaling(2.0, 0.5)._of(0.3)), 6)
        0.3
        """
        if not self.changes:
            return corrected
        (low, high), (below, above) = self.ends, self.factors
        if corrected < low:
            return min(DOUBTFUL, corrected / below if below > 0 else DOUBTFUL)
        if corrected >= high:
            return max(1 - DOUBTFUL, 1 - (1 - corrected) / above if above > 0 else 1 - DOUBTFUL)
        return 1 / (1 + math.exp(-self.temperature * (math.log(corrected) - math.log1p(-corrected) - self.shift)))

    def _of(self, p: float) -> float:
        odds = (math.log(p) - math.log1p(-p)) / self.temperature + self.shift
        return 1 / (1 + math.exp(-odds)) if odds > 0 else math.exp(odds) / (1 + math.exp(odds))


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


def fit_scaling(counts: NDArray[np.float64]) -> Scaling:
    """The temperature and shift of the largest likelihood; without a shift if all doubtful voxels are of one side.

    Args:
        counts: Weights (2, 65536) of voxels outside and inside, see `probability_histogram`.

    >>> counts = np.zeros((2, 65536))
    >>> counts[:, round(0.5 * 65535)] = [9, 1]  # half were said, a tenth came true
    >>> counts[:, round(0.9 * 65535)] = [1, 1]  # nine tenths were said, a half came true
    >>> fit_scaling(counts)  # log(9) apart as before, and log(9) lower
    Scaling(temperature=1.0, shift=-2.197)
    """
    from scipy.optimize import minimize

    held = np.flatnonzero(counts.sum(axis=0))
    if not counts[:, held].sum(axis=1).all():
        return Scaling(fit_temperature(counts))
    p = held / _STEPS
    odds = np.log(p) - np.log1p(-p)
    outside, inside = counts[:, held] / counts.sum()

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scaled = values[0] * odds + values[1]
        of = 1 / (1 + np.exp(-scaled))
        slope = outside * of - inside * (1 - of)
        told = float((inside * np.logaddexp(0, -scaled) + outside * np.logaddexp(0, scaled)).sum())
        return told, np.array([(slope * odds).sum(), slope.sum()])

    found = minimize(
        loss,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1 / _HOTTEST, 1 / _COOLEST_SHIFTED), (-_LARGEST_SHIFT, _LARGEST_SHIFT)],
        options={"ftol": 1e-15, "gtol": 1e-10},
    )
    return Scaling(round(float(1 / found.x[0]), 3), round(float(found.x[1]), 3))
