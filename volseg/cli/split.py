"""`volseg split COHORT`."""

from __future__ import annotations

from pathlib import Path

import typer

from volseg.cli.shared_options import PatientPattern


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg split data/cohort --folds 5 --seed 1")(split)


def split(
    cohort: Path = typer.Argument(help="A cohort folder."),
    folds: int = typer.Option(5, min=2, help="Number of folds."),
    seed: int = typer.Option(0, help="Seed of the folds: another seed, other folds."),
    patient_pattern: PatientPattern = None,
    suspects: bool = typer.Option(False, help="Keep the cases marked as suspect in the folds."),
) -> None:
    """Write splits.json: each case is validated once, and no patient stands on both sides."""
    from volseg.cohort import (
        Cohort,
        patients_note,
        split_by_patient,
        tested_patients_note,
        with_patients,
        write_patients,
        write_splits,
    )

    there = Cohort.open(cohort)
    opened = with_patients(there, patient_pattern) if patient_pattern else there
    rows = [row for row in opened.rows.values() if row.key in opened.labelled]
    result = split_by_patient(rows, folds=folds, seed=seed, suspects=suspects)
    if patient_pattern:  # once the folds are known, so that a pattern that gives none leaves the table as it is
        write_patients(there, patient_pattern)
    write_splits(cohort, result)
    for note in filter(None, [patients_note(rows), tested_patients_note(rows, result)]):
        typer.secho(f"warning: {note}", fg="yellow", err=True)
    for number, fold in enumerate(result):
        typer.echo(f"fold {number}: {len(fold.training)} training, {len(fold.validation)} validation")
