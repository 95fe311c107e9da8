"""`volseg evaluate PREDICTIONS COHORT -o REPORT`."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg evaluate data/predictions data/cohort --part validation -o data/report")(
        evaluate
    )


def evaluate(
    predictions: Path = typer.Argument(help="Folder of KEY.nii.gz."),
    cohort: Path = typer.Argument(help="The cohort with the references."),
    output: Path = typer.Option(..., "-o", "--output", help="Folder for cases.csv, summary.json and report.md."),
    part: str | None = typer.Option(None, help="Expect a prediction of each case of labelled, training or validation."),
    fold: int = typer.Option(0, min=0, help="Which fold the part is of."),
    title: str = typer.Option("Segmentation report", help="Title of the report."),
    workers: int = typer.Option(2, min=1, help="Threads."),
) -> None:
    """Score predictions against references: Dice, HD95 in mm, volumes, with intervals by patient."""
    from volseg.cli.bar import bar, tell_failures
    from volseg.cohort import Cohort
    from volseg.evaluation import check_labels
    from volseg.evaluation import evaluate as score
    from volseg.report import short_table, summarise, write_report

    opened = Cohort.open(cohort)
    check_labels(predictions, opened)
    keys = None if part is None else opened.part(part, fold=fold)
    with bar("evaluate") as progress:
        rows = score(predictions, opened, keys=keys, workers=workers, progress=progress)
    details = {"predictions": str(predictions), "cohort": str(cohort)}
    if part:
        details["part"] = f"{part}, fold {fold}"
    files = write_report(rows, output, title=title, details=details)
    typer.echo(short_table(summarise(rows)))
    typer.echo(f"wrote {', '.join(str(file) for file in files)}")
    tell_failures({row.key: row.error for row in rows if row.error})
