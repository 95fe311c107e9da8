"""The folds that a conversion writes: those that the source states, or drawn ones; what the user changed is kept."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from volseg.cohort.folds import Fold, read_splits, split_by_choice, split_by_patient, write_splits
from volseg.cohort.table import CaseRow
from volseg.errors import CohortError, UsageError
from volseg.volume import FILE_ENDING

logger = logging.getLogger(__name__)

_SPLITS, _FORMER = "splits.json", "splits.former.json"


def write_folds(
    folder: Path,
    rows: Iterable[CaseRow],
    *,
    folds: int,
    seed: int,
    validation: Container[str],
    given: Sequence[Fold],
    redraw: bool = False,
) -> None:
    """Write `splits.json`, unless the one that is there still fits, or is not the one that a conversion wrote.

    An empty file `.volseg/splits/DIGEST` of what a conversion wrote tells it from what the user or `volseg split`
    wrote. The latter is kept as long as its keys are those of labelled cases, and a warning says so if the
    source states other folds, or if cases are in none. Else it becomes `splits.former.json`, and so does a damaged one.

    Args:
        folder: Cohort folder.
        rows: Rows of all cases.
        folds: Number of folds to draw, fewer if there are fewer patients.
        seed: Seed of the drawn folds.
        validation: Keys to validate on, if the source chooses them.
        given: Folds that the source states.
        redraw: Whether number and seed were asked for, so that folds which an earlier conversion drew otherwise go.
    """
    labelled = [row for row in rows if (folder / "labelsTr" / f"{row.key}{FILE_ENDING}").is_file()]
    needed = {row.key: row.patient for row in labelled if not (row.suspect or row.test)}
    patients = set(needed.values())
    if len(patients) < 2:
        logger.warning("no splits.json was written: it needs 2 patients with labels, %s has %d", folder, len(patients))
        return
    stated = _stated(given, needed)
    if not stated and validation:
        try:
            stated = split_by_choice(labelled, validation)
        except UsageError as error:
            logger.warning("no splits.json was written: %s", error)
            return
    asked = redraw and not stated
    if asked:
        stated = split_by_patient(labelled, folds=min(folds, len(patients)), seed=seed)
    path = _there(folder)
    of_a_person = False
    if path is not None:
        try:
            found = read_splits(path)
            if _is_kept(path, found, stated, labelled, needed, asked=asked):
                return
            of_a_person = not _is_of_conversion(path, found)
        except CohortError as error:
            logger.warning("%s: writing it anew", error)
            of_a_person = True
    if of_a_person and path == folder / _SPLITS:
        path.replace(folder / _FORMER)
        logger.warning("the former folds are now %s", folder / _FORMER)
    written = stated or split_by_patient(labelled, folds=min(folds, len(patients)), seed=seed)
    marker = _marker(folder, written)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    write_splits(folder, written)
    for other in marker.parent.iterdir():
        if other != marker:
            other.unlink(missing_ok=True)


def _there(folder: Path) -> Path | None:
    """The file of folds that `Cohort.folds` would read."""
    return next((path for name in (_SPLITS, "splits_final.json") if (path := folder / name).is_file()), None)


def _is_kept(
    path: Path,
    found: Sequence[Fold],
    stated: Sequence[Fold],
    labelled: Sequence[CaseRow],
    needed: Mapping[str, str],
    *,
    asked: bool,
) -> bool:
    """Whether the folds of a file stay, with a word about it if they are not what a conversion would write."""
    split = {key for fold in found for key in (*fold.training, *fold.validation)}
    known = {row.key for row in labelled if not row.test}
    patients = {row.key: row.patient for row in labelled}
    mixed = any(
        {patients[key] for key in fold.training if key in patients}
        & {patients[key] for key in fold.validation if key in patients}
        for fold in found
    )
    if stated and list(found) == list(stated):
        return True
    if needed.keys() <= split <= known and not stated and not mixed:
        return True
    # Earlier versions of volseg left no marker: their drawn folds are written anew if cases came, as then.
    if _is_of_conversion(path, found) or not (stated or any(_marker(path.parent, found).parent.glob("*"))):
        if stated:
            return False
        logger.warning("%s no longer fits the cases of the cohort: writing it anew", path)
        return False
    # The user's own, or that of `volseg split`.
    if not split <= known or mixed:
        wrong = "has a patient on both sides" if mixed else f"names {min(split - known)}, which has no label here"
        logger.warning("%s, which a conversion did not write, %s: writing it anew", path, wrong)
        return False
    if left := sorted(needed.keys() - split):
        logger.warning(
            "%s is kept, since a conversion did not write it, and %d cases are in none of its folds: %s; run `volseg "
            "split` for other folds",
            *(path, len(left), ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")),
        )
    elif stated and list(found) != list(stated):
        logger.warning(
            "%s is kept, since a conversion did not write it, and %s other folds; remove it for those",
            *(path, "--folds and --seed ask for" if asked else "the source states"),
        )
    return True


def _is_of_conversion(path: Path, folds: Sequence[Fold]) -> bool:
    """Whether a conversion wrote the folds of a file."""
    return _marker(path.parent, folds).is_file()


def _marker(folder: Path, folds: Sequence[Fold]) -> Path:
    """The file that says that a conversion wrote these folds."""
    digest = hashlib.sha256(json.dumps([[fold.training, fold.validation] for fold in folds]).encode()).hexdigest()
    return folder / ".volseg" / "splits" / digest[:16]


def _stated(given: Sequence[Fold], patients: Mapping[str, str]) -> list[Fold]:
    """The folds that a source states, with the cases that are there; none if one has a patient on both sides."""
    folds = [
        Fold(tuple(k for k in fold.training if k in patients), tuple(k for k in fold.validation if k in patients))
        for fold in given
    ]
    for fold in folds:
        shared = {patients[key] for key in fold.training} & {patients[key] for key in fold.validation}
        if shared:
            logger.warning(
                "the split that the source states has patient %s on both sides; other folds are drawn", min(shared)
            )
            return []
    return [fold for fold in folds if fold.training and fold.validation]
