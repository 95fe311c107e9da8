"""`volseg phantom RAW`."""

from __future__ import annotations

from pathlib import Path

import typer

from volseg.cli.shared_options import folder_to_write


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg phantom data/raw && volseg convert uw_madison data/raw data/cohort")(phantom)


def phantom(
    raw: Path = typer.Argument(help="New folder for slices and train.csv.", callback=folder_to_write),
    patients: int = typer.Option(14, min=1, help="Number of patients."),
    days: int = typer.Option(3, min=1, help="Number of treatment days per patient."),
    seed: int = typer.Option(0, help="Seed of the patients: another seed, other patients."),
    kind: str = typer.Option(
        "mild",
        "--kind-of-days",
        help="mild: days differ by filling and millimetres; real: as on an MR-Linac, by up to 60 mm, filling, moved "
        "loops and another grid, while contrast and the annotator's habits persist.",
    ),
    workers: int = typer.Option(2, min=1, help="Number of threads."),
) -> None:
    """Write a synthetic abdominal MR cohort in the UW-Madison layout."""
    from volseg.cli.bar import bar
    from volseg.datasets import write_phantom

    with bar("phantom") as progress:
        write_phantom(raw, patients=patients, days=days, seed=seed, kind=kind, workers=workers, progress=progress)
    typer.echo(f"wrote {patients * days} scans to {raw}; next: volseg convert uw_madison {raw} COHORT")
