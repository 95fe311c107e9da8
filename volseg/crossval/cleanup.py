"""The clean-up that the out-of-fold predictions choose: the largest part of a region alone, where that helps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import Cohort, Predictions, check_values_as, read_label_map, read_volume_as
from volseg.crossval.choice import ALPHA, patient_means
from volseg.errors import VolsegError
from volseg.labels import Cleanup, LabelTable
from volseg.metrics import FEWEST, dice, holm, mean_interval, signed_rank_p
from volseg.volume import write_volume

CLEANUP_DEFINITION = (
    "The largest part alone is kept of a region where that raises the mean out-of-fold Dice, the 95 % interval of the "
    "gain (bootstrap by patient) lies above 0, and a paired test by patient (Wilcoxon, Holm over the regions) gives "
    f"p < {ALPHA}. Cross-fitted gain = the mean gain where each fold is decided on the other folds alone: what the "
    "rule gains on cases that it was not chosen on."
)

Pairs = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""Dice of each region before and after, by key; NaN if undefined."""


@dataclass(frozen=True)
class RegionCleanup:
    """Whether the largest part alone is kept of a region.

    Attributes:
        region: Name of the region.
        cases: Number of cases with a Dice.
        changed: Number of these whose Dice changes.
        before: Mean Dice as predicted; None without a case.
        after: Mean Dice of the largest part; None without a case.
        gain: Mean gain; None without a case.
        low: Lower end of its 95 % interval by patient; None below two patients.
        high: Upper end of that interval.
        p_holm: p-value of the paired test by patient after Holm's correction; None if too few patients change.
        chosen: Whether it is done.
        reason: Why, or why not.
        crossfitted_gain: Mean gain where each fold is decided on the others; None without a case.
    """

    region: str
    cases: int
    changed: int
    before: float | None
    after: float | None
    gain: float | None
    low: float | None
    high: float | None
    p_holm: float | None
    chosen: bool
    reason: str
    crossfitted_gain: float | None = None


def dice_of_largest(
    predictions: Path, cohort: Cohort, keys: Sequence[str], *, progress: Callable[[int, int], None] | None = None
) -> dict[str, tuple[list[float], list[float]]]:
    """The Dice of each region of each case as predicted, and of its largest part; unpredicted cases are left out.

    Args:
        predictions: Folder of the out-of-fold predictions, by the label table of the cohort.
        cohort: Cohort of the references.
        keys: Keys of the cases.
        progress: Function that is called with the number of finished cases and of all.
    """
    there = Predictions(predictions)
    labels = cohort.labels

    def look(key: str) -> tuple[list[float], list[float]] | None:
        path = cohort.label_path(key)
        if path is None or not there.path(key).is_file():
            return None
        try:
            predicted = read_volume_as("prediction", there.path(key))  # on the grid of the image
            reference = read_label_map("reference", path, predicted, labels).voxels
            guess = check_values_as("prediction", predicted.voxels, labels)
            if (ignored := labels.ignored(reference)) is not None:
                guess = np.where(ignored, np.uint8(0), guess)
        except VolsegError:
            return None  # the report names the case and its error
        before, after = [], []
        for region, mask, truth in zip(
            labels.regions, labels.each_mask(guess), labels.each_mask(reference), strict=True
        ):
            before.append(dice(mask, truth))
            after.append(before[-1])
            if mask.any():
                kept = Cleanup(keep_largest=[region.name]).apply(guess, labels, voxel_ml=1.0)
                after[-1] = dice(next(LabelTable((region,)).each_mask(kept)), truth)
        return before, after

    found = {}
    with ThreadPoolExecutor(2) as pool:
        for done, (key, pair) in enumerate(zip(keys, pool.map(look, keys), strict=True), start=1):
            if pair is not None:
                found[key] = pair
            if progress is not None:
                progress(done, len(keys))
    return found


def choose_cleanup(
    pairs: Pairs, regions: Sequence[str], *, patients: Mapping[str, str], folds: Mapping[str, int]
) -> tuple[RegionCleanup, ...]:
    """Choose the regions of which only the largest part is kept, see `CLEANUP_DEFINITION`.

    Args:
        pairs: Dice before and after by key, see `dice_of_largest`.
        regions: Names of the regions, in the order of the Dice.
        patients: Patient by key.
        folds: Fold that holds out each case, by key.
    """
    keys = list(pairs)
    before, after = (
        np.array([pairs[key][side] for key in keys], dtype=np.float64).reshape(len(keys), len(regions))
        for side in (0, 1)
    )
    decided = _decide(before, after, regions, [patients[key] for key in keys])
    gains = after - before
    fitted = np.where(np.isnan(gains), np.nan, 0.0)
    numbers = np.array([folds[key] for key in keys])
    for number in sorted(set(numbers.tolist())):
        inside = numbers == number
        others = [key for key, out in zip(keys, inside.tolist(), strict=True) if not out]
        on_others = _decide(before[~inside], after[~inside], regions, [patients[key] for key in others])
        for place, one in enumerate(on_others):
            if one.chosen:
                fitted[inside, place] = gains[inside, place]
    return tuple(replace(one, crossfitted_gain=_mean(fitted[:, place])) for place, one in enumerate(decided))


def write_cleaned(predictions: Path, target: Path, cleanup: Cleanup, cohort: Cohort, keys: Sequence[str]) -> None:
    """Write the cleaned label maps of a folder of predictions into another, each whole or not at all."""
    there = Predictions(predictions)
    target.mkdir(parents=True, exist_ok=True)
    for stale in set(Predictions(target).keys()) - set(keys):
        Predictions(target).path(stale).unlink()

    def clean(key: str) -> None:
        if not there.path(key).is_file():
            Predictions(target).path(key).unlink(missing_ok=True)
            return
        predicted = read_volume_as("prediction", there.path(key))
        label_map = check_values_as("prediction", predicted.voxels, cohort.labels)
        cleaned = cleanup.apply(label_map, cohort.labels, voxel_ml=predicted.voxel_ml)
        path = Predictions(target).path(key)
        if not path.is_file() or not np.array_equal(read_volume_as("prediction", path).voxels, cleaned):
            write_volume(path, replace(predicted, voxels=cleaned))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(clean, keys))


def _decide(
    before: NDArray[np.float64], after: NDArray[np.float64], regions: Sequence[str], patients: Sequence[str]
) -> list[RegionCleanup]:
    gains = after - before  # (cases, regions)
    tests = [signed_rank_p(patient_means(gains[:, [place]], patients)) for place in range(len(regions))]
    corrected = holm(tests)
    found = []
    for place, name in enumerate(regions):
        gain = gains[:, place]
        interval = mean_interval(gain, patients)
        p = None if math.isnan(corrected[place]) else corrected[place]
        low, high = (None if math.isnan(end) else end for end in (interval.low, interval.high))
        changed = int(np.count_nonzero(np.abs(gain[~np.isnan(gain)]) > 0))
        reason = _reason(interval.mean, low, p, changed)
        found.append(
            RegionCleanup(
                region=name,
                cases=interval.cases,
                changed=changed,
                before=_mean(before[:, place]),
                after=_mean(after[:, place]),
                gain=None if math.isnan(interval.mean) else interval.mean,
                low=low,
                high=high,
                p_holm=p,
                chosen=not reason,
                reason=reason or "the gain is above chance",
            )
        )
    return found


def _reason(gain: float, low: float | None, p: float | None, changed: int) -> str:
    """Why it is not done; empty if it is."""
    if not changed:
        return "it changes no case"
    if not gain > 0:
        return "it does not raise the mean Dice"
    if p is None:
        return f"fewer than {FEWEST} patients change"
    if p >= ALPHA:
        return "the gain is not above chance"
    if low is None or low <= 0:
        return "the interval of the gain holds 0"
    return ""


def _mean(values: NDArray[np.float64]) -> float | None:
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else None
