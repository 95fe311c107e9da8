"""The choice among networks and ensembles by their out-of-fold Dice, with paired tests by patient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from volseg.crossval.scores import Candidate
from volseg.errors import UsageError
from volseg.evaluation import RegionScores
from volseg.metrics import FEWEST, Interval, holm, mean_interval, signed_rank_p

ALPHA = 0.05  # of two-sided tests, after Holm's correction

CHOICE_DEFINITION = (
    "The network of the highest out-of-fold Dice (mean of the regions' means) is chosen. An ensemble, which costs the "
    "time of all its networks, is chosen instead only where its Dice is higher and a paired test by patient (Wilcoxon, "
    f"Holm over the ensembles) gives p < {ALPHA}. Where one candidate leaves a region empty that is absent and another "
    "invents it, they count 1 and 0; where all leave it empty, the case counts for none."
)


@dataclass(frozen=True)
class Standing:
    """A candidate beside the best single network.

    Attributes:
        candidate: The candidate.
        dice: Mean of the regions' mean Dice, with its interval by patient.
        difference: Mean difference from the best single network, with its interval; None for that network.
        p: p-value of the paired test by patient; None if there is none.
        p_holm: The same after Holm's correction over the ensembles; None for single networks.
        patients_better: Number of patients whose mean Dice is higher than by the best single network.
        patients_worse: Number of patients whose mean Dice is lower.
    """

    candidate: Candidate
    dice: Interval
    difference: Interval | None = None
    p: float | None = None
    p_holm: float | None = None
    patients_better: int = 0
    patients_worse: int = 0


@dataclass(frozen=True)
class Choice:
    """The chosen candidate, why, and how all stand, the best first."""

    chosen: Candidate
    reason: str
    standings: tuple[Standing, ...]


def choose(candidates: Sequence[Candidate], rows: Mapping[str, Sequence[RegionScores]]) -> Choice:
    """Choose a network or an ensemble, see `CHOICE_DEFINITION`.

    Args:
        candidates: Single networks, and ensembles of them.
        rows: Out-of-fold scores by the name of the candidate.

    Raises:
        UsageError: The candidates share no case with a Dice.

    >>> rows = {name: [RegionScores(str(k), f"p{k}", "colon", dice=d + k / 100) for k in range(8)]
    ...         for name, d in (("a", 0.8), ("b", 0.7))}
    >>> choose([Candidate(("a",)), Candidate(("b",))], rows).reason
    'a has the highest out-of-fold Dice, 0.835'
    """
    table, patients = _tables(candidates, rows)
    dice = {name: mean_interval(values, patients) for name, values in table.items()}
    singles = sorted((one for one in candidates if len(one.networks) == 1), key=lambda one: -_order(dice[one.name]))
    best = singles[0]
    standings = [_standing(one, best, table, patients, dice[one.name]) for one in candidates]
    ensembles = [place for place, one in enumerate(candidates) if len(one.networks) > 1]
    corrected = holm([math.nan if (p := standings[place].p) is None else p for place in ensembles])
    for place, p in zip(ensembles, corrected, strict=True):
        standings[place] = _with_holm(standings[place], p)
    ordered = tuple(sorted(standings, key=lambda one: (-_order(one.dice), len(one.candidate.networks))))
    ahead = [one for one in ordered if len(one.candidate.networks) > 1 and _is_ahead(one)]
    if ahead:
        chosen = ahead[0]
        gain = chosen.difference.mean if chosen.difference else 0.0
        reason = (
            f"{chosen.candidate.name} is {gain:.3f} of Dice ahead of {best.name}, p {p_text(chosen.p_holm)} by patient"
        )
        return Choice(chosen.candidate, reason, ordered)
    reason = f"{best.name} has the highest out-of-fold Dice, {dice[best.name].mean:.3f}"
    if len(candidates) == 1:
        reason = f"{best.name} is the only network, with an out-of-fold Dice of {dice[best.name].mean:.3f}"
    elif ensembles:
        reason += ", and no ensemble is ahead of it by more than chance"
        if any(standings[place].p is None for place in ensembles):
            reason += f" (fewer than {FEWEST} patients differ)"
    return Choice(best, reason, ordered)


def _tables(
    candidates: Sequence[Candidate], rows: Mapping[str, Sequence[RegionScores]]
) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """The Dice (cases, regions) of each candidate over the cases that all could be scored on, and their patients."""
    names = [one.name for one in candidates]
    scored = {name: {(row.key, row.region): row.dice for row in rows[name] if row.error is None} for name in names}
    patient = {row.key: row.patient for row in rows[names[0]] if row.error is None}
    known = [{key for key, _ in scored[name]} for name in names]
    keys = [key for key in patient if all(key in of_name for of_name in known)]
    regions = list(dict.fromkeys(region for _, region in scored[names[0]]))
    if not keys:
        raise UsageError(
            "the networks must share a case that could be scored, got none; look at the errors in oof/table.csv"
        )
    found = {
        name: np.array([[scored[name].get((key, region)) for region in regions] for key in keys], dtype=np.float64)
        for name in names
    }
    absent = np.logical_and.reduce([np.isnan(values) for values in found.values()])
    filled = {name: np.where(np.isnan(values) & ~absent, 1.0, values) for name, values in found.items()}
    used = ~absent.all(axis=0)  # a region that no case holds is none
    if not used.any():
        raise UsageError("no held-out case holds a region, so there is no Dice; split again")
    return {name: values[:, used] for name, values in filled.items()}, [patient[key] for key in keys]


def _standing(
    one: Candidate, best: Candidate, table: Mapping[str, NDArray[np.float64]], patients: Sequence[str], dice: Interval
) -> Standing:
    if one == best:
        return Standing(one, dice)
    difference = table[one.name] - table[best.name]
    means = patient_means(difference, patients)
    p = signed_rank_p(means)
    return Standing(
        one,
        dice,
        mean_interval(difference, patients),
        None if math.isnan(p) else p,
        None,
        sum(mean > 0 for mean in means),
        sum(mean < 0 for mean in means),
    )


def patient_means(table: NDArray[np.float64], patients: Sequence[str]) -> list[float]:
    """The mean of each patient's cases, of the mean over the columns that a case has a value in.

    Args:
        table: Values (cases, columns); NaN if undefined.
        patients: Patient of each case.

    >>> patient_means(np.array([[1.0, np.nan], [0.0, 1.0], [0.5, 0.5]]), ["p", "p", "q"])
    [0.75, 0.5]
    """
    found: dict[str, list[float]] = {}
    for patient, values in zip(patients, table, strict=True):
        there = values[~np.isnan(values)]
        if there.size:
            found.setdefault(patient, []).append(float(there.mean()))
    return [sum(values) / len(values) for values in found.values()]


def _with_holm(standing: Standing, p: float) -> Standing:
    return replace(standing, p_holm=None if math.isnan(p) else p)


def _is_ahead(standing: Standing) -> bool:
    difference, p = standing.difference, standing.p_holm
    return difference is not None and difference.mean > 0 and p is not None and p < ALPHA


def _order(interval: Interval) -> float:
    return -1.0 if math.isnan(interval.mean) else interval.mean


def p_text(p: float | None) -> str:
    """A p-value as it is printed.

    >>> p_text(0.0123), p_text(0.00001), p_text(None)
    ('0.012', '< 0.001', '–')
    """
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
