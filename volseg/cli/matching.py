"""The regions that predictions share with a cohort, and a note to the user if they are not the same."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from volseg.errors import first_names

if TYPE_CHECKING:
    from volseg.cohort import Cohort
    from volseg.labels import LabelMatch, LabelTable


def _of_folder(predictions: Path, match: LabelMatch) -> list[str]:
    """What is doubtful about a folder of predictions that another program may have written."""
    from volseg.cohort import FILE_ENDING, Predictions

    notes = []
    if others := Predictions(predictions).other_files():
        notes.append(
            f"files of other endings than {FILE_ENDING} are left out, {len(others)} in all: {first_names(others)}"
        )
    if Predictions(predictions).stated is None and any(predictions.glob(f"*{FILE_ENDING}")):
        regions = match.reference.regions[:8]
        meant = ", ".join(f"{'/'.join(map(str, region.values))} {region.name}" for region in regions)
        notes.append(f"no dataset.json says what the values mean, so they are taken as the cohort has them: {meant}")
    return notes


def tell_others(predictions: Path, others: Sequence[Path], labels: LabelTable) -> None:
    """Tell what is doubtful about further folders of predictions beside the first: their values, and cases they lack.

    Args:
        predictions: Folder whose cases are looked at.
        others: Further folders.
        labels: Table by which a folder without its own is read.
    """
    from volseg.cohort import Predictions

    keys = Predictions.open(predictions).keys()
    for folder in others:
        further = Predictions.open(folder)
        notes = _of_folder(folder, further.match_table(labels))
        if absent := sorted(set(keys).difference(further.keys())):
            notes.append(f"{len(absent)} of {len(keys)} cases have no prediction there: {first_names(absent)}")
        for note in notes:
            typer.secho(f"note  {folder}: {note}", fg="yellow", err=True)


def tell_absent(predicted: Collection[str], cohort: Cohort) -> None:
    """Tell of the labelled cases that have no prediction, unless those that have one are a part of the cohort.

    Args:
        predicted: Keys of the predictions.
        cohort: Cohort with the references.
    """
    labelled = set(cohort.labelled)
    absent = sorted(labelled.difference(predicted))
    scored = labelled.intersection(predicted)
    if not absent or not scored or scored in _parts(cohort):
        return
    typer.secho(
        f"note  {len(absent)} of {len(labelled)} labelled cases have no prediction and are not scored: "
        f"{first_names(absent)}",
        fg="yellow",
        err=True,
    )


def _parts(cohort: Cohort) -> list[set[str]]:
    """The parts of a cohort that are predicted by themselves: its test cases and the validation cases of each fold."""
    from volseg.errors import CohortError

    parts = [{row.key for row in cohort.rows.values() if row.test}]
    with suppress(CohortError):  # no folds
        parts += [set(fold.validation) for fold in cohort.folds()]
    return parts


def matched(
    predictions: Path, cohort: Cohort, regions: Sequence[str] = (), *, named: str | Path | None = None
) -> LabelMatch:
    """Pair the regions of a folder of predictions with those of a cohort, and tell what is left out.

    Args:
        predictions: Folder of the label maps.
        cohort: Cohort with the references.
        regions: Regions that the user named, each `NAME` or `NAME=OTHER`, also several with commas.
        named: Folder that the user named; `predictions` by default.

    Raises:
        UsageError: There is no such folder.
        LabelError: No region is shared.
    """
    from volseg.cohort import Predictions

    words = [word.strip() for text in regions for word in text.split(",") if word.strip()]
    match = Predictions.open(predictions).match(cohort, regions=words)
    for note in (*_of_folder(predictions, match), *match.notes):
        typer.secho(f"note  {named or predictions}: {note}", fg="yellow", err=True)
    return match
