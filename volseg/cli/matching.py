"""The regions that predictions share with a cohort, and a note to the user if they are not the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from volseg.errors import first_names

if TYPE_CHECKING:
    from volseg.cohort import Cohort
    from volseg.labels import LabelMatch


def _of_folder(predictions: Path, match: LabelMatch) -> list[str]:
    """What is doubtful about a folder of predictions that another program may have written."""
    from volseg.cohort import FILE_ENDING, Predictions

    notes = []
    if others := Predictions(predictions).other_files():
        notes.append(
            f"files of other endings than {FILE_ENDING} are left out, {len(others)} in all: {first_names(others)}"
        )
    if not (predictions / "dataset.json").is_file() and any(predictions.glob(f"*{FILE_ENDING}")):
        regions = match.reference.regions[:8]
        meant = ", ".join(f"{'/'.join(map(str, region.values))} {region.name}" for region in regions)
        notes.append(f"no dataset.json says what the values mean, so they are taken as the cohort has them: {meant}")
    return notes


def matched(predictions: Path, cohort: Cohort, regions: Sequence[str] = ()) -> LabelMatch:
    """Pair the regions of a folder of predictions with those of a cohort, and tell what is left out.

    Args:
        predictions: Folder of the label maps.
        cohort: Cohort with the references.
        regions: Regions that the user named, each `NAME` or `NAME=OTHER`, also several with commas.

    Raises:
        UsageError: There is no such folder.
        LabelError: No region is shared.
    """
    from volseg.cohort import Predictions

    words = [word.strip() for text in regions for word in text.split(",") if word.strip()]
    match = Predictions.open(predictions).match(cohort, regions=words)
    for note in (*_of_folder(predictions, match), *match.notes):
        typer.secho(f"note  {predictions}: {note}", fg="yellow", err=True)
    return match
