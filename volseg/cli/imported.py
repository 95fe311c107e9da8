"""Predictions in the form of other programs, imported before a command reads them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from volseg.errors import first_names

if TYPE_CHECKING:
    from volseg.cohort import Cohort


@contextmanager
def imported_predictions(
    predictions: Path, cohort: Cohort, *, table: Path | None = None
) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """Give a folder of predictions in the cohort's form, and the error of each case that could not be imported.

    A folder that is in this form is given as it is. One that holds `.seg.nrrd` files, or label maps with names of their
    own, becomes a folder that lasts as long as the block.

    Args:
        predictions: Folder that the user named.
        cohort: Whose regions and grids count.
        table: Table of names that the user named; see `volseg.formats.read_table_names`.
    """
    if table is None and _of_volseg(predictions):  # without the readers of other formats, which take time to import
        yield predictions, {}
        return
    from volseg.formats import import_predictions, needs_import

    if table is None and not needs_import(predictions):
        yield predictions, {}
        return
    with tempfile.TemporaryDirectory(prefix="volseg-") as place:
        done = import_predictions(predictions, cohort, Path(place), table=table)
        for key, notes in done.notes.items():
            for note in notes:
                typer.secho(f"note  {key}: {note}", fg="yellow", err=True)
        if done.unknown:
            told = f"its files hold {first_names(done.unknown)} too, of which the cohort has no region; left out"
            typer.secho(f"note  {predictions}: {told}", fg="yellow", err=True)
        yield done.folder, done.failed


def _of_volseg(folder: Path) -> bool:
    """Whether a folder has a dataset.json and label maps beside it."""
    from volseg.cohort import Predictions

    return (folder / "dataset.json").is_file() and bool(Predictions(folder).keys())
