"""Folds: which cases train and which validate, never with one patient on both sides."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from volseg.cohort.table import CaseRow
from volseg.errors import CohortError, UsageError, first_names
from volseg.files import atomic

ALL = "all"
"""Name of the fold that trains on every case and validates none, as in nnU-Net."""


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
        rows: Labelled cases.
        folds: Number of folds.
        seed: Seed of the split; another seed gives another split.
        suspects: Whether to keep the cases marked as suspect, which are left out otherwise.

    Raises:
        UsageError: There are fewer patients than folds.
    """
    by_patient: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: row.key):
        if (suspects or not row.suspect) and not row.test:
            by_patient.setdefault(row.patient, []).append(row.key)
    if len(by_patient) < 2:
        raise UsageError(
            f"a split needs at least 2 patients with labels, got {len(by_patient)}; `volseg train --fold all` does "
            "without a split, and --patient-pattern says which part of a key is the patient"
        )
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
    validations = [frozenset(out) for out in held_out]
    return [Fold(tuple(key for key in everything if key not in out), tuple(sorted(out))) for out in validations]


def tested_patients_note(rows: Iterable[CaseRow], folds: Iterable[Fold]) -> str | None:
    """A warning if patients with cases that are kept for a test have others in folds: a network has seen them then.

    Args:
        rows: Rows of all cases.
        folds: Folds.
    """
    rows = list(rows)
    keys = {key for fold in folds for key in (*fold.training, *fold.validation)}
    shared = sorted({row.patient for row in rows if row.test} & {row.patient for row in rows if row.key in keys})
    if not shared:
        return None
    return (
        f"{len(shared)} patients have cases that are kept for a test and others in the folds ({first_names(shared)}), "
        "so that the test is not of new patients; keep all of their cases for the test, or none"
    )


def split_by_choice(rows: Iterable[CaseRow], validation: Container[str]) -> list[Fold]:
    """One fold: the chosen keys are validated on, the others trained on; suspects and tests are in neither.

    Raises:
        UsageError: One of the sides has no case.
    """
    keys = sorted(row.key for row in rows if not (row.suspect or row.test))
    fold = Fold(tuple(k for k in keys if k not in validation), tuple(k for k in keys if k in validation))
    if not (fold.training and fold.validation):
        raise UsageError(
            f"of {len(keys)} cases {len(fold.validation)} are chosen for validation; a fold needs some on either side"
        )
    return [fold]


def read_splits(path: Path) -> list[Fold]:
    """Read folds; whether their keys are known is left to `Cohort.folds`.

    Args:
        path: `splits.json`, or nnU-Net's `splits_final.json`: a list of folds, each with the keys `train` and `val`.
            Versions of volseg before 0.2 wrote `training` and `validation`, which are read too.

    Raises:
        CohortError: The file is no list of folds, or an empty one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise CohortError(f"{path} is not JSON ({error}); {_again(path)}") from error
    if not isinstance(content, list) or not content:
        raise CohortError(
            f"{path} must be a list of folds, each with train and val keys, got {_told(content)}; {_again(path)}"
        )
    return [_fold(number, entry, path) for number, entry in enumerate(content)]


def check_folds(
    folds: Sequence[Fold], path: Path, *, labelled: Container[str], patient_of: Callable[[str], str]
) -> None:
    """Refuse folds that name a case without a label, or that have a patient on both sides.

    Args:
        folds: The folds.
        path: File that they were read from, for messages.
        labelled: Keys of the labelled cases.
        patient_of: Function that gives the patient of a key.

    Raises:
        CohortError: They do.
    """
    cure = _again(path)
    for number, fold in enumerate(folds):
        unknown = {key for key in (*fold.training, *fold.validation) if key not in labelled}
        if unknown:
            told = f"names {first_names(sorted(unknown))}, which has no label here"
            raise CohortError(f"fold {number} of {path} {told}; {cure}")
        shared = set(map(patient_of, fold.training)) & set(map(patient_of, fold.validation))
        if shared:
            told = f"has patient {first_names(sorted(shared))} on both sides"
            raise CohortError(f"fold {number} of {path} {told}; {cure}")


def _fold(number: int, entry: object, path: Path) -> Fold:
    """One entry of the file, in either form."""
    for train, val in (("train", "val"), ("training", "validation")):
        if isinstance(entry, dict) and train in entry and val in entry:
            sides = [entry[train], entry[val]]
            if all(isinstance(keys, list) and all(isinstance(key, str) for key in keys) for keys in sides):
                return Fold(tuple(sides[0]), tuple(sides[1]))
            flat = all(isinstance(keys, list) and all(isinstance(key, str | int) for key in keys) for keys in sides)
            if flat:
                odd = next(key for keys in sides for key in keys if not isinstance(key, str))
                raise CohortError(
                    f"fold {number} of {path} must name cases by their keys, got {odd!r}; write each key as a text"
                )
    raise CohortError(
        f"fold {number} of {path} must hold two lists of keys, train and val, got {_told(entry)}; {_again(path)}"
    )


def _again(path: Path) -> str:
    """The cure of a file that holds no folds."""
    return f"split again with `volseg split {path.parent}`"


def _told(content: object) -> str:
    if isinstance(content, dict):
        return f"an object with {', '.join(map(str, content)) or 'no entry'}"
    return f"a list of {len(content)}" if isinstance(content, list) else type(content).__name__


def write_splits(folder: Path, folds: Sequence[Fold]) -> None:
    """Write `splits.json`, in the form of nnU-Net's `splits_final.json`: a list of `{"train": [...], "val": [...]}`."""
    content = [{"train": list(fold.training), "val": list(fold.validation)} for fold in folds]
    with atomic(folder / "splits.json") as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")
