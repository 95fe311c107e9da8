"""`volseg convert KIND RAW COHORT`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import typer

from volseg.errors import UsageError


class Kind(str, Enum):
    """The raw layouts that volseg reads."""

    uw_madison = "uw_madison"
    decathlon = "decathlon"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg convert uw_madison data/uw-madison data/cohort --case case123")(convert)


def convert(
    kind: Kind = typer.Argument(help="uw_madison (slices and RLE) or decathlon (also nnU-Net raw folders)."),
    raw: Path = typer.Argument(help="The raw folder; it is only read."),
    cohort: Path = typer.Argument(help="The cohort folder to write, or to go on with."),
    case: list[str] = typer.Option([], help="Only this patient or case; may be repeated (uw_madison)."),
    thickness_mm: float = typer.Option(3.0, help="Distance between slices (uw_madison)."),
    folds: int = typer.Option(5, min=2, help="Folds of splits.json, grouped by patient."),
    seed: int = typer.Option(0, help="Seed of the split."),
    workers: int = typer.Option(2, min=1, help="Threads."),
) -> None:
    """Stack raw slices or volumes into a cohort folder of NIfTI volumes. Run again to go on after a stop."""
    from volseg.case import Source
    from volseg.cli.bar import bar, tell_failures
    from volseg.conversion import write_cohort
    from volseg.sources.decathlon import Decathlon
    from volseg.sources.uw_madison import UwMadison

    source: Source
    if kind is Kind.uw_madison:
        source = UwMadison(raw, cases=case or None, thickness_mm=thickness_mm)
    elif case:
        raise UsageError("--case selects from uw_madison folders; a decathlon folder is converted whole")
    else:
        source = Decathlon(raw)
    with bar("convert") as progress:
        done = write_cohort(source, cohort, workers=workers, folds=folds, seed=seed, progress=progress)
    typer.echo(
        f"{cohort}: {len(done.written)} written, {len(done.finished_before)} finished before, {len(done.failed)} failed"
    )
    tell_failures(done.failed)
