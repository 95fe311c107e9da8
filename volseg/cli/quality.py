"""`volseg quality PREDICTIONS -o OUT`."""

from __future__ import annotations

from pathlib import Path

import typer

from volseg.cli.shared_options import folder_to_write
from volseg.errors import first_names


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg quality data/predictions --cohort data/cohort -o data/quality")(quality)


def quality(
    predictions: Path = typer.Argument(help="Folder of KEY.nii.gz."),
    output: Path = typer.Option(
        ..., "-o", "--output", help="Folder for quality.csv, quality.json and quality.md.", callback=folder_to_write
    ),
    cohort: Path | None = typer.Option(
        None, help="Labelled cohort that says what is usual; the predictions themselves by default."
    ),
    images: Path | None = typer.Option(None, help="Cohort with the images of the predicted cases; COHORT by default."),
    other: list[Path] = typer.Option(
        [], help="Further predictions of the same cases, to see where they disagree; may be repeated."
    ),
    title: str = typer.Option("Quality control without reference", help="Title of the page."),
    workers: int = typer.Option(2, min=1, help="Number of threads."),
) -> None:
    """Rank predictions without a reference: alarms first, then by the Dice that the network expects of itself."""
    from volseg.cli.bar import bar, tell_failures
    from volseg.cli.matching import matched, tell_others
    from volseg.cohort import Cohort, Predictions, read_labels
    from volseg.evaluation import rank
    from volseg.report import short_list, write_quality

    learnt = None if cohort is None else Cohort.open(cohort)
    match = None if learnt is None else matched(predictions, learnt)
    labels = read_labels(predictions, option="--cohort") if match is None else match.scored
    pictures = None if images is None else Cohort.open(images)
    tell_others(predictions, other, labels)
    if pictures is not None:
        keys = Predictions.open(predictions).keys()
        if absent := sorted(set(keys).difference(pictures.rows)):
            typer.secho(
                f"note  {images}: {len(absent)} of {len(keys)} cases have no image there, so their intensities are not "
                f"looked at: {first_names(absent)}",
                fg="yellow",
                err=True,
            )
    with bar("quality") as progress:
        ranked = rank(
            predictions, labels, cohort=learnt, images=pictures, others=other, workers=workers, progress=progress
        )
    details = {"predictions": str(predictions), "usual": str(cohort or "the predictions themselves")}
    if match is not None and match.notes:
        details["regions"] = "; ".join(match.notes)
    if other:
        details["further predictions"] = ", ".join(map(str, other))
    files = write_quality(ranked, output, title=title, details=details)
    typer.echo(short_list(ranked))
    typer.echo(f"wrote {', '.join(str(file) for file in files)}")
    tell_failures({case.key: case.error for case in ranked if case.error})
