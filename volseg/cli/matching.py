"""The regions that predictions share with a cohort, and a note to the user if they are not the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from volseg.cohort import Cohort
    from volseg.labels import LabelMatch


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
    for note in match.notes:
        typer.secho(f"note  {predictions}: {note}", fg="yellow", err=True)
    return match
