"""Conformal quantiles with the patient as the unit: what may be promised from scores of patients seen before."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from volseg.errors import UsageError

CONFORMAL_DEFINITION = (
    "The bound holds with the stated probability for a scan of a new patient, where that patient and those of the "
    "calibration are exchangeable: split conformal prediction (Vovk et al. 2005; Lei et al. 2018, "
    "doi:10.1080/01621459.2017.1307116) with the patient as the unit. Each patient weighs the same, each scan an equal "
    "share of it (hierarchical conformal prediction, Lee, Barber and Willett 2023, arXiv:2306.06342), and each region "
    "has a quantile of its own (Mondrian)."
)
_ROUNDING = 1e-9


def attainable_level(patients: int, level: float) -> float:
    """The probability that a bound from so many patients can have: what was asked for, or n / (n + 1).

    >>> round(attainable_level(5, 0.9), 3), attainable_level(50, 0.9)
    (0.833, 0.9)
    """
    return min(level, patients / (patients + 1))


def patient_quantile(scores: Sequence[float] | NDArray[np.float64], patients: Sequence[str], level: float) -> float:
    """The score that that of a scan of a new patient does not exceed, with a probability of `level`.

    Each of n patients weighs 1 / (n + 1), shared by the patient's scans; the rest lies at infinity. With one scan per
    patient it is the quantile of split conformal prediction, the ceil(level x (n + 1))-th smallest score.

    Source: Lee, Barber and Willett 2023, arXiv:2306.06342, hierarchical conformal prediction.

    Args:
        scores: Score of each scan; it may be infinite.
        patients: Patient of each scan.
        level: Probability, between 0 and 1; above n / (n + 1) the result is infinite.

    Raises:
        UsageError: The lengths differ, a score is NaN, or the level is out of range.

    >>> patient_quantile([1.0, 2.0, 3.0, 4.0], ["a", "b", "c", "d"], 0.75)
    4.0
    >>> patient_quantile([1.0, 2.0, 3.0, 4.0], ["a", "a", "a", "b"], 0.3)
    3.0
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or len(values) != len(patients) or np.isnan(values).any():
        raise UsageError(f"{len(values)} scores must be numbers, one per scan of {len(patients)}")
    if not 0 < level < 1:
        raise UsageError(f"the level must lie between 0 and 1, got {level:g}")
    counts = Counter(patients)
    weights = np.array([1 / ((len(counts) + 1) * counts[patient]) for patient in patients])
    order = np.argsort(values, kind="stable")
    reached = np.flatnonzero(np.cumsum(weights[order]) >= level - _ROUNDING)
    return float(values[order][reached[0]]) if reached.size else math.inf
