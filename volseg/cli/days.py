"""`volseg days COHORT -o FOLDER`."""

from __future__ import annotations

from pathlib import Path

import typer

from volseg.cli.shared_options import folder_to_write


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg days data/cohort --bundle unet --minutes 20 -o data/days")(days)


def days(
    cohort: Path = typer.Argument(help="Cohort with several sessions per patient, and folds by patient."),
    output: Path = typer.Option(
        ..., "-o", "--output", help="Folder of runs, predictions, table.csv and days.md.", callback=folder_to_write
    ),
    bundle: str = typer.Option(..., help="Name in bundles/, or folder."),
    minutes: float = typer.Option(0.0, min=0, help="Minutes of each training; 0 for the bundle's own epochs."),
    epochs: int | None = typer.Option(None, min=1, help="Epochs of each training, in place of minutes."),
    adapt_minutes: float = typer.Option(3.0, help="Minutes of each adaptation."),
    adapt_steps: int | None = typer.Option(None, min=1, help="Steps of each adaptation, in place of minutes."),
    warm: bool = typer.Option(
        True, "--warm/--cold", help="Networks without and with a prior share the first half of their training."
    ),
    folds: str | None = typer.Option(None, metavar="N,N", help="Folds; all by default."),
    modes: str | None = typer.Option(None, metavar="NAME,NAME", help="Rows of the table; all by default."),
    seed: int = typer.Option(0, min=0, help="Seed of the trainings."),
    device: str | None = typer.Option(None, help="cpu, cuda, cuda:1, ...; the best by default."),
    apl_tolerance: float | None = typer.Option(
        None,
        min=0,
        help="Tolerance in mm of the added path length with tolerance; 3 by default, and a pixel where that is larger.",
    ),
    roi_voxels: int | None = typer.Option(None, min=1, help="Of the trainings: budget of voxels of a window."),
) -> None:
    """Measure what earlier days are worth: no prior, copied, aligned, deformed, prior, wrong prior, adapted, both.

    Patients are held out by fold, and day k is predicted from days before k alone. Run again to go on after a stop.
    """
    from volseg.cohort import Cohort
    from volseg.crossval import DaysSettings, default_modes, run_days
    from volseg.errors import UsageError

    words = [word.strip() for word in (folds or "").split(",") if word.strip()]
    if not all(word.isdigit() for word in words):
        raise UsageError(f"--folds must be numbers from 0, such as 0,1,2, got {folds}")
    settings = DaysSettings(
        Cohort.open(cohort),
        bundle,
        minutes=minutes or None,
        epochs=epochs,
        adapt_minutes=adapt_minutes,
        adapt_steps=adapt_steps,
        warm=warm,
        folds=tuple(map(int, words)),
        modes=tuple(word.strip() for word in modes.split(",")) if modes else default_modes(),
        seed=seed,
        overrides={} if roi_voxels is None else {"roi_voxels": roi_voxels},
        device=device,
        apl_tolerance_mm=apl_tolerance,
    )
    run_days(settings, output, told=typer.echo)
    typer.echo((output / "days.md").read_text(encoding="utf-8"))
    typer.echo(f"wrote {output / 'days.md'}, {output / 'days.html'}, {output / 'table.csv'}, {output / 'summary.json'}")
