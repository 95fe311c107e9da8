"""Confidence intervals of means over cases: a bootstrap over patients, since the cases of one patient are alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from volseg.errors import UsageError

DRAWS = 2000
LEVEL = 0.95
SEED = 0

_BLOCK = 2**22  # counts held in memory at once
_KEPT = 2**24  # counts of a byte each up to which draws are kept for the next mean of as many patients


@dataclass(frozen=True)
class Interval:
    """A mean over cases with its bootstrap interval.

    Attributes:
        mean: Mean; NaN if no case has a value. With several columns, it is the mean of the columns' means.
        low: Lower end of the interval; NaN if fewer than two patients have a value.
        high: Upper end of the interval; NaN if fewer than two patients have a value.
        cases: Number of cases with a value in some column.
        dropped: Number of cases without any value.
        patients: Number of patients of the counted cases.
        draws: Number of bootstrap samples behind the ends.
    """

    mean: float
    low: float
    high: float
    cases: int
    dropped: int
    patients: int
    draws: int


def mean_interval(
    values: ArrayLike, patients: Sequence[str], *, draws: int = DRAWS, level: float = LEVEL, seed: int = SEED
) -> Interval:
    """Compute the mean over cases and its percentile bootstrap interval, with resampling of whole patients.

    Patients are drawn with replacement; one drawn twice counts all cases twice. Equal arguments give equal intervals,
    whatever the order of the cases. Several columns (regions, say) are resampled together and give the interval of the
    mean of their means; a sample that leaves a column without a value is not counted.

    Source: cluster bootstrap, Field and Welsh 2007, J R Stat Soc B 69:369-390.

    Args:
        values: Values (cases,) or (cases, columns); NaN if undefined.
        patients: Patient of each case.
        draws: Number of bootstrap samples.
        level: Coverage of the interval, between 0 and 1.
        seed: Seed of the random draws.

    Raises:
        UsageError: The lengths differ, a value is infinite, or draws or level are out of range.

    >>> mean_interval([0.8, 0.8, 0.9, float("nan")], ["a", "a", "b", "c"])
    Interval(mean=0.8333..., low=0.8, high=0.9, cases=3, dropped=1, patients=2, draws=2000)
    """
    table = _table(values, patients)
    if draws < 1 or not 0 < level < 1:
        raise UsageError(
            f"draws must be at least 1 and the level must be within 0 to 1, got {draws} draws at level {level}"
        )
    defined = ~np.isnan(table)
    kept = np.flatnonzero(defined.any(axis=1))
    names = [patients[i] for i in kept.tolist()]
    order = {name: i for i, name in enumerate(sorted(set(names)))}
    shape = (len(order), table.shape[1])
    sums, counts = np.zeros(shape), np.zeros(shape)
    of_case = np.array([order[name] for name in names], dtype=np.intp)
    np.add.at(sums, of_case, np.where(defined, table, 0)[kept])  # (patients, columns)
    np.add.at(counts, of_case, defined[kept])
    low = high = np.nan
    made = 0
    if len(order) > 1 and counts.any(axis=0).all():
        means = _resampled_means(sums, counts, draws, seed)
        made = means.size
        if made:
            tail = (1 - level) / 2
            low, high = (float(end) for end in np.quantile(means, [tail, 1 - tail]))
    return Interval(
        mean=_mean(sums, counts),
        low=low,
        high=high,
        cases=len(kept),
        dropped=len(table) - len(kept),
        patients=len(order),
        draws=made,
    )


def share_interval(values: ArrayLike, patients: Sequence[str], *, level: float = LEVEL) -> Interval:
    """The share of patients for whom something holds, with its Clopper-Pearson interval; each patient counts once.

    A patient with several cases counts by the share of them.

    Source: Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404.

    Args:
        values: 1 where it holds and 0 where it does not, for each case.
        patients: Patient of each case.
        level: Coverage of the interval, between 0 and 1.

    >>> found = share_interval([1, 1, 1, 0, 1], ["a", "b", "c", "d", "e"])
    >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)
    (0.8, 0.284, 0.995)
    """
    from scipy.stats import beta

    table = _table(values, patients)[:, 0]
    by_patient: dict[str, list[float]] = {}
    for patient, value in zip(patients, table.tolist(), strict=True):
        by_patient.setdefault(patient, []).append(value)
    shares = [float(np.mean(of_patient)) for of_patient in by_patient.values()]
    count, tail = len(shares), (1 - level) / 2
    if not count:
        return Interval(np.nan, np.nan, np.nan, 0, 0, 0, 0)
    held = float(np.sum(shares))
    low = float(beta.ppf(tail, held, count - held + 1)) if held > 0 else 0.0
    high = float(beta.ppf(1 - tail, held + 1, count - held)) if held < count else 1.0
    return Interval(held / count, low, high, len(table), 0, count, 0)


def _table(values: ArrayLike, patients: Sequence[str]) -> NDArray[np.float64]:
    """The checked values as an array (cases, columns)."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or len(table) != len(patients):
        raise UsageError(
            f"values must have one patient per case, got shape {table.shape} with {len(patients)} patients"
        )
    if np.isinf(table).any():
        raise UsageError("values must be finite or NaN, got infinity; give NaN where a metric is undefined")
    return table


def _mean(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
    """The mean of the columns' means; NaN if a column has no value."""
    total = counts.sum(axis=0)
    return float((sums.sum(axis=0) / total).mean()) if total.all() and total.size else float("nan")


def _resampled_means(
    sums: NDArray[np.float64], counts: NDArray[np.float64], draws: int, seed: int
) -> NDArray[np.float64]:
    """The mean of the columns' means in each sample that has a value in every column, (at most draws,)."""
    means = []
    for times in _draws(len(sums), draws, seed):
        exact = times.astype(np.float64)
        total, weight = exact @ sums, exact @ counts  # (samples, columns)
        whole = weight.all(axis=1)
        means.append((total[whole] / weight[whole]).mean(axis=1))
    return np.concatenate(means)


def _draws(patients: int, draws: int, seed: int) -> Iterator[NDArray[np.integer]]:
    """How often each patient is in each sample, (samples, patients), a block at a time.

    A report has a mean per metric and region, most of them over the same number of patients: they share their draws.
    """
    if patients * draws <= _KEPT:
        yield from _kept_draws(patients, draws, seed)
    else:
        yield from _new_draws(patients, draws, seed)


@lru_cache(maxsize=8)
def _kept_draws(patients: int, draws: int, seed: int) -> tuple[NDArray[np.integer], ...]:
    return tuple(times.astype(np.min_scalar_type(times.max())) for times in _new_draws(patients, draws, seed))


def _new_draws(patients: int, draws: int, seed: int) -> Iterator[NDArray[np.integer]]:
    generator = np.random.default_rng(seed)
    share = np.full(patients, 1 / patients)
    for start in range(0, draws, block := max(1, _BLOCK // patients)):
        yield generator.multinomial(patients, share, size=min(block, draws - start))
