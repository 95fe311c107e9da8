"""Which cases to look at first: the most Dice to be won for a mm of contour, region by region, some at random."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from volseg.deploy.corrections.likeness import Likeness
from volseg.errors import UsageError

Values = NDArray[np.float64]
RANDOM_SHARE = 5
"""One in so many cases is drawn at random, so that its quality is that of all cases."""
SAVED = 0.9
"""Share of the lacking Dice that the first label of a kind wins; after n labels 1 / (1 + 9 n) of it is left."""
ALIKE = 0.5
"""Likeness from which two cases are told to be alike; that of a usual pair is 0.84."""
EQUAL = 2.0
"""Gains per mm of like cases within this factor are equal: what is expected of a case is no better known."""
_RATE = SAVED / (1 - SAVED)
_MOST_BYTES = 2**29  # of the likenesses by region that are kept
_SAME = 1 - 1e-9  # likeness from which two cases cannot be told apart


@dataclass(frozen=True)
class Candidate:
    """A case that may be looked at.

    Attributes:
        key: Key of the case.
        patient: Patient.
        mm: Expected mm of contour by region.
        lacking: Dice that is expected to be lacking by region, from 0 to 1.
        unlikeness: How unlike the usual cases it is; 1 is usual.
    """

    key: str
    patient: str
    mm: Mapping[str, float]
    lacking: Mapping[str, float]
    unlikeness: float = 1.0


@dataclass(frozen=True)
class Chosen:
    """A case of the list, and why it is in it.

    Attributes:
        candidate: The case.
        how: `order` or `random`.
        region: Region for which it was chosen.
        alike: Number of other candidates that are like it.
        nearest: Key of the case most like it that is labelled or in the list already; empty if there is none.
        likeness: Likeness to that case, from 0 to 1.
    """

    candidate: Candidate
    how: str
    region: str
    alike: int = 0
    nearest: str = ""
    likeness: float = 0.0


def choose(
    candidates: Sequence[Candidate],
    *,
    budget: int,
    seed: int = 0,
    likeness: Likeness | None = None,
    known: Sequence[str] = (),
) -> list[Chosen]:
    """Choose cases.

    First one in five is drawn at random among all patients, and one of the patient's days; these tell the quality of
    all. The others are chosen region by region in turn, the region with most expected work first. Each takes the kind
    of the case with the largest gain per mm, whose patient is not in the list. Which case of the kind is drawn among
    those within a factor of two of that gain, which nobody can tell apart beforehand: to take the very largest would
    choose the most ordinary of cases that are alike. In the draw the case of which the network promises least is the
    likeliest, the second half as likely, the third a third (Kirsch 2023, arXiv 2106.12059): all of these together would
    be too much of one thing.

    The gain of a case is the Dice that all candidates are expected to win by its label. Where labels that are n times
    like a case left a lack of e, one more of likeness s leaves e (1 + 9 n) / (1 + 9 (n + s)): a case counts less the
    more of its like is labelled or in the list. This sum is submodular, and the largest gain per cost is taken at each
    step (Leskovec 2007, doi:10.1145/1281192.1281239). The cost is the mm of the case in all regions, and no less
    than the median of all cases, for each has to be opened and looked through. A case that cannot be told from one that
    is labelled or in the list comes last.

    What is predicted of cases that are unlike any labelled one tells little of how they differ. Their gain counts by 1
    less their likeness to a case in the list, so that one of each kind comes first, and they take half of these places
    at most while there are others: a training on hardly anything else forgets the usual cases.

    Args:
        candidates: Cases to choose from.
        budget: Number of cases.
        seed: Seed of the draw.
        likeness: Likeness of the candidates and of the known cases; without it each is like itself alone.
        known: Keys of the labelled cases.

    Raises:
        UsageError: The budget is below 1.

    >>> cases = [Candidate(f"c{n}", f"p{n}", {"liver": 9.0}, {"liver": n / 10}) for n in range(10)]
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
    cases = [one for patient in patients for one in by_patient[patient]]
    places = max(1, (budget - count) // 2)
    greedy = _Greedy.of(cases, likeness or Likeness({}), known, places=places, generator=generator)
    drawn = [greedy.take(one) for one in drawn]
    ordered: list[Chosen] = []
    while len(ordered) + len(drawn) < min(budget, len(patients)):
        ordered.append(greedy.next())
    return [*ordered, *drawn]


def _most(candidate: Candidate) -> str:
    return max(candidate.mm, key=lambda name: candidate.mm[name], default="")


@dataclass(eq=False)
class _Known:
    """What is known of one region.

    Attributes:
        alike: Likeness (candidates, candidates).
        counts: Number (candidates,) of known cases, each times its likeness.
        nearest: Likeness (candidates,) to the known case that is most alike.
        listed: Likeness (candidates,) to the case in the list that is most alike.
        foreign: Whether each (candidates,) is unlike any labelled case.
        taken: Number of cases of the list that count already.
    """

    alike: Values
    counts: Values
    nearest: Values
    listed: Values
    foreign: NDArray[np.bool_]
    taken: int = 0

    def count(self, rows: Sequence[int]) -> None:
        """Count the cases of the list that do not count yet."""
        for row in rows[self.taken :]:
            self.counts = self.counts + self.alike[row]
            self.nearest = np.maximum(self.nearest, self.alike[row])
            self.listed = np.maximum(self.listed, self.alike[row])
        self.taken = len(rows)


@dataclass(eq=False)
class _Greedy:
    """What is known so far, and the case that adds most for its cost.

    Cases are compared by a region when its turn comes: of many regions most have none.

    Attributes:
        cases: Candidates, sorted by patient and key.
        keys: Their keys.
        before: Keys of the labelled cases.
        regions: Regions in the order of their turns.
        likeness: Likeness of all cases.
        lacking: Dice (candidates,) that each lacks, by region; of a patient's days each counts its share.
        days: Number (candidates,) of the candidates of its patient.
        cost_mm: Cost (candidates,).
        places: Number of cases that may still be chosen among those that are unlike any labelled one.
        generator: Draws among cases of equal gain.
        known: Keys of the labelled cases, and of those in the list.
        rows: Numbers of the cases in the list.
        taken: Patients in the list.
        turn: Number of turns.
    """

    cases: list[Candidate]
    keys: list[str]
    before: list[str]
    regions: list[str]
    likeness: Likeness
    lacking: dict[str, Values]
    days: Values
    cost_mm: Values
    places: int
    generator: np.random.Generator
    known: list[str]
    rows: list[int] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    turn: int = 0
    _of: dict[str, _Known] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        cases: list[Candidate],
        likeness: Likeness,
        known: Sequence[str],
        *,
        places: int,
        generator: np.random.Generator,
    ) -> _Greedy:
        keys = [one.key for one in cases]
        before = sorted(set(known) - set(keys))
        regions = sorted({name for one in cases for name in one.mm})
        regions.sort(key=lambda name: -math.fsum(one.mm.get(name, 0.0) for one in cases))
        by_patient = Counter(one.patient for one in cases)
        days = np.array([float(by_patient[one.patient]) for one in cases])
        lacking = {name: np.array([one.lacking.get(name, 0.0) for one in cases]) / days for name in regions}
        own = [math.fsum(one.mm.values()) for one in cases]
        cost_mm = np.maximum(own, median(own) if own else 0.0)
        cost_mm[cost_mm <= 0] = 1.0
        return cls(cases, keys, before, regions, likeness, lacking, days, cost_mm, places, generator, list(before))

    def region(self, name: str) -> _Known:
        """What is known of a region; the numbers of those whose turn is longest ago are made anew."""
        found = self._of.pop(name, None)
        if found is None:
            there = self.likeness.of(self.before, self.keys, region=name)
            nearest = there.max(axis=0, initial=0.0)
            alike = self.likeness.of(self.keys, self.keys, region=name)
            listed = np.zeros(len(self.cases))
            found = _Known(alike, there.sum(axis=0), nearest, listed, nearest < ALIKE)
        self._of[name] = found
        while len(self._of) > 1 and len(self._of) * found.alike.nbytes > _MOST_BYTES:
            del self._of[next(iter(self._of))]
        found.count(self.rows)
        return found

    def take(self, one: Chosen) -> Chosen:
        """Count a case as known; it is told which known one is most like it."""
        row = self.keys.index(one.candidate.key)
        told = one
        if one.region:
            told = replace(one, alike=int((self.region(one.region).alike[row] >= ALIKE).sum()) - 1)
        if self.known and one.region:
            found = self.likeness.of([one.candidate.key], self.known, region=one.region)[0]
            place = int(found.argmax())
            if found[place] > 0:
                told = replace(told, nearest=self.known[place], likeness=float(found[place]))
        self.rows.append(row)
        self.known.append(one.candidate.key)
        self.taken.add(one.candidate.patient)
        return told

    def next(self) -> Chosen:
        """The case that the next region in turn takes; a region that has nothing to gain is passed over."""
        left = np.array([row for row, one in enumerate(self.cases) if one.patient not in self.taken])
        for name in [self.regions[(self.turn + n) % len(self.regions)] for n in range(len(self.regions))]:
            self.turn += 1
            known = self.region(name)
            fresh = left[known.nearest[left] < _SAME]
            if self.places < 1 and not known.foreign[fresh].all():
                fresh = fresh[~known.foreign[fresh]]
            if fresh.size and (gains := self._gains(name, fresh)).max() > 0:
                best = self._best(name, fresh, gains)
                self.places -= int(known.foreign[best])
                return self.take(Chosen(self.cases[best], "order", name))
        # All that lacks anything is there already: what lacks most for its cost comes next.
        scores = np.sum([values[left] for values in self.lacking.values()], axis=0) / self.cost_mm[left]
        best = left[max(range(len(left)), key=lambda n: (scores[n], self.cases[left[n]].unlikeness, -n))]
        return self.take(Chosen(self.cases[best], "order", _most(self.cases[best])))

    def _gains(self, region: str, rows: NDArray[np.intp]) -> Values:
        """The Dice that all candidates gain from the label of each of some."""
        known = self.region(region)
        more = _RATE * known.alike[rows]
        gains: Values = (more / (1 + _RATE * known.counts + more)) @ self.lacking[region]
        return gains * np.where(known.foreign[rows], 1 - known.listed[rows], 1.0)

    def _best(self, region: str, rows: NDArray[np.intp], gains: Values) -> int:
        """Draw one of the kind and of about the gain of the best, the likelier the more it lacks itself."""
        scores = gains / self.cost_mm[rows]
        first = max(range(len(rows)), key=lambda n: (scores[n], self.cases[rows[n]].unlikeness, -n))
        equal = rows[(scores * EQUAL >= scores[first]) & (self.region(region).alike[rows[first], rows] >= ALIKE)]
        days = self.days[equal]
        chances = 1 / (rankdata(-self.lacking[region][equal] * days) * days)
        return int(self.generator.choice(equal, p=chances / chances.sum()))
