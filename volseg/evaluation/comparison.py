"""Comparison: two or more prediction sets on the cases they share, as paired differences of one metric."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from volseg.errors import UsageError
from volseg.evaluation.scores import METRICS, EvaluationSettings, Metric, RegionScores
from volseg.metrics import FEWEST, HOLM_DEFINITION, SIGNED_RANK_DEFINITION, holm, mean_interval, signed_rank_p

# Differences up to which two sets tie: below those between two observers, and above rounding.
TOLERANCES = {"dice": 0.005, "hd95_mm": 0.5}

TEST_DEFINITIONS = (SIGNED_RANK_DEFINITION, HOLM_DEFINITION)

_SLACK = 1e-9  # a difference of exactly the tolerance is a tie, whatever its rounding


@dataclass(frozen=True)
class Difference:
    """The difference of two sets in one region: second minus first, over the cases in which both have a value.

    Attributes:
        first: Name of the first set.
        second: Name of the second set.
        region: Name of the region.
        cases: Number of covered cases.
        patients: Number of patients of those cases.
        undefined_first: Number of shared cases in which only the first set has no value.
        undefined_second: Number of shared cases in which only the second set has no value.
        undefined_both: Number of shared cases in which neither has a value.
        mean: Mean of the differences; None if no case is covered.
        low: Lower end of the 95 % interval of the mean, by bootstrap over patients; None below two patients.
        high: Upper end of that interval; None below two patients.
        median: Median of the differences; None if no case is covered.
        wins: Number of cases in which the second set is better by more than the tolerance.
        ties: Number of cases within the tolerance.
        losses: Number of cases in which the second set is worse by more than the tolerance.
        p: p-value of the Wilcoxon signed-rank test over the patients' mean differences; None with a `reason`.
        p_holm: p-value corrected over all regions and pairs, after Holm.
        reason: Reason why there is no p-value.
    """

    first: str
    second: str
    region: str
    cases: int
    patients: int
    undefined_first: int
    undefined_second: int
    undefined_both: int
    mean: float | None
    low: float | None
    high: float | None
    median: float | None
    wins: int
    ties: int
    losses: int
    p: float | None = None
    p_holm: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """The comparison of prediction sets by one metric.

    Attributes:
        metric: Metric that is compared.
        tolerance: Difference up to which two sets tie, in the metric's unit.
        sets: Names of the sets, in the order given.
        regions: Names of the regions, in the order of the rows.
        patients: Patient by key of each shared case, in the order of the keys.
        values: Value by (set, key, region); None if it is undefined.
        means: Mean by (set, region), over the shared cases in which the set has a value; None if there is none.
        differences: Differences of each pair of sets, first those of the first set, region after region.
        not_shared: Sets without a prediction of a case, by key.
        failed: Error of the first set that could not be scored, by key.
    """

    metric: Metric
    tolerance: float
    sets: tuple[str, ...]
    regions: tuple[str, ...]
    patients: Mapping[str, str]
    values: Mapping[tuple[str, str, str], float | None]
    means: Mapping[tuple[str, str], float | None]
    differences: tuple[Difference, ...]
    not_shared: Mapping[str, tuple[str, ...]]
    failed: Mapping[str, str]

    def of_pair(self, difference: Difference) -> dict[str, float]:
        """Second minus first by key, for the cases that a difference covers."""
        found = {}
        for key in self.patients:
            first = self.values.get((difference.first, key, difference.region))
            second = self.values.get((difference.second, key, difference.region))
            if first is not None and second is not None:
                found[key] = second - first
        return found


def compare(
    rows: Mapping[str, Sequence[RegionScores]], *, metric: str = "dice", tolerance: float | None = None
) -> Comparison:
    """Compare the evaluations of two or more prediction sets against the same references.

    A case counts if every set has a prediction that could be scored; all others are listed. A value that is undefined
    in one of two sets (Dice if both masks are empty, HD95 if one is) is left out and counted.

    Args:
        rows: Rows of the evaluation of all predictions of a set, by the name of the set.
        metric: Name of one of those `METRICS` for which higher or lower is better; `dice` by default.
        tolerance: Difference up to which two sets tie; None for 0.005 of Dice, 0.5 mm of HD95 and 0 of the others.

    Raises:
        UsageError: There are fewer than two sets, no such metric, no values of it in the rows, or no shared case.

    >>> a = [RegionScores("k", "p", "colon", dice=0.50), RegionScores("l", "q", "colon", dice=0.70)]
    >>> b = [RegionScores("k", "p", "colon", dice=0.75), RegionScores("l", "q", "colon", dice=0.70)]
    >>> found = compare({"A": a, "B": b}).differences[0]
    >>> found.mean, found.wins, found.ties, found.losses, found.p
    (0.125, 1, 1, 0, None)
    """
    if len(rows) < 2:
        raise UsageError(f"there must be at least two prediction sets, got {len(rows)}")
    chosen = _metric(metric)
    if tolerance is None:
        tolerance = TOLERANCES.get(metric, 0.0)
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise UsageError(f"the tolerance must be 0 or more, got {tolerance}")
    keys = {name: dict.fromkeys(row.key for row in of_set) for name, of_set in rows.items()}
    everyone = sorted({key for of_set in keys.values() for key in of_set})
    not_shared = {
        key: tuple(name for name in rows if key not in keys[name])
        for key in everyone
        if any(key not in of_set for of_set in keys.values())
    }
    failed: dict[str, str] = {}
    for name, of_set in rows.items():
        for row in of_set:
            if row.error is not None:
                failed.setdefault(row.key, f"{name}: {row.error}")
    scored = [row for of_set in rows.values() for row in of_set if row.key not in not_shared and row.key not in failed]
    patients = {row.key: row.patient for row in sorted(scored, key=lambda row: row.key)}
    regions = tuple(dict.fromkeys(row.region for row in scored))
    values = {
        (name, row.key, row.region): _value(row, chosen)
        for name, of_set in rows.items()
        for row in of_set
        if row.key in patients
    }
    if not patients:
        told = f"the sets {', '.join(rows)} must share a case that could be scored, got none; "
        if failed:  # the cause of all others is most likely that of the first
            key, error = next(iter(failed.items()))
            raise UsageError(f"{told}{len(failed)} cases failed, such as {key}, {error}")
        raise UsageError(f"{told}predict the same cases with each")
    if all(value is None for value in values.values()):
        raise UsageError(f"the evaluation must hold {metric} of a shared case, got none; compare another metric")
    differences = [
        _difference(pair, region, patients, values, chosen, tolerance)
        for pair in combinations(rows, 2)
        for region in regions
    ]
    corrected = holm([math.nan if found.p is None else found.p for found in differences])
    return Comparison(
        metric=chosen,
        tolerance=tolerance,
        sets=tuple(rows),
        regions=regions,
        patients=patients,
        values=values,
        means={
            (name, region): _mean([values.get((name, key, region)) for key in patients])
            for name in rows
            for region in regions
        },
        differences=tuple(
            Difference(**{**vars(found), "p_holm": None if math.isnan(p) else p})
            for found, p in zip(differences, corrected, strict=True)
        ),
        not_shared=not_shared,
        failed=failed,
    )


def settings_for(metric: str, *, instances: bool = False) -> EvaluationSettings:
    """The settings of an evaluation that computes a metric to compare.

    Args:
        metric: Name of the metric, as for `compare`.
        instances: Whether the cohort tells objects apart.

    Raises:
        UsageError: There is no such metric: told before any case is read.

    >>> settings_for("dice").objects, settings_for("object_f1").objects
    (False, True)
    """
    objects = _metric(metric).name == "object_f1"
    return EvaluationSettings(objects=objects, instances=objects and instances, margins=metric == "margin_mm")


def set_names(folders: Sequence[Path]) -> list[str]:
    """A short name for each folder: its last part, and as many parts before it as make the names differ.

    Raises:
        UsageError: A folder is given twice.

    >>> set_names([Path("runs/a/predictions"), Path("runs/b/predictions"), Path("runs/c")])
    ['a/predictions', 'b/predictions', 'c']
    """
    paths = [Path(folder).resolve() for folder in folders]
    twice = [str(path) for path, times in Counter(paths).items() if times > 1]
    if twice:
        raise UsageError(
            f"each folder must be given once, got {twice[0]} more than once; compare a set with another one"
        )
    length = [1] * len(paths)
    while True:
        names = ["/".join(path.parts[-n:]) for path, n in zip(paths, length, strict=True)]
        repeated = {name for name, times in Counter(names).items() if times > 1}
        if not repeated:
            return names
        length = [n + (name in repeated) for n, name in zip(length, names, strict=True)]


def _metric(name: str) -> Metric:
    ordered = {metric.name: metric for metric in METRICS if metric.higher_is_better is not None}
    if name not in ordered:
        raise UsageError(f"the metric must be one of {', '.join(ordered)}, got {name!r}")
    return ordered[name]


def _value(row: RegionScores, metric: Metric) -> float | None:
    value: float | None = getattr(row, metric.name)
    return None if value is None or math.isnan(value) else float(value)


def _difference(
    pair: tuple[str, str],
    region: str,
    patients: Mapping[str, str],
    values: Mapping[tuple[str, str, str], float | None],
    metric: Metric,
    tolerance: float,
) -> Difference:
    first = np.array([values.get((pair[0], key, region)) for key in patients], dtype=np.float64)  # None becomes NaN
    second = np.array([values.get((pair[1], key, region)) for key in patients], dtype=np.float64)
    no_first, no_second = np.isnan(first), np.isnan(second)
    difference = second - first
    covered = difference[~np.isnan(difference)]
    interval = mean_interval(difference, list(patients.values()))
    better = covered if metric.higher_is_better else -covered
    p, reason = _test(difference, list(patients.values()))
    return Difference(
        first=pair[0],
        second=pair[1],
        region=region,
        cases=int(covered.size),
        patients=interval.patients,
        undefined_first=int((no_first & ~no_second).sum()),
        undefined_second=int((no_second & ~no_first).sum()),
        undefined_both=int((no_first & no_second).sum()),
        mean=_defined(interval.mean),
        low=_defined(interval.low),
        high=_defined(interval.high),
        median=float(np.median(covered)) if covered.size else None,
        wins=int((better > tolerance + _SLACK).sum()),
        ties=int((np.abs(better) <= tolerance + _SLACK).sum()),
        losses=int((better < -tolerance - _SLACK).sum()),
        p=p,
        reason=reason,
    )


def _test(
    difference: np.ndarray[tuple[int, ...], np.dtype[np.float64]], patients: Sequence[str]
) -> tuple[float | None, str]:
    """The p-value over patients, since the cases of one patient are alike; or the reason why there is none."""
    of_patient: dict[str, list[float]] = {}
    for patient, value in zip(patients, difference.tolist(), strict=True):
        if not math.isnan(value):
            of_patient.setdefault(patient, []).append(value)
    means = [sum(values) / len(values) for values in of_patient.values()]
    p = signed_rank_p(means)
    if not math.isnan(p):
        return p, ""
    if means and not any(abs(mean) > _SLACK for mean in means):
        return None, "no patient differs"
    return None, f"fewer than {FEWEST} patients differ"


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return math.fsum(there) / len(there) if there else None


def _defined(number: float) -> float | None:
    return None if math.isnan(number) else number
