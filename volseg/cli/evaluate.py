"""`volseg evaluate PREDICTIONS COHORT -o REPORT`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from volseg.cli.answer import AsJson
from volseg.cli.shared_options import PARTS_OF_A_FOLD, FoldOfPart, RayAddress, ShardOfCases, fold_of, folder_to_write

if TYPE_CHECKING:
    from volseg.cohort import Bounds


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg evaluate data/predictions data/cohort --part validation -o data/report")(
        evaluate
    )


def evaluate(
    predictions: str = typer.Argument(help="Folder of KEY.nii.gz or KEY.seg.nrrd, or its URL."),
    cohort: str = typer.Argument(help="The cohort with the references, or its URL."),
    output: str = typer.Option(
        ...,
        "-o",
        "--output",
        help="Folder or URL of the report: cases.csv, summary.json, report.md and .html.",
        callback=folder_to_write,
    ),
    part: str | None = typer.Option(
        None, help="Part of the cohort whose cases must all have a prediction: labelled, training, validation or test."
    ),
    fold: FoldOfPart = None,
    regions: list[str] = typer.Option(
        [],
        metavar="NAME[=OTHER]",
        help="Score these regions of the cohort, which the predictions call OTHER; all that both have by default.",
    ),
    table: Path | None = typer.Option(
        None, help="What the values mean: colour table of 3D Slicer, labels of ITK-SNAP, dseg.tsv; found beside them."
    ),
    title: str = typer.Option("Segmentation report", help="Title of the report."),
    workers: int = typer.Option(
        2, min=0, help="Number of threads; with --journal or --shard of processes, with --ray of Ray workers."
    ),
    ray: RayAddress = None,
    shard: ShardOfCases = None,
    journal: Path | None = typer.Option(
        None, help="File that gets a line per case; OUTPUT/.volseg/evaluate.jsonl by default with --ray or --shard."
    ),
    tolerance_mm: float = typer.Option(3.0, min=0, help="Tolerance of surface Dice and of slices to correct, in mm."),
    hd_reading: str = typer.Option(
        "directed", help="Definition of HD95: directed (as MONAI), pooled (as medpy) or surfel (as surface-distance)."
    ),
    minutes_per_metre: float = typer.Option(2.0, min=0, help="Minutes to draw a metre of contour by hand."),
    apl_tolerance: float | None = typer.Option(
        None,
        min=0,
        help="Tolerance in mm of the added path length with tolerance; 3 by default, and a pixel where that is larger.",
    ),
    objects: bool | None = typer.Option(
        None, help="Count and match objects and holes: cells, lesions. By default where the cohort tells objects apart."
    ),
    html: bool = typer.Option(True, help="Write report.html too: figures, pictures and a 3D viewer."),
    as_json: bool = AsJson,
) -> None:
    """Score predictions against references: overlap, surface distances, volumes, effort; intervals by patient.

    Regions are paired by name, then by code; the order, the values and the spelling in the two dataset.json may differ.
    """
    from volseg.cli.answer import answer, print_answer
    from volseg.cli.bar import bar, tell_failures
    from volseg.cli.imported import imported_predictions
    from volseg.cli.matching import matched, tell_absent
    from volseg.cli.place import check_order, check_report_folder, fetched
    from volseg.cohort import EVALUATE_BYTES, Cohort, Predictions, affordable_threads
    from volseg.evaluation import EvaluationSettings, with_bounds
    from volseg.evaluation import evaluate as score
    from volseg.inference import available_bytes
    from volseg.jobs import WorkerOptions, evaluate_cases
    from volseg.remote import check_apart, is_url, writing
    from volseg.report import remove_html, short_promises, short_table, summarise, write_report

    worker_options = WorkerOptions.parse(workers=workers, ray=ray, shard=shard, journal=journal)
    number = fold_of(part, fold)
    check_apart(cohort, output)
    if not is_url(output):
        check_report_folder(Path(output))
    references, predicted = fetched(cohort), fetched(predictions)
    check_order(predicted, references, "PREDICTIONS COHORT")
    opened = Cohort.open(references)
    method = EvaluationSettings(
        tolerance_mm=tolerance_mm,
        reading=cast("Any", hd_reading),
        minutes_per_metre=minutes_per_metre,
        apl_tolerance_mm=apl_tolerance,
        objects=opened.has_instances if objects is None else objects,
        instances=opened.has_instances,
    )
    with imported_predictions(predicted, opened, table=table) as (scored, failed):
        match = matched(scored, opened, regions, named=predictions)
        promised = _bounds(scored)
        method = replace(
            method,
            margins=any(one.margin_mm is not None for case in promised.values() for one in case.values()),
        )
        keys = None if part is None else opened.some_part(part, fold=number)
        if failed and keys is None:
            keys = tuple(sorted({*Predictions(scored).keys(), *failed}))
        if part is None:
            tell_absent(keys or Predictions(scored).keys(), opened)
        details = {"predictions": predictions, "cohort": cohort}
        if match.notes:
            details["regions"] = "; ".join(match.notes)
        if part:
            details["part"] = f"{part}, fold {number}" if part in PARTS_OF_A_FOLD else part
        if opened.flat:
            details["volumes"] = (
                "of single slices; where these are 1 mm thick, as images are, 0.001 ml is 1 mm2 of area"
            )
        with writing(output, apart=shard or "") as place:
            with bar("evaluate") as progress:
                if ray or shard or journal:
                    told = place.watched(progress)
                    rows = evaluate_cases(
                        scored,
                        opened,
                        place.folder,
                        worker_options=worker_options,
                        keys=keys,
                        method=method,
                        match=match,
                        progress=told,
                    )
                else:
                    there = tuple(opened.rows.keys() & set(keys or Predictions(scored).keys()))
                    threads = affordable_threads(
                        opened, workers, bytes_per_voxel=EVALUATE_BYTES, available=available_bytes(), keys=there
                    )
                    if threads.note:
                        typer.secho(f"note  {threads.note}", fg="yellow", err=True)
                    rows = score(
                        scored,
                        opened,
                        keys=keys,
                        workers=threads.count,
                        progress=progress,
                        method=method,
                        match=match,
                        too_large=threads.too_large,
                    )
            rows = [replace(row, error=failed[row.key]) if row.error and row.key in failed else row for row in rows]
            rows = with_bounds(rows, promised, pairs=match.pairs)
            summary = summarise(rows)  # once, since its intervals take seconds where cases and regions are many
            files = write_report(rows, place.folder, title=title, details=details, method=method, summary=summary)
            if not html:
                remove_html(place.folder)
            else:
                from volseg.report import write_html

                with bar("draw") as progress:
                    files.append(
                        write_html(
                            rows,
                            place.folder,
                            cohort=opened,
                            predictions=scored,
                            title=title,
                            details={**details, **method.details},
                            match=match,
                            progress=progress,
                            summary=summary,
                        )
                    )
    errors = {row.key: row.error for row in rows if row.error}
    written = [f"{output.rstrip('/')}/{file.name}" for file in files]
    if as_json:
        content = json.loads(next(file for file in files if file.name == "summary.json").read_text(encoding="utf-8"))
        print_answer(answer("evaluate", {"files": written, "summary": content}, failed=errors))
    else:
        typer.echo(short_table(summary))
        if kept := short_promises(rows):
            typer.echo(kept)
        typer.echo(f"wrote {', '.join(written)}")
    tell_failures(errors)


def _bounds(predictions: Path) -> dict[str, Bounds]:
    """The bounds that the predictions came with; a table of another program is told of and left."""
    from volseg.cohort import read_bounds
    from volseg.errors import UsageError

    try:
        return dict(read_bounds(predictions))
    except UsageError as error:
        typer.secho(f"note  {error.message}", fg="yellow", err=True)
        return {}
