"""Which cases to look at first: by work and unlikeness, region by region in turn, one day per patient, some by lot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from volseg.errors import UsageError

RANDOM_SHARE = 5
"""One in so many cases is drawn by lot, so that its quality is that of all cases."""


@dataclass(frozen=True)
class Candidate:
    """A case that may be looked at.

    Attributes:
        key: Key of the case.
        patient: Patient.
        mm: Expected mm of contour by region.
        unlikeness: How unlike the usual cases it is; 1 is usual.
    """

    key: str
    patient: str
    mm: Mapping[str, float]
    unlikeness: float = 1.0


@dataclass(frozen=True)
class Chosen:
    """A case of the list: the candidate, how it was chosen (`order` or `random`), and its region."""

    candidate: Candidate
    how: str
    region: str


def choose(candidates: list[Candidate], *, budget: int, seed: int = 0) -> list[Chosen]:
    """Choose cases.

    First one in five is drawn by lot among all patients, and one of the patient's days; these tell the quality of all.
    The others are chosen region by region in turn, the region with most expected work first: each takes the case with
    the largest expected mm times unlikeness whose patient is not in the list.

    Args:
        candidates: Cases to choose from.
        budget: Number of cases.
        seed: Seed of the lot.

    Raises:
        UsageError: The budget is below 1.

    >>> cases = [Candidate(f"c{n}", f"p{n}", {"liver": float(n)}) for n in range(10)]
    >>> [(one.candidate.key, one.how) for one in choose(cases, budget=5)]
    [('c9', 'order'), ('c8', 'order'), ('c7', 'order'), ('c6', 'order'), ('c4', 'random')]
    """
    if budget < 1:
        raise UsageError(f"--budget must be at least 1, got {budget}")
    by_patient: dict[str, list[Candidate]] = {}
    for one in sorted(candidates, key=lambda one: one.key):
        by_patient.setdefault(one.patient, []).append(one)
    patients = sorted(by_patient)
    generator = np.random.default_rng(seed)
    count = min(budget // RANDOM_SHARE, len(patients))
    drawn = []
    for number in generator.permutation(len(patients))[:count].tolist():
        days = by_patient[patients[number]]
        day = days[int(generator.integers(len(days)))]
        drawn.append(Chosen(day, "random", _most(day)))
    taken = {one.candidate.patient for one in drawn}
    ordered: list[Chosen] = []
    regions = list(dict.fromkeys(name for one in candidates for name in one.mm))
    regions.sort(key=lambda name: -sum(one.mm.get(name, 0.0) for one in candidates))
    turn = 0
    while len(ordered) + len(drawn) < min(budget, len(patients)):
        region = regions[turn % len(regions)] if regions else ""
        turn += 1
        left = [one for one in candidates if one.patient not in taken]
        best = max(left, key=lambda one: (one.mm.get(region, 0.0) * one.unlikeness, one.unlikeness, one.key))
        if best.mm.get(region, 0.0) <= 0 and any(one.mm.get(name, 0) > 0 for one in left for name in regions):
            continue  # this region has no work left, another has
        ordered.append(Chosen(best, "order", region))
        taken.add(best.patient)
    return [*ordered, *drawn]


def _most(candidate: Candidate) -> str:
    return max(candidate.mm, key=lambda name: candidate.mm[name], default="")
