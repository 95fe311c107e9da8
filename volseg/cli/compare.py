"""`volseg compare COHORT PREDICTIONS PREDICTIONS … -o OUT`."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg compare data/cohort data/predictions_a data/predictions_b -o data/comparison")(
        compare
    )


def compare(
    cohort: Path = typer.Argument(help="The cohort with the references."),
    predictions: list[Path] = typer.Argument(help="Two or more folders of KEY.nii.gz."),
    output: Path = typer.Option(..., "-o", "--output", help="Folder for comparison.csv, .json, .md and .svg."),
    metric: str = typer.Option("dice", help="What is compared: dice, hd95_mm, ..."),
    tolerance: float | None = typer.Option(
        None, min=0, help="Differences that are ties; 0.005 of Dice and 0.5 mm of HD95 by default."
    ),
    title: str = typer.Option("Comparison of predictions", help="Title of the page."),
    workers: int = typer.Option(2, min=1, help="Threads."),
) -> None:
    """Compare prediction sets on the cases they share: paired differences, intervals by patient, Wilcoxon with Holm."""
    from volseg.cli.bar import bar, tell_failures
    from volseg.cohort import Cohort
    from volseg.comparison import compare as contrast
    from volseg.comparison import set_names
    from volseg.evaluation import check_labels, evaluate
    from volseg.report.comparison import short_comparison, write_comparison

    opened = Cohort.open(cohort)
    names = set_names(predictions)
    rows = {}
    for name, folder in zip(names, predictions, strict=True):
        check_labels(folder, opened)
        with bar(name) as progress:
            rows[name] = evaluate(folder, opened, workers=workers, progress=progress)
    comparison = contrast(rows, metric=metric, tolerance=tolerance)
    details = {"cohort": str(cohort), **{name: str(path) for name, path in zip(names, predictions, strict=True)}}
    files = write_comparison(comparison, output, title=title, details=details)
    typer.echo(short_comparison(comparison))
    for key, without in comparison.not_shared.items():
        typer.secho(f"left out  {key}: no prediction in {', '.join(without)}", fg="yellow", err=True)
    typer.echo(f"wrote {', '.join(str(file) for file in files)}")
    tell_failures(comparison.failed)
