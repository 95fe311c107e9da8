"""The regions that predictions share with a cohort, with a word to the user where they are not the same."""

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
        predictions: folder of the label maps.
        cohort: holds the references.
        regions: what the user named, each `NAME` or `NAME=OTHER`, also several with commas.

    Raises:
        UsageError: no such folder.
        LabelError: no region is shared.
    """
    from volseg.cohort import Predictions

    words = [word.strip() for text in regions for word in text.split(",") if word.strip()]
    match = Predictions.open(predictions).match(cohort, regions=words)
    for note in match.notes:
        typer.secho(f"note  {predictions}: {note}", fg="yellow", err=True)
    return match
