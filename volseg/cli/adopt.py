"""`volseg adopt EDITS COHORT`."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from volseg.errors import UsageError, VolsegError

if TYPE_CHECKING:
    from volseg.deploy.corrections import Adopted, Adoption, Answers, OpenQuestionError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg adopt data/todo data/cohort")(adopt)


def adopt(
    paths: list[Path] = typer.Argument(
        metavar="EDITS COHORT", help="Folder or file of the edits, and the cohort; with --undo the cohort alone."
    ),
    case: str | None = typer.Option(None, help="Key of the case, if EDITS is one file; with --undo the only case."),
    predictions: Path | None = typer.Option(
        None, help="Predictions that the edits began from; those of `volseg review` are known."
    ),
    table: Path | None = typer.Option(None, help="Names of the values of label maps: .csv, .ctbl, ITK-SNAP, dseg.tsv."),
    values_as_in: Path | None = typer.Option(None, help="Cohort whose values the label maps have."),
    take: list[str] = typer.Option([], help="SEGMENT=REGION: the segment is this region; may be repeated."),
    drop: list[str] = typer.Option([], help="Segment that is left out; may be repeated."),
    missing: str = typer.Option("ask", help="What a region without a segment becomes: ask, keep or empty."),
    allow_empty: bool = typer.Option(False, "--allow-empty", help="Take a segmentation without any voxel."),
    flat: bool = typer.Option(False, "--flat", help="Take a label map, which holds no overlap, where there was some."),
    resample: bool = typer.Option(False, "--resample", help="Take the nearest voxels of one on another grid."),
    unchanged: bool = typer.Option(False, "--unchanged", help="Take those too that nobody changed: they are right."),
    minutes: float | None = typer.Option(None, min=0, help="Minutes that the case took, if EDITS is one file."),
    ignore_slices: str = typer.Option("", help="Slices that nobody looked at, from 1 on: 1-4,9; if EDITS is one file."),
    secret_file: Path | None = typer.Option(None, help="Secret of the keys of DICOM series, as at the conversion."),
    undo: bool = typer.Option(False, "--undo", help="Put back what the last adoption replaced."),
) -> None:
    """Take edited segmentations into a cohort, by name and place, and count what changed in corrections.csv.

    .seg.nrrd of 3D Slicer, label maps with names, DICOM SEG, RTSTRUCT, and the labels/final of MONAI Label. What was
    there before is kept, and --undo puts it back.
    """
    from volseg.cli.bar import bar, tell_failures
    from volseg.cohort import CORRECTIONS, Cohort
    from volseg.deploy import corrections
    from volseg.dicom import read_secret

    if len(paths) != (1 if undo else 2):
        raise UsageError(f"volseg adopt takes {'COHORT alone with --undo' if undo else 'EDITS and COHORT'}")
    cohort = Cohort.open(paths[-1])
    if undo:
        keys = corrections.undo(cohort, case=case)
        typer.echo(f"put back the former label of {len(keys)} cases: {', '.join(keys[:8])}")
        return
    answers = corrections.Answers.parse(
        take=take, drop=drop, missing=missing, empty=allow_empty, flat=flat, resample=resample
    )
    naming = corrections.Naming(
        table, None if values_as_in is None else Cohort.open(values_as_in).labels, read_secret(secret_file)
    )
    slices = parse_slices(ignore_slices)

    def work(
        answers: corrections.Answers, *, only: Collection[str] | None = None, round_number: int | None = None
    ) -> Adoption:
        with bar("adopt") as progress:
            return corrections.adopt(
                paths[0],
                cohort,
                answers=answers,
                naming=naming,
                case=case,
                unchanged=unchanged,
                minutes=minutes,
                ignore_slices=slices,
                predictions=predictions,
                only=only,
                round_number=round_number,
                progress=progress,
            )

    done = work(answers)
    answers_of: dict[str, corrections.Answers] = {}  # what is true of one case need not be of another
    while sys.stdin.isatty() and (asked := _asked(done.failed)) is not None:
        key = str(asked.case)
        try:
            answers_of[key] = _answered(answers_of.get(key, answers), asked, regions=cohort.labels.names)
        except typer.Abort:
            break
        again = work(answers_of[key], only=[key], round_number=done.round)
        done.adopted |= again.adopted
        done.failed = {
            name: again.failed.get(name, error) for name, error in done.failed.items() if name not in again.adopted
        }
        done.round = again.round or done.round
    _tell(done.adopted, done.unchanged)
    if any(one.changed for one in done.adopted.values()):
        typer.echo(f"{cohort.folder / CORRECTIONS} holds what changed; `volseg adopt --undo {paths[-1]}` puts it back")
    tell_failures({key: error.message for key, error in done.failed.items()})


def parse_slices(text: str) -> list[int]:
    """The numbers of slices such as `1-4,9`.

    Raises:
        UsageError: The text is no list of numbers.

    >>> parse_slices("1-3,9"), parse_slices("")
    ([1, 2, 3, 9], [])
    """
    found: list[int] = []
    for part in filter(None, (one.strip() for one in text.split(","))):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise UsageError(f"--ignore-slices must be numbers such as 1-4,9, got {text!r}")
        found += range(int(first), int(last or first) + 1)
    return found


def _tell(adopted: Mapping[str, Adopted], unchanged: tuple[str, ...]) -> None:
    for key, one in adopted.items():
        told = ", ".join(
            f"{row.region} {row.changed_ml:.3g} ml in {row.slices} slices, {row.added_path_mm:.0f} mm"
            for row in one.rows
            if row.voxels
        )
        typer.echo(f"{key}: {told or ('confirmed' if one.changed else one.notes[0])}")
        for note in one.notes if one.changed else ():
            typer.secho(f"note  {key}: {note}", fg="yellow", err=True)
    changed = sum(one.changed for one in adopted.values())
    total = sum(one.added_path_mm for one in adopted.values())
    left = f"; {len(unchanged)} of the list nobody changed (--unchanged takes them as right)" if unchanged else ""
    typer.echo(f"adopted {changed} cases, {total:.0f} mm drawn anew{left}")


def _asked(failed: Mapping[str, VolsegError]) -> OpenQuestionError | None:
    """The first open question."""
    from volseg.deploy.corrections import OpenQuestionError

    return next((error.of_case(key) for key, error in failed.items() if isinstance(error, OpenQuestionError)), None)


def _answered(answers: Answers, asked: OpenQuestionError, *, regions: Sequence[str]) -> Answers:
    """The answers for one case with those to one question, which a terminal gives.

    Raises:
        typer.Abort: There is to be no further question.
    """
    from dataclasses import replace

    typer.echo(str(asked))
    if not asked.extra:  # else one of these may be what is missing
        word = typer.prompt(f"{', '.join(asked.missing)}: keep, empty or stop", default="stop")
        if word not in ("keep", "empty"):
            raise typer.Abort
        return replace(answers, missing=word)
    name = asked.extra[0]
    region = typer.prompt(f"{name}: the region that it is, drop or stop", default="stop")
    while region not in (*regions, "drop", "stop"):
        region = typer.prompt(f"the cohort has no region {region}: {', '.join(regions)}, drop or stop", default="stop")
    if region == "stop":
        raise typer.Abort
    if region == "drop":
        return replace(answers, drop=(*answers.drop, name))
    return replace(answers, take={**answers.take, name: region})
