"""`volseg check COHORT`."""

from __future__ import annotations

import typer

from volseg.cli.answer import AsJson


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg check data/cohort")(check)


def check(
    cohort: str = typer.Argument(help="A cohort folder, of volseg or of nnU-Net; or its URL."),
    workers: int = typer.Option(2, min=1, help="Number of threads."),
    strict: bool = typer.Option(False, help="End with exit code 1 if there is a warning, for pipelines."),
    as_json: bool = AsJson,
) -> None:
    """Read every file of a cohort: grids, orientations, NaN, label values, folds.

    What is wrong ends with exit code 1; a warning does so with --strict.
    """
    from volseg.cli.answer import answer, print_answer
    from volseg.cli.bar import bar, tell_failures
    from volseg.cli.place import fetched
    from volseg.cohort import CHECK_BYTES, Cohort, affordable_threads, inspect_cohort
    from volseg.inference import available_bytes

    opened = Cohort.open(fetched(cohort))
    threads = affordable_threads(
        opened, workers, bytes_per_voxel=CHECK_BYTES * opened.channels, available=available_bytes()
    )
    if threads.note:
        typer.secho(f"note  {threads.note}", fg="yellow", err=True)
    with bar("check") as progress:
        report = inspect_cohort(opened, workers=threads.count, progress=progress, too_large=threads.too_large)
    failing = bool(report.failed or report.wrong or (strict and report.warnings))
    if as_json:
        facts = {**report.facts, "warnings": list(report.warnings), "wrong": list(report.wrong)}
        print_answer(answer("check", facts, failed=report.failed, exit_code=int(failing)))
    else:
        typer.echo(report.text)
    for reason in report.wrong:
        typer.secho(f"failed  {reason}", fg="red", err=True)
    tell_failures(report.failed)
    if report.wrong:
        raise typer.Exit(1)
    if strict and report.warnings:
        count = len(report.warnings)
        typer.secho(f"failed  {count} warning{'s' * (count > 1)}, and --strict allows none", fg="red", err=True)
        raise typer.Exit(1)
