"""`volseg review PREDICTIONS COHORT -o TODO`."""

from __future__ import annotations

from pathlib import Path

import typer

from volseg.cli.shared_options import folder_to_write


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg review data/predictions data/cohort -o data/todo --budget 10")(review)


def review(
    predictions: Path = typer.Argument(help="Folder of KEY.nii.gz, as `volseg predict` writes it."),
    cohort: Path = typer.Argument(help="Cohort of the cases; its labelled ones say what is usual."),
    output: Path = typer.Option(
        ..., "-o", "--output", help="New folder for the cases, todo.csv and worksheet.html.", callback=folder_to_write
    ),
    budget: int = typer.Option(10, min=1, help="Number of cases; one in five of them is drawn at random."),
    seed: int = typer.Option(0, help="Seed of the draw."),
    labelled: bool = typer.Option(False, "--labelled", help="Look at labelled cases too."),
    workers: int = typer.Option(2, min=1, help="Number of threads."),
) -> None:
    """Choose which cases to correct first, and write them out for 3D Slicer with a list and a page.

    First comes what teaches most for a mm of contour: a case whose prediction lacks much Dice and that many cases are
    like. It counts less the more of its like is labelled or in the list. Each region in turn, one day per patient.
    `volseg adopt` takes the folder back.
    """
    from volseg.cli.bar import bar, tell_failures
    from volseg.cohort import Cohort
    from volseg.deploy.corrections import review as choose

    opened = Cohort.open(cohort)
    with bar("review") as progress:
        todo, failed = choose(
            predictions, opened, output, budget=budget, seed=seed, labelled=labelled, workers=workers, progress=progress
        )
    for row in todo.rows:
        typer.echo(f"{row.rank:3}  {row.key}  {row.reason}")
    typer.echo(f"{output}: worksheet.html, todo.csv, and KEY/KEY.mrml, which opens a case in 3D Slicer")
    typer.echo(f"once they are corrected: volseg adopt {output} {cohort}")
    tell_failures(failed)
