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
    dicom = "dicom"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg convert uw_madison data/uw-madison data/cohort --case case123")(convert)


def convert(
    kind: Kind = typer.Argument(help="uw_madison (slices and RLE), decathlon (also nnU-Net raw) or dicom."),
    raw: Path = typer.Argument(help="The raw folder; it is only read."),
    cohort: Path = typer.Argument(help="The cohort folder to write, or to go on with."),
    case: list[str] = typer.Option([], help="Only this patient or case; may be repeated (uw_madison)."),
    thickness_mm: float = typer.Option(3.0, help="Distance between slices (uw_madison)."),
    modality: str | None = typer.Option(None, help="Only CT, MR, PT series (dicom)."),
    series: str | None = typer.Option(None, help="Only series whose description matches this expression (dicom)."),
    labels: list[str] = typer.Option([], help="NAME or PATTERN=NAME,...: the regions to take, renamed (dicom)."),
    key: str = typer.Option("{patient}_{series}", help="Pattern of the case keys (dicom)."),
    keep_ids: bool = typer.Option(False, "--keep-ids", help="Write patient IDs and file names to tables (dicom)."),
    secret_file: Path | None = typer.Option(None, help="A file whose text keys the words for patients (dicom)."),
    folds: int = typer.Option(5, min=2, help="Folds of splits.json, grouped by patient."),
    seed: int = typer.Option(0, help="Seed of the split."),
    workers: int = typer.Option(2, min=0, help="Threads; processes with --journal or --shard, of Ray with --ray."),
    ray: str | None = typer.Option(None, help="Address of a Ray cluster, or auto; --workers 0 fills it."),
    shard: str | None = typer.Option(None, help="I/N: only the I-th of N fixed shares of the cases, from 0."),
    journal: Path | None = typer.Option(
        None, help="A line a case; COHORT/.volseg/convert.jsonl with --ray or --shard."
    ),
) -> None:
    """Stack raw slices or volumes into a cohort folder of NIfTI volumes. Run again to go on after a stop."""
    from volseg.case import Source
    from volseg.cli.bar import bar, tell_failures
    from volseg.conversion import write_cohort
    from volseg.fleet.converting import convert_cases
    from volseg.fleet.team import Team
    from volseg.sources.decathlon import Decathlon
    from volseg.sources.uw_madison import UwMadison

    source: Source
    if kind is not Kind.dicom and (modality or series or labels or keep_ids or secret_file):
        raise UsageError("--modality, --series, --labels, --keep-ids and --secret-file are for dicom folders")
    if kind is Kind.uw_madison:
        source = UwMadison(raw, cases=case or None, thickness_mm=thickness_mm)
    elif case:
        raise UsageError(f"--case selects from uw_madison folders; a {kind.value} folder is converted whole")
    elif kind is Kind.dicom:
        from volseg.sources.dicom import Dicom
        from volseg.sources.dicom_identity import read_secret

        secret = read_secret(secret_file)
        source = Dicom(raw, modality=modality, series=series, labels=labels, key=key, keep_ids=keep_ids, secret=secret)
    else:
        source = Decathlon(raw)
    team = Team.parse(workers=workers, ray=ray, shard=shard, journal=journal)
    with bar("convert") as progress:
        if ray or shard or journal:
            done = convert_cases(source, cohort, team=team, folds=folds, seed=seed, progress=progress)
        else:
            done = write_cohort(source, cohort, workers=workers, folds=folds, seed=seed, progress=progress)
    typer.echo(
        f"{cohort}: {len(done.written)} written, {len(done.finished_before)} finished before, {len(done.failed)} failed"
    )
    tell_failures(done.failed)
