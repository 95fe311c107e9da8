"""Folds: which cases train and which validate, never with one patient on both sides."""

from __future__ import annotations

import json
import random
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from volseg.cohort.table import CaseRow
from volseg.errors import CohortError, UsageError
from volseg.files import atomic


@dataclass(frozen=True)
class Fold:
    """The keys to train on and the keys to validate on."""

    training: tuple[str, ...]
    validation: tuple[str, ...]


def split_by_patient(rows: Iterable[CaseRow], *, folds: int = 5, seed: int = 0, suspects: bool = False) -> list[Fold]:
    """Folds in which each case is validated once and no patient stands on both sides.

    Patients are shuffled with `seed` and dealt, those with most cases first, to the fold with fewest cases so far.
    Cases kept for a test are in no fold.

    Args:
        rows: the labelled cases.
        folds: how many.
        seed: another seed, another split.
        suspects: keep the cases marked as suspect, which are left out otherwise.

    Raises:
        UsageError: fewer patients than folds.
    """
    by_patient: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: row.key):
        if (suspects or not row.suspect) and not row.test:
            by_patient.setdefault(row.patient, []).append(row.key)
    if len(by_patient) < 2:
        raise UsageError(f"a split needs at least 2 patients with labels, there are {len(by_patient)}")
    if folds < 2 or len(by_patient) < folds:
        raise UsageError(
            f"{folds} folds were asked for and there are {len(by_patient)} patients; ask for 2 to {len(by_patient)}"
        )
    patients = sorted(by_patient)
    random.Random(seed).shuffle(patients)
    patients.sort(key=lambda patient: -len(by_patient[patient]))
    held_out: list[list[str]] = [[] for _ in range(folds)]
    for patient in patients:
        min(held_out, key=len).extend(by_patient[patient])
    everything = sorted(key for keys in by_patient.values() for key in keys)
    return [Fold(tuple(key for key in everything if key not in set(out)), tuple(sorted(out))) for out in held_out]


def split_by_choice(rows: Iterable[CaseRow], validation: Container[str]) -> list[Fold]:
    """One fold: the chosen keys are validated on, the others trained on; suspects and tests are in neither.

    Raises:
        UsageError: no case on one of the sides.
    """
    keys = sorted(row.key for row in rows if not (row.suspect or row.test))
    fold = Fold(tuple(k for k in keys if k not in validation), tuple(k for k in keys if k in validation))
    if not (fold.training and fold.validation):
        raise UsageError(
            f"of {len(keys)} cases {len(fold.validation)} are chosen for validation; a fold needs some on either side"
        )
    return [fold]


def read_splits(path: Path) -> list[Fold]:
    """Read `splits.json`; whether its keys are known is left to `Cohort.folds`.

    Raises:
        CohortError: it is no list of folds, or an empty one.
    """
    try:
        folds = [Fold(_words(fold["training"]), _words(fold["validation"])) for fold in json.loads(path.read_text())]
    except (ValueError, TypeError, KeyError) as error:
        raise CohortError(f"{path} is not a list of training and validation keys ({error}); split again") from error
    if not folds:
        raise CohortError(f"{path} has no fold; split again")
    return folds


def _words(keys: object) -> tuple[str, ...]:
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise TypeError(f"expected a list of keys, got {keys!r}")
    return tuple(keys)


def write_splits(folder: Path, folds: Sequence[Fold]) -> None:
    """Write `splits.json`, in the form of nnU-Net's `splits_final.json`."""
    content = [{"training": list(fold.training), "validation": list(fold.validation)} for fold in folds]
    with atomic(folder / "splits.json") as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")
