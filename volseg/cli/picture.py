"""`volseg picture COHORT CASE -o OUT` and `volseg animate RUN -o OUT`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import typer


class Style(str, Enum):
    """What a picture shows."""

    panels = "panels"
    overlay = "overlay"
    montage = "montage"


class Plane(str, Enum):
    """Which slices are shown."""

    axial = "axial"
    coronal = "coronal"
    sagittal = "sagittal"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="Example: volseg picture data/cohort case101_day0 --predictions data/predictions -o case101.png"
    )(picture)
    app.command(epilog="Example: volseg animate data/runs/swinunetr -o training.webp")(animate)


def picture(
    cohort: Path = typer.Argument(help="A cohort folder."),
    case: str = typer.Argument(help="Key of the case."),
    output: Path = typer.Option(..., "-o", "--output", help="OUT.png; .gif or .webp walk through the slices."),
    predictions: Path | None = typer.Option(None, help="Folder of KEY.nii.gz."),
    style: Style = typer.Option(
        Style.panels, help="panels side by side, overlay (with the differences) or montage of slices."
    ),
    plane: Plane = typer.Option(Plane.axial, help="Direction of the slices."),
    slice_number: int | None = typer.Option(
        None,
        "--slice",
        min=1,
        help="Number of the slice, from 1 in the order of the file; the fullest by default.",
    ),
    channel: int | None = typer.Option(
        None, min=0, help="Channel of the image, from 0; by default the first, or all three colours."
    ),
    scale: int | None = typer.Option(None, min=1, help="Number of pixels per voxel; a handy size by default."),
) -> None:
    """Draw a case as a radiologist sees it: image, reference, prediction, contours, differences."""
    from volseg.cohort import Cohort
    from volseg.pictures import illustrate, read_case_view

    case_view = read_case_view(Cohort.open(cohort), case, predictions=predictions, plane=plane.value, channel=channel)
    illustrate(case_view, output, style=style.value, number=slice_number, scale=scale)
    typer.echo(f"wrote {output}")


def animate(
    run: Path = typer.Argument(help="Output folder of a training run."),
    output: Path = typer.Option(..., "-o", "--output", help="OUT.webp or OUT.gif."),
) -> None:
    """Join the pictures of one case through training, with its Dice curve, to an animation."""
    from volseg.pictures import animate_training

    count = animate_training(run, output)
    typer.echo(f"wrote {output}: {count} pictures")
