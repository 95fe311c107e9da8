"""Edited segmentations taken into a cohort: case by case, whole or not at all, counted, and undone on demand."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from volseg.cohort import (
    Cohort,
    Correction,
    Predictions,
    label_digest,
    last_round,
    next_round,
    read_corrections,
    read_translated,
    replace_label,
    undo_adoption,
)
from volseg.deploy.corrections.answers import Answers
from volseg.deploy.corrections.counting import correction_rows, emptied, taken_back, unseen_notes
from volseg.deploy.corrections.edited_label import (
    Naming,
    check_image,
    check_place,
    edited_label,
    read_edit,
    with_ignored,
)
from volseg.deploy.corrections.edits import Edit, Edits, find_edits
from volseg.deploy.corrections.todo import Todo, file_digest
from volseg.errors import CohortError, LabelError, UsageError, VolsegError, first_names
from volseg.files import locked
from volseg.volume import Volume, read_volume

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Adopted:
    """What became of one case.

    Attributes:
        key: Key of the case.
        rows: Lines of `corrections.csv`; empty if the label was that already.
        notes: What is to be known of it.
    """

    key: str
    rows: tuple[Correction, ...]
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the cohort was changed."""
        return bool(self.rows)

    @property
    def added_path_mm(self) -> float:
        """Added path length of all regions in mm."""
        return math.fsum(row.added_path_mm for row in self.rows)


@dataclass
class Adoption:
    """What became of all cases.

    Attributes:
        adopted: Cases whose label is the edited one now, and those whose label was it already.
        unchanged: Keys of cases of the list that nobody edited.
        failed: Error by key, or by the name of a file that is of no case.
        round: Number of the adoption in `corrections.csv`; None if it changed nothing.
    """

    adopted: dict[str, Adopted] = field(default_factory=dict)
    unchanged: tuple[str, ...] = ()
    failed: dict[str, VolsegError] = field(default_factory=dict)
    round: int | None = None


def adopt(
    place: Path,
    cohort: Cohort,
    *,
    answers: Answers | None = None,
    naming: Naming | None = None,
    case: str | None = None,
    unchanged: bool = False,
    minutes: float | None = None,
    ignore_slices: Sequence[int] = (),
    predictions: Path | None = None,
    anew: bool | None = None,
    only: Collection[str] | None = None,
    round_number: int | None = None,
    progress: Progress | None = None,
) -> Adoption:
    """Take the edited segmentations of a folder into a cohort.

    Each case is taken whole or not at all, and one that cannot be taken leaves the others alone. What a case had is
    kept below `.volseg/labels`, and what changed is told in `corrections.csv`. Doing it again changes nothing. Where a
    correction of the same prediction was adopted before, a further one is compared with that.

    Args:
        place: Folder that `volseg review` wrote, any folder of segmentations, or one file.
        cohort: Cohort whose labels are replaced.
        answers: What a person says about segments that are no regions, and the like; nothing by default.
        naming: What values of label maps mean that bear no names.
        case: Key of the case, if `place` is one file.
        unchanged: Whether segmentations of the list that nobody changed are taken too: someone has looked at them.
        minutes: Minutes that the case took, if `place` is one file.
        ignore_slices: Slices of it that nobody looked at, counted from 1.
        predictions: Folder of the predictions that the edits began from, if `volseg review` did not write the folder.
        anew: Whether the edits began from the predictions even where these were corrected before; if false, a case
            that was corrected before goes on from that, whatever is predicted of it now.
        only: Keys of the cases that are taken; None (the default) for all.
        round_number: Number of an adoption that this one belongs to, so that both are undone together; a new number if
            there is a later one by now.
        progress: Function that is called with (cases done, cases in all).

    Raises:
        UsageError: Nothing is there, or the answers name no region.
        CohortError: The label table has changed since the list was made, or another adoption is at work.
    """
    answers, naming = answers or Answers(), naming or Naming()
    answers.check(cohort.labels)
    edits = find_edits(place, cohort, case=case, secret=naming.secret)
    if (minutes is not None or ignore_slices) and place.is_dir():
        raise UsageError("--minutes and --ignore-slices are of one case; name its file instead of the folder")
    _check_table(edits, cohort)
    if predictions is not None and not predictions.is_dir():
        raise UsageError(f"there is no folder {predictions}; name the predictions that the edits began from")
    found = Adoption(failed={name: LabelError(reason) for name, reason in edits.failed.items()})
    wanted = {**edits.found, **(edits.unchanged if unchanged else {})}
    found.unchanged = tuple(sorted(set(edits.unchanged) - set(wanted)))
    wanted = {key: edit for key, edit in wanted.items() if only is None or key in only}
    began = None if predictions is None else Predictions.open(predictions)
    with locked(
        cohort.folder / ".volseg" / "adopting",
        refusal=f"another adoption is at work in {cohort.folder}; wait for it, then run again",
    ):
        number = next_round(cohort.folder)
        if round_number == number - 1:  # the last one there is, which goes on
            number = round_number
        known = {row.key for row in read_corrections(cohort.folder)}
        rows = [] if anew else read_corrections(cohort.folder)
        corrected = {(row.key, row.digest_before) for row in rows}
        further = frozenset(row.key for row in rows) if anew is False else frozenset[str]()
        timed = {(row.key, row.case_minutes) for row in rows}
        for done, (key, edit) in enumerate(sorted(wanted.items()), start=1):
            try:
                edit = edit if minutes is None else replace(edit, minutes=minutes)
                now = Cohort.open(cohort.folder)
                shown = _shown(key, now, edits.todo, began)
                before = _before(key, now, shown, corrected=corrected, further=further)
                if edits.todo is not None and before[0] == "label" and (key, edit.minutes) in timed:
                    edit = replace(edit, minutes=None)  # those of the list are of the edit before
                found.adopted[key] = adopt_file(
                    edit,
                    now,
                    before=before,
                    shown=shown if key in known else None,
                    round_number=number,
                    answers=answers,
                    naming=naming,
                    todo=edits.todo,
                    ignore_slices=ignore_slices,
                )
            except VolsegError as error:
                found.failed[key] = error
            if progress is not None:
                progress(done, len(wanted))
    found.round = number if any(one.changed for one in found.adopted.values()) else None
    return found


def undo(cohort: Cohort, *, case: str | None = None) -> tuple[str, ...]:
    """Put the labels back that the last adoption replaced; returns the keys.

    Args:
        cohort: Cohort.
        case: Key of the only case to put back, as it was before its last adoption; None for the whole last round.

    Raises:
        UsageError: There is nothing to undo.
        CohortError: A label was changed since, or what was kept of it is gone; the others of the round are put back.
    """
    with locked(
        cohort.folder / ".volseg" / "adopting",
        refusal=f"another adoption is at work in {cohort.folder}; wait for it, then run again",
    ):
        number, keys = last_round(cohort.folder)
        if case is not None:
            rounds = [row.round for row in read_corrections(cohort.folder) if row.key == case]
            if not rounds:
                raise UsageError(f"the label of {case} was not corrected; there is nothing to undo")
            number, keys = max(rounds), (case,)
        failed: dict[str, CohortError] = {}
        for key in keys:
            try:
                undo_adoption(cohort.folder, key, number)
            except CohortError as error:
                failed[key] = error
    if not failed:
        return keys
    (key, first), *others = failed.items()
    more = f"; {first_names([one for one, _ in others])} cannot be put back either" if others else ""
    done = [one for one in keys if one not in failed]
    told = f"; the former labels of {first_names(done)} were put back" if done else ""
    raise CohortError(f"{first.message}{more}{told}", case=key) from first


def adopt_file(
    edit: Edit,
    cohort: Cohort,
    *,
    before: tuple[str, Volume | None],
    round_number: int,
    answers: Answers,
    naming: Naming,
    shown: Volume | None = None,
    todo: Todo | None = None,
    ignore_slices: Sequence[int] = (),
) -> Adopted:
    """Take one edited segmentation; see `adopt`.

    Args:
        edit: The file, and whose it is.
        cohort: Cohort as it is now.
        before: What the person began from (`prediction`, `label` or `nothing`), and that label map.
        round_number: Number of the adoption.
        answers: Answers to what it leaves open.
        naming: What the values of a label map mean.
        shown: Prediction that was written out, of a case that was corrected before.
        todo: The list that it comes from.
        ignore_slices: Slices that nobody looked at, counted from 1.

    Raises:
        VolsegError: It cannot be taken; the cohort is as it was.
    """
    key = edit.key
    image_path = cohort.image_paths(key)[0]
    row = todo.row(key) if todo else None
    if row is not None and row.image_digest and row.image_digest != file_digest(image_path):
        raise CohortError("its image has changed since `volseg review` wrote it out; make the list anew")
    image = read_volume(image_path)
    named = read_edit(edit, image, naming, regions=cohort.labels.names)
    check_place(named, key, cohort, image)
    notes = [*named.notes, *check_image(named, key, cohort, image)]
    seen, told = edited_label(named, cohort.labels, image, before[1], answers)
    notes += told
    label, ignore = with_ignored(seen, named, cohort.labels, image, ignore_slices, answers)
    labels = cohort.labels if ignore is None else replace(cohort.labels, ignore=ignore)
    current = cohort.label_path(key)
    there = None if current is None else read_volume(current)
    if there is not None and there.shape == label.shape and np.array_equal(there.voxels, label.voxels):
        return Adopted(key, (), ("its label is that already",))
    notes += unseen_notes(label, labels, seen=seen, began=before[1], there=there)
    if shown is not None and there is not None:
        notes += taken_back(label, labels, there=there, shown=shown)
    if cohort.rows[key].test:
        notes.append("it is kept for a test, whose scores of before and of after are now of two references")
    rows = correction_rows(label, labels, before, key=key, number=round_number, minutes=edit.minutes)
    notes += emptied(rows, label, labels, before[1])
    replace_label(
        cohort.folder,
        key,
        label,
        rows,
        channels=cohort.channels,
        ignore=ignore if cohort.labels.ignore is None else None,
    )
    return Adopted(key, tuple(rows), tuple(notes))


def _check_table(edits: Edits, cohort: Cohort) -> None:
    if edits.todo is not None and edits.todo.labels != cohort.labels.digest:
        raise CohortError(
            f"the label table of {cohort.folder} has changed since `volseg review` wrote {edits.todo.folder}; the "
            f"cohort has {', '.join(cohort.labels.names)} now: make the list anew, or adopt single files"
        )


def _shown(key: str, cohort: Cohort, todo: Todo | None, predictions: Predictions | None) -> Volume | None:
    """The prediction that was written out, if it is known."""
    if todo is not None and todo.prediction(key).is_file():
        return read_volume(todo.prediction(key))
    if predictions is not None and predictions.path(key).is_file():
        return read_translated(predictions.path(key), predictions.match(cohort))
    return None


def _before(
    key: str,
    cohort: Cohort,
    shown: Volume | None,
    *,
    corrected: Collection[tuple[str, str]],
    further: Collection[str],
) -> tuple[str, Volume | None]:
    """What the person began from: the prediction that was written out, unless it was corrected; else the label."""
    path = cohort.label_path(key)
    if shown is not None and (path is None or (key not in further and (key, label_digest(shown)) not in corrected)):
        return "prediction", shown
    return ("nothing", None) if path is None else ("label", read_volume(path))
