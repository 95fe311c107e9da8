"""The folds of a cohort before a training: whether each case is held out once, and what each fold can learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from volseg.cohort import Cohort
from volseg.errors import CohortError, UsageError, naming
from volseg.volume import read_volume

_SOME = 3


def check_folds(cohort: Cohort) -> list[str]:
    """Refuse folds in which no cross-validation is possible; returns notes on those that leave cases out.

    Raises:
        UsageError: There is no label, or but one patient.
        CohortError: There is no `splits.json`, it is wrong, a fold has an empty side, or a case is held out twice.
    """
    patients = {cohort.patient(key) for key in cohort.labelled if not cohort.rows[key].test}
    cases = len(cohort.labelled)
    if len(patients) < 2:
        raise UsageError(
            f"a cross-validation needs labelled cases of 2 patients or more, {cohort.folder} has {cases} of "
            f"{len(patients)}; a pattern of the keys may tell patients apart: `volseg split --patient-pattern`"
        )
    try:
        folds = cohort.folds()
    except CohortError as error:
        if len(patients) < 5 and "has no splits.json" in error.message:
            raise CohortError(
                f"{cohort.folder} has no splits.json, and {len(patients)} patients; write it with `volseg split "
                f"{cohort.folder} --folds {len(patients)}`"
            ) from error
        raise
    for number, fold in enumerate(folds):
        if not fold.training or not fold.validation:
            raise CohortError(
                f"fold {number} of {cohort.folder} must hold cases on both sides, got {len(fold.training)} to train on "
                f"and {len(fold.validation)} held out; split again with `volseg split {cohort.folder}`"
            )
    times = Counter(key for fold in folds for key in fold.validation)
    twice = sorted(key for key, count in times.items() if count > 1)
    if twice:
        raise CohortError(
            f"each case must be held out by one fold, and {_names(twice)} by {times[twice[0]]}; split again with "
            f"`volseg split {cohort.folder}`"
        )
    left = sorted(key for key in cohort.labelled if key not in times and not cohort.rows[key].test)
    suspects = [key for key in left if cohort.rows[key].suspect]
    others = [key for key in left if not cohort.rows[key].suspect]
    notes = []
    if suspects:
        notes.append(f"{len(suspects)} suspect cases are in no fold and are neither trained on nor scored")
    if others:
        notes.append(f"no fold holds out {_names(others)}: {len(others)} labelled cases are not scored")
    return notes


def regions_of_cases(
    cohort: Cohort, *, progress: Callable[[int, int], None] | None = None
) -> dict[str, tuple[str, ...]]:
    """The regions that the label of each case of a fold holds, by key; every label is read.

    Raises:
        VolsegError: A label cannot be read or has a value that the table does not declare; the message names the key.
    """
    keys = sorted({key for fold in cohort.folds() for key in (*fold.training, *fold.validation)})

    def look(key: str) -> tuple[str, ...]:
        path = cohort.label_path(key)
        with naming(key):
            voxels = cohort.labels.check(read_volume(path).voxels) if path else np.zeros(0, np.uint8)
        return tuple(name for name, count in cohort.labels.voxels_of_regions(voxels).items() if count)

    found = {}
    with ThreadPoolExecutor(2) as pool:
        for done, (key, regions) in enumerate(zip(keys, pool.map(look, keys), strict=True), start=1):
            found[key] = regions
            if progress is not None:
                progress(done, len(keys))
    return found


def fold_notes(cohort: Cohort, regions: Mapping[str, Sequence[str]], folds: Sequence[int]) -> list[str]:
    """What a fold cannot learn or cannot be scored on, a line each."""
    notes = []
    for number in folds:
        fold = cohort.fold(number)
        for name in cohort.labels.names:
            patients = {cohort.patient(key) for key in fold.training if name in regions.get(key, ())}
            if not patients:
                notes.append(
                    f"fold {number}: none of its {len(fold.training)} training cases holds {name}, so its network "
                    "cannot find it; split again with another --seed, or take the region out"
                )
            elif not any(name in regions.get(key, ()) for key in fold.validation):
                notes.append(
                    f"fold {number}: none of its {len(fold.validation)} held-out cases holds {name}, so only inventing "
                    "it can be seen there"
                )
    return notes


def _names(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_SOME]) + (f" and {len(keys) - _SOME} more" if len(keys) > _SOME else "")
