"""Paired tests: the Wilcoxon signed-rank test of differences, and Holm's correction over many tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

FEWEST = 6  # number of differences below which no two-sided p-value is under 0.05: 2 / 2**5 = 0.0625

SIGNED_RANK_DEFINITION = (
    "p = two-sided Wilcoxon signed-rank test (Wilcoxon 1945, doi:10.2307/3001968) of the patients' mean differences; "
    f"differences of 0 are left out, and below {FEWEST} others no p-value is given, since none could come under 0.05."
)
HOLM_DEFINITION = (
    "p (Holm) = the same, corrected over all regions and pairs of this table (Holm 1979, Scand J Stat 6:65-70)."
)

_ZERO = 1e-9  # differences below it are rounding errors of a sum
_EXACT = 13  # differences up to which all sign patterns are counted, ties or not


def signed_rank_p(differences: ArrayLike) -> float:
    """Two-sided p-value of the Wilcoxon signed-rank test; NaN if fewer than six differences are not 0.

    The p-value is exact up to 13 differences, and up to 50 without ties; beyond, it is the normal approximation.

    Source: Wilcoxon 1945, doi:10.2307/3001968; the distribution is scipy's.

    Args:
        differences: Differences (n,), finite.

    >>> signed_rank_p([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])  # 2 of the 64 sign patterns are as extreme
    0.03125
    >>> signed_rank_p([0.1, 0.2, 0.0])
    nan
    """
    from scipy import stats

    values = np.asarray(differences, dtype=np.float64)
    # Equal sizes must tie, whatever their rounding.
    values = np.round(values[np.abs(values) > _ZERO], 9)
    if values.size < FEWEST:
        return float("nan")
    if values.size <= _EXACT:
        return float(stats.wilcoxon(values, method=stats.PermutationMethod(n_resamples=2**_EXACT)).pvalue)
    tied = len(np.unique(np.abs(values))) < values.size
    return float(stats.wilcoxon(values, method="approx" if tied or values.size > 50 else "exact").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: the smallest times n, the next times n - 1, ..., never falling, at most 1.

    NaN stands for no test: it stays NaN and is not counted.

    Source: Holm 1979, Scand J Stat 6:65-70.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    tests = np.flatnonzero(~np.isnan(p))
    order = tests[np.argsort(p[tests], kind="stable")]
    factors = np.arange(order.size, 0, -1)
    adjusted = np.full(p.size, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return [float(value) for value in adjusted]
