"""The fingerprint taken: which cases are read, and what is kept of each."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import CaseRow, Cohort, Fold, size_warnings
from volseg.errors import CohortError, VolsegError, first_names, telling_memory
from volseg.plan.case_facts import CaseFacts, RegionInCase, look_at_case
from volseg.plan.fingerprint import Fingerprint, Intensities, RegionFacts, SmallRegion

QUICK_VOXELS = 3e7
"""Voxels that are read at the start of a training, of images and labels together."""
PLAN_VOXELS = 8e8
"""Voxels that `volseg plan` reads by default; about ten seconds on a core."""
_FEWEST = 2  # cases that are read whatever their size
_SMALLEST_KEPT = 8  # cases of a region whose positions are kept: its smallest ones
_UNLIKE = 1.5  # factor between medians of the two sides of a fold


def take_fingerprint(
    cohort: Cohort,
    *,
    voxels: float = PLAN_VOXELS,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Fingerprint:
    """Read all headers, and the voxels of cases spread evenly over the cohort, a few slices at a time.

    Which cases are read depends on the cohort and `voxels` alone, so the fingerprint is the same at each call. At least
    two are read, with their images; once the voxels are spent, labels alone are read for as many again.

    Args:
        cohort: Cohort.
        voxels: Number of voxels to read; infinite for all.
        workers: Threads.
        progress: Function that is called with the number of cases read and of all to read.

    Raises:
        CohortError: There is no case.
    """
    rows = _labelled_rows(cohort)
    whole, labels_only = _chosen(cohort, rows, voxels=voxels)
    unreadable: dict[str, str] = {}

    def look(task: tuple[str, bool]) -> CaseFacts | None:
        key, images = task
        try:
            with telling_memory():
                return look_at_case(cohort, key, images=images)
        except VolsegError as error:
            unreadable[key] = error.message
            return None

    tasks = [*((key, True) for key in whole), *((key, False) for key in labels_only)]
    gathered = _Gathered(cohort)
    with ThreadPoolExecutor(workers) as pool:
        for done, facts in enumerate(pool.map(look, tasks), start=1):
            if facts is not None:
                gathered.add(facts)
            if progress is not None:
                progress(done, len(tasks))
    return gathered.fingerprint(rows, dict(sorted(unreadable.items())))


def _labelled_rows(cohort: Cohort) -> list[CaseRow]:
    rows = [row for key, row in cohort.rows.items() if key in cohort.labelled and not row.test]
    rows = rows or list(cohort.rows.values())
    if not rows:
        raise CohortError(f"{cohort.folder} holds no case, so nothing can be planned")
    return rows


def _chosen(cohort: Cohort, rows: Sequence[CaseRow], *, voxels: float) -> tuple[list[str], list[str]]:
    """Keys of the cases to read whole, and of those whose labels alone are read."""
    labelled = [row for row in rows if row.key in cohort.labelled]
    order = [labelled[number] for number in np.random.default_rng(0).permutation(len(labelled))]
    whole: list[str] = []
    labels_only: list[str] = []
    spent = spent_on_labels = 0.0
    for row in order:
        size = math.prod(row.shape)
        cost = size * (1 + cohort.channels)
        if len(whole) < _FEWEST or spent + cost <= voxels:
            whole.append(row.key)
            spent += cost
        elif spent_on_labels + size <= voxels:
            labels_only.append(row.key)
            spent_on_labels += size
    return whole, labels_only


class _Gathered:
    """The sums over the cases, each of which is forgotten but for its numbers, a sample and its small regions."""

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort
        names = cohort.labels.names
        self.found: dict[str, list[tuple[CaseFacts, RegionInCase]]] = {name: [] for name in names}
        self.small: dict[str, list[SmallRegion]] = {name: [] for name in names}
        self.background: list[list[NDArray[np.float32]]] = [[] for _ in cohort.channel_names]
        self.foreground: list[list[NDArray[np.float32]]] = [[] for _ in cohort.channel_names]
        self.constant: dict[str, list[str]] = {name: [] for name in cohort.channel_names}
        self.broken: dict[str, list[str]] = {name: [] for name in cohort.channel_names}
        self.levels: dict[str, list[float]] = {}
        self.keys: set[str] = set()
        self.images = 0

    def add(self, facts: CaseFacts) -> None:
        self.keys.add(facts.key)
        for name, region in facts.regions.items():
            if region.positions is not None:
                one = SmallRegion(facts.key, name, facts.shape, facts.spacing_mm, region.extent, region.positions)
                smallest = sorted([*self.small[name], one], key=lambda one: (len(one.positions), one.key))
                self.small[name] = smallest[:_SMALLEST_KEPT]
            bare = CaseFacts(facts.key, facts.shape, facts.spacing_mm, {})
            kept = RegionInCase(region.voxels, region.extent, region.parts, region.profile, None, region.intensities)
            self.found[name].append((bare, kept))
        if not facts.limits:
            return
        self.images += 1
        for number, name in enumerate(self.cohort.channel_names):
            self.background[number].append(facts.background[number])
            self.foreground[number].append(facts.foreground[number])
            low, high = facts.limits[number]
            if facts.broken[number]:
                self.broken[name].append(facts.key)
            elif not high > low:
                self.constant[name].append(facts.key)
        inside = [region.intensities for region in facts.regions.values()]
        levels = [np.concatenate([one[number] for one in inside]) for number in range(len(facts.limits)) if inside]
        if levels and all(len(one) for one in levels):
            self.levels[facts.key] = [float(np.median(one)) for one in levels]

    def fingerprint(self, rows: Sequence[CaseRow], unreadable: Mapping[str, str]) -> Fingerprint:
        shapes = [row.along_ras(row.shape) for row in rows]
        spacings = [row.along_ras(row.spacing_mm) for row in rows]
        folds = self.cohort.folds() if self.cohort.has_folds else []
        everywhere = {name for name, keys in self.constant.items() if keys and len(keys) == self.images}
        region_cases = {}
        for name in self.cohort.labels.names:
            held = {facts.key for facts, _ in self.found[name]}
            region_cases[name] = tuple(
                (len(held & set(fold.training)), len(held & set(fold.validation))) for fold in folds
            )
        return Fingerprint(
            cases=len(rows),
            patients=len({row.patient for row in rows}),
            shape=tuple(round(statistics.median(along)) for along in zip(*shapes, strict=True)),
            shape_range=tuple((int(min(along)), int(max(along))) for along in zip(*shapes, strict=True)),
            spacing_mm=tuple(_digits(statistics.median(along)) for along in zip(*spacings, strict=True)),
            spacing_range_mm=tuple(_range(along) for along in zip(*spacings, strict=True)),
            channel_names=self.cohort.channel_names,
            flat=self.cohort.flat,
            regions=tuple(self._region(name) for name in self.cohort.labels.names),
            background=tuple(Intensities.of(_all_of(parts)) for parts in self.background) if self.images else (),
            foreground=tuple(Intensities.of(_all_of(parts)) for parts in self.foreground) if self.images else (),
            constant=tuple(name for name in self.cohort.channel_names if name in everywhere),
            constant_cases={
                name: tuple(sorted(keys)) for name, keys in self.constant.items() if keys and name not in everywhere
            },
            looked_at=len(self.keys),
            images_read=self.images,
            unreadable=unreadable,
            folds=tuple((len(fold.training), len(fold.validation)) for fold in folds),
            region_cases=region_cases,
            small=tuple(one for name in self.cohort.labels.names for one in self.small[name]),
            unlike=(*self._unlike(folds), *self._broken(), *size_warnings(rows)),
        )

    def _broken(self) -> list[str]:
        """Sentences on images that hold numbers which are none."""
        return [
            f"channel {name} holds NaN or infinity in {len(keys)} of {self.images} images that were read "
            f"({first_names(sorted(keys))}): no training takes them, replace them by the background's value"
            for name, keys in self.broken.items()
            if keys
        ]

    def _region(self, name: str) -> RegionFacts:
        found = self.found[name]
        if not found:
            return RegionFacts(name, 0)
        sizes = [region.voxels for _, region in found]
        millimetres = [math.prod(facts.spacing_mm) for facts, _ in found]
        smallest = min(range(len(found)), key=lambda number: (sizes[number], found[number][0].key))
        counted = [region.parts for _, region in found if region.parts is not None]
        profile = np.mean([region.profile for _, region in found], axis=0)
        overlap = np.minimum(profile, profile[:, ::-1]).sum(axis=1)
        boxes = [[n * mm for n, mm in zip(region.extent, facts.spacing_mm, strict=True)] for facts, region in found]
        read = [region.intensities for _, region in found if region.intensities]
        return RegionFacts(
            name,
            len(found),
            voxels=float(statistics.median(sizes)),
            volume_mm3=float(statistics.median(n * mm3 for n, mm3 in zip(sizes, millimetres, strict=True))),
            share=float(statistics.median(region.voxels / math.prod(facts.shape) for facts, region in found)),
            extent=tuple(min(along) for along in zip(*(region.extent for _, region in found), strict=True)),
            extent_mm=tuple(statistics.median(along) for along in zip(*boxes, strict=True)),
            smallest_case=found[smallest][0].key,
            smallest_voxels=sizes[smallest],
            parts=float(statistics.median(counted)) if counted else None,
            intensities=tuple(
                Intensities.of(_all_of([one[number] for one in read])) for number in range(self.cohort.channels)
            )
            if read
            else (),
            symmetry=tuple(float(value) for value in overlap),
        )

    def _unlike(self, folds: Sequence[Fold]) -> list[str]:
        """Folds whose validation cases differ from their training cases, in size, spacing or grey values."""
        told = []
        rows = self.cohort.rows
        for number, fold in enumerate(folds):
            sides = [[rows[key] for key in keys if key in rows] for keys in (fold.training, fold.validation)]
            if min(map(len, sides)) < 2:
                continue
            for what, of in (("spacing", "spacing_mm"), ("shape", "shape")):
                medians = [
                    [
                        statistics.median(along)
                        for along in zip(*(row.along_ras(getattr(row, of)) for row in side), strict=True)
                    ]
                    for side in sides
                ]
                factor = max(max(a / b, b / a) for a, b in zip(*medians, strict=True))
                if factor >= _UNLIKE:
                    shown = [" x ".join(f"{value:g}" for value in one) for one in medians]
                    unit = " mm" if what == "spacing" else " voxels"
                    told.append(
                        f"fold {number}: the median {what} of its validation cases is {shown[1]}{unit}, that of its "
                        f"training cases {shown[0]}{unit}"
                    )
            told += self._other_levels(number, fold)
        return told

    def _other_levels(self, number: int, fold: Fold) -> list[str]:
        train, check = (
            [self.levels[key] for key in keys if key in self.levels] for keys in (fold.training, fold.validation)
        )
        if min(len(train), len(check)) < 3:
            return []
        told = []
        for channel, name in enumerate(self.cohort.channel_names):
            ours, theirs = ([one[channel] for one in side] for side in (train, check))
            spread = max(np.subtract(*np.quantile(ours, [0.75, 0.25])), 1e-6 * (1 + abs(statistics.median(ours))))
            if min(theirs) > max(ours) + spread or max(theirs) < min(ours) - spread:
                told.append(
                    f"fold {number}: channel {name} is {statistics.median(theirs):.4g} inside the regions of its "
                    f"validation cases and {statistics.median(ours):.4g} in those of its training cases"
                )
        return told


def _all_of(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _range(along: Sequence[float]) -> tuple[float, float, float, float]:
    low, high = np.quantile(along, [0.1, 0.9])
    return _digits(min(along)), _digits(float(low)), _digits(float(high)), _digits(max(along))


def _digits(mm: float) -> float:
    """A spacing as cohorts state it: to 0.01 mm, or with three digits below 0.1 mm."""
    return round(mm, 2) if mm >= 0.1 else float(f"{mm:.3g}")
