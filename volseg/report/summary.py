"""The summary of an evaluation: the results of each region, over how many cases, and the failures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from volseg.errors import UsageError
from volseg.evaluation import METRICS, Metric, RegionScores
from volseg.metrics import OUTCOMES, Interval, Outcome, mean_interval

WORST = 10


@dataclass(frozen=True)
class Spread:
    """Mean, interval and median of one metric over the cases in which it is defined.

    Attributes:
        cases: Number of covered cases; all others are left out, none counts as 0.
        patients: Number of patients of those cases.
        draws: Number of bootstrap samples of the interval; 0 if there is none.
        mean: Mean; None if no case is covered.
        low: Lower end of the 95 % interval of the mean, by bootstrap over patients; None below two patients.
        high: Upper end of that interval; None below two patients.
        median: Median; None if no case is covered.
        std: Standard deviation over cases (n - 1); None below two cases.
    """

    cases: int
    patients: int
    draws: int
    mean: float | None
    low: float | None
    high: float | None
    median: float | None
    std: float | None

    @property
    def method(self) -> str:
        """A text about how the interval was computed."""
        return f"bootstrap by patient, {self.patients} patients, {self.draws} draws"


@dataclass(frozen=True)
class RegionSummary:
    """The scored cases of one region.

    Attributes:
        region: Name of the region.
        cases: Number of scored cases.
        outcomes: Number of cases with each outcome; every outcome is listed.
        spreads: Spread of every metric of `METRICS` by name, over the cases that have it, and of the absolute volume
            error.
    """

    region: str
    cases: int
    outcomes: dict[Outcome, int]
    spreads: dict[str, Spread]

    @property
    def dice(self) -> Spread:
        """Spread of Dice, over all cases but `both empty`."""
        return self.spreads["dice"]

    @property
    def hd95_mm(self) -> Spread:
        """Spread of HD95 in mm, over the cases `both present`."""
        return self.spreads["hd95_mm"]

    @property
    def volume_error_ml(self) -> Spread:
        """Spread of predicted minus reference volume in ml, over all cases but `both empty`."""
        return self.spreads["volume_error_ml"]

    @property
    def absolute_volume_error_ml(self) -> Spread:
        """Spread of the absolute volume error in ml, over all cases but `both empty`."""
        return self.spreads["absolute_volume_error_ml"]


@dataclass(frozen=True)
class Summary:
    """An evaluation in numbers.

    Attributes:
        cases: Number of scored cases.
        patients: Number of patients of the scored cases.
        regions: Summaries of the regions, in the order of the rows.
        means: Mean of the regions' means of every metric by name; None unless every region has one.
        failures: Rows of the cases that could not be scored.
        worst: Rows of lowest Dice, ten at most; of equal ones the larger volume error first.
    """

    cases: int
    patients: int
    regions: tuple[RegionSummary, ...]
    means: dict[str, Spread]
    failures: tuple[RegionScores, ...]
    worst: tuple[RegionScores, ...]

    @property
    def mean_dice(self) -> Spread:
        """Mean of the regions' mean Dice."""
        return self.means["dice"]

    @property
    def mean_hd95_mm(self) -> Spread:
        """Mean of the regions' mean HD95."""
        return self.means["hd95_mm"]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of which some case has a value."""
        return tuple(metric for metric in METRICS if any(region.spreads[metric.name].cases for region in self.regions))


def summarise(rows: Sequence[RegionScores]) -> Summary:
    """Summarise the rows of an evaluation. Equal rows give an equal summary.

    Raises:
        UsageError: A case occurs twice.

    >>> rows = [RegionScores("a", "p1", "colon", dice=0.75, outcome="both present", reference_ml=9, predicted_ml=8),
    ...         RegionScores("b", "p2", "colon", dice=0.0, outcome="missed", reference_ml=5, predicted_ml=0),
    ...         RegionScores("c", "p3", "", error="there is no prediction")]
    >>> summary = summarise(rows)
    >>> summary.regions[0].dice.mean, summary.regions[0].outcomes["missed"], summary.failures[0].key
    (0.375, 1, 'c')
    """
    failures = tuple(row for row in rows if row.error is not None)
    scored = [row for row in rows if row.error is None]
    _check_once(scored, failures)
    by_region: dict[str, list[RegionScores]] = {}
    for row in scored:
        by_region.setdefault(row.region, []).append(row)
    names = list(by_region)
    keys = list(dict.fromkeys(row.key for row in scored))
    patient = {row.key: row.patient for row in scored}
    column = {name: i for i, name in enumerate(names)}
    line = {key: i for i, key in enumerate(keys)}
    places = ([line[row.key] for row in scored], [column[row.region] for row in scored])
    patients = [patient[key] for key in keys]
    means = {}
    for metric in METRICS:
        table = np.full((len(keys), len(names)), np.nan)
        table[places] = [_number(getattr(row, metric.name)) for row in scored]
        means[metric.name] = _with_interval(mean_interval(table, patients), median=None, std=None)
    return Summary(
        cases=len(keys),
        patients=len(set(patients)),
        regions=tuple(_region(name, of_region) for name, of_region in by_region.items()),
        means=means,
        failures=failures,
        worst=tuple(sorted((row for row in scored if row.dice is not None), key=_badness)[:WORST]),
    )


def _check_once(scored: Sequence[RegionScores], failures: Sequence[RegionScores]) -> None:
    seen = Counter((row.key, row.region) for row in scored)
    failed = Counter(row.key for row in failures)
    failed.update(dict.fromkeys((key for key, _ in seen), 1))  # a scored case must not have failed too
    twice = {key for (key, _), times in seen.items() if times > 1} | {key for key, n in failed.items() if n > 1}
    if twice:
        raise UsageError(f"{len(twice)} cases are in the rows more than once, such as {min(twice)}; give each once")


def _region(name: str, rows: Sequence[RegionScores]) -> RegionSummary:
    patients = [row.patient for row in rows]
    spreads = {metric.name: _spread([getattr(row, metric.name) for row in rows], patients) for metric in METRICS}
    errors = [row.volume_error_ml for row in rows]
    absolute = _spread([None if error is None else abs(error) for error in errors], patients)
    return RegionSummary(
        region=name,
        cases=len(rows),
        outcomes={outcome: sum(row.outcome == outcome for row in rows) for outcome in OUTCOMES},
        spreads={**spreads, "absolute_volume_error_ml": absolute},
    )


def _spread(values: Sequence[float | None], patients: Sequence[str]) -> Spread:
    numbers = np.array(values, dtype=np.float64)  # None becomes NaN
    covered = np.sort(numbers[~np.isnan(numbers)])  # sorted, so that the order of the cases cannot matter
    return _with_interval(
        mean_interval(numbers, patients),
        median=float(np.median(covered)) if covered.size else None,
        std=float(np.std(covered, ddof=1)) if covered.size > 1 else None,
    )


def _with_interval(interval: Interval, *, median: float | None, std: float | None) -> Spread:
    return Spread(
        cases=interval.cases,
        patients=interval.patients,
        draws=interval.draws,
        mean=_defined(interval.mean),
        low=_defined(interval.low),
        high=_defined(interval.high),
        median=median,
        std=std,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _defined(number: float) -> float | None:
    return None if math.isnan(number) else number


def _badness(row: RegionScores) -> tuple[float, float, str, str]:
    return row.dice or 0.0, -abs(row.volume_error_ml or 0.0), row.key, row.region
