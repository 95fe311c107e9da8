"""`volseg compare COHORT PREDICTIONS PREDICTIONS … -o OUT`, and `volseg compare RUN RUN … -o OUT`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from volseg.cli.shared_options import folder_to_write
from volseg.errors import UsageError

if TYPE_CHECKING:
    from volseg.evaluation import Comparison

_FEWEST_SETS = 2


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg compare data/cohort data/predictions_a data/predictions_b -o data/comparison")(
        compare
    )


def compare(
    paths: list[Path] = typer.Argument(
        metavar="COHORT PREDICTIONS... | RUN...",
        help="The cohort with the references and two or more folders of KEY.nii.gz; or folders of training runs.",
    ),
    output: Path = typer.Option(
        ..., "-o", "--output", help="Folder for comparison.csv, .json, .md and .svg.", callback=folder_to_write
    ),
    metric: str = typer.Option("dice", help="Metric that is compared, as a column of cases.csv: dice, hd95_mm, ..."),
    tolerance: float | None = typer.Option(
        None, min=0, help="Differences that are ties; 0.005 of Dice and 0.5 mm of HD95 by default."
    ),
    regions: list[str] = typer.Option(
        [],
        metavar="NAME[=OTHER]",
        help="Compare these regions of the cohort, which predictions call OTHER; all that everyone has by default.",
    ),
    corrections: Path | None = typer.Option(
        None, help="Cohort that was corrected: adds rounds.html, Dice against mm redrawn, one network per round."
    ),
    rounds: str = typer.Option(
        "", help="Round of `volseg adopt` that each set learnt from, with --corrections: 0,1,2,... by default."
    ),
    title: str | None = typer.Option(None, help="Title of the page."),
    workers: int = typer.Option(2, min=1, help="Number of threads."),
) -> None:
    """Compare prediction sets, or training runs, on the cases they share.

    Paired differences, intervals by patient, Wilcoxon with Holm. Of training runs the Dice of the best validation is
    compared, and their size, speed and memory go into runs.md.
    """
    from volseg.report import is_run

    if rounds and corrections is None:
        raise UsageError("--rounds says when each set learnt from corrections; give --corrections COHORT too")
    if any(map(is_run, paths)):
        if corrections is not None:
            raise UsageError("--corrections needs predictions of fixed test cases; predict with each run, name those")
        if regions:
            raise UsageError(
                "--regions chooses regions of predictions; training runs are compared in all of theirs, leave it out"
            )
        _compare_runs(paths, output, metric=metric, tolerance=tolerance, title=title or "Comparison of training runs")
    else:
        cohort, *predictions = paths
        if len(predictions) < _FEWEST_SETS:
            if absent := [path for path in paths if not path.exists()]:
                raise UsageError(f"there is no folder {absent[0]}; name training runs, or a cohort and predictions")
            raise UsageError(
                f"PREDICTIONS must be two folders or more, after the cohort, got {len(predictions)}; to compare "
                "training runs, name their folders"
            )
        title = title or "Comparison of predictions"
        _compare_predictions(
            *(cohort, predictions, output),
            metric=metric,
            tolerance=tolerance,
            regions=regions,
            title=title,
            workers=workers,
            corrections=corrections,
            rounds=rounds,
        )


def _compare_runs(paths: list[Path], output: Path, *, metric: str, tolerance: float | None, title: str) -> None:
    from volseg.evaluation import compare as contrast
    from volseg.evaluation import set_names
    from volseg.report import accuracy_table, check_alike, read_run, short_comparison, write_runs

    if metric != "dice":
        raise UsageError(f"--metric {metric}: a training run knows Dice alone; predict with both and compare those")
    runs = {name: read_run(path) for name, path in zip(set_names(paths), paths, strict=True)}
    check_alike(runs)
    comparison = None
    if len(runs) > 1:
        comparison = contrast({name: run.rows for name, run in runs.items()}, tolerance=tolerance)
    files = write_runs(runs, comparison, output, title=title)
    typer.echo("\n".join(accuracy_table(runs)))
    if comparison is not None:
        typer.echo(f"\n{short_comparison(comparison)}")
    typer.echo(f"wrote {', '.join(str(file) for file in files)}")


def _compare_predictions(
    cohort: Path,
    predictions: list[Path],
    output: Path,
    *,
    metric: str,
    tolerance: float | None,
    regions: list[str],
    title: str,
    workers: int,
    corrections: Path | None,
    rounds: str,
) -> None:
    from volseg.cli.bar import bar, tell_failures
    from volseg.cli.imported import imported_predictions
    from volseg.cli.matching import matched, tell_absent
    from volseg.cli.place import check_order
    from volseg.cohort import EVALUATE_BYTES, Cohort, Predictions, affordable_threads
    from volseg.errors import LabelError
    from volseg.evaluation import compare as contrast
    from volseg.evaluation import evaluate, set_names, settings_for
    from volseg.inference import available_bytes
    from volseg.report import short_comparison, write_comparison

    for folder in predictions:
        check_order(folder, cohort, "COHORT PREDICTIONS...")
    opened = Cohort.open(cohort)
    method = settings_for(metric, instances=opened.has_instances)
    names = set_names(predictions)
    if corrections is not None:
        _numbers(rounds, corrections, len(names))  # before the work
        if metric != "dice":
            raise UsageError(f"--corrections shows Dice against mm redrawn; leave --metric {metric} out")
    with ExitStack() as stack:
        folders = {
            name: stack.enter_context(imported_predictions(folder, opened))
            for name, folder in zip(names, predictions, strict=True)
        }
        matches = {
            name: matched(folders[name][0], opened, regions, named=folder)
            for name, folder in zip(names, predictions, strict=True)
        }
        shared = [region for region in opened.labels.names if all(region in match.names for match in matches.values())]
        if not shared:
            raise LabelError(
                f"{', '.join(names)} have no region of the cohort in common; compare sets of the same regions"
            )
        keys = {
            name: sorted({*(failed or Predictions(folder).some_keys()), *Predictions(folder).keys()})
            for name, (folder, failed) in folders.items()
        }
        there = {key for of_set in keys.values() for key in of_set}
        tell_absent(there, opened)
        threads = affordable_threads(
            opened,
            workers,
            bytes_per_voxel=EVALUATE_BYTES,
            available=available_bytes(),
            keys=tuple(opened.rows.keys() & there),
        )
        if threads.note:
            typer.secho(f"note  {threads.note}", fg="yellow", err=True)
        rows = {}
        for name, (folder, failed) in folders.items():
            with bar(name) as progress:
                found = evaluate(
                    folder,
                    opened,
                    keys=keys[name],
                    workers=threads.count,
                    progress=progress,
                    method=method,
                    match=matches[name].only(shared),
                    too_large=threads.too_large,
                )
            rows[name] = [replace(row, error=failed[row.key]) if row.key in failed else row for row in found]
    comparison = contrast(rows, metric=metric, tolerance=tolerance)
    details = {"cohort": str(cohort), **{name: str(path) for name, path in zip(names, predictions, strict=True)}}
    notes = [f"{name}: {note}" for name, match in matches.items() for note in match.notes]
    if notes:
        details["regions"] = "; ".join(notes)
    files = write_comparison(comparison, output, title=title, details=details)
    if corrections is None:
        for name in ("rounds.html", "rounds.csv"):  # an earlier comparison's would be taken for a part of this one
            (output / name).unlink(missing_ok=True)
    else:
        files += _write_rounds(comparison, corrections, output, rounds=rounds, title=title, details=details)
    typer.echo(short_comparison(comparison))
    for key, without in comparison.not_shared.items():
        typer.secho(f"left out  {key}: no prediction in {', '.join(without)}", fg="yellow", err=True)
    typer.echo(f"wrote {', '.join(str(file) for file in files)}")
    tell_failures(comparison.failed)


def _numbers(rounds: str, corrections: Path, count: int) -> list[int]:
    """The round that each set learnt from."""
    from volseg.cohort import Cohort, read_corrections

    there = sorted({row.round for row in read_corrections(Cohort.open(corrections).folder)})
    if not there:
        raise UsageError(f"{corrections} has no corrections; take edits in with `volseg adopt`")
    if not rounds:
        numbers = [0, *there]
        if count > len(numbers):
            raise UsageError(
                f"{corrections} has {len(there)} rounds, and {count} sets are compared; say which round each learnt "
                "from with --rounds, such as 0,1,1"
            )
        return numbers[:count]
    words = [word.strip() for word in rounds.split(",")]
    if len(words) != count or not all(word.isdigit() and int(word) in (0, *there) for word in words):
        told = ", ".join(map(str, there))
        raise UsageError(f"--rounds must be {count} of the numbers 0, {told}, one per set, got {rounds!r}")
    return [int(word) for word in words]


def _write_rounds(
    comparison: Comparison, corrections: Path, output: Path, *, rounds: str, title: str, details: Mapping[str, str]
) -> list[Path]:
    """The page over the rounds."""
    from volseg.cohort import read_corrections
    from volseg.report import RoundCurve, round_point, write_rounds

    rows = read_corrections(corrections)
    points = []
    for name, number in zip(comparison.sets, _numbers(rounds, corrections, len(comparison.sets)), strict=True):
        dice = {
            (key, region): comparison.values.get((name, key, region))
            for key in comparison.patients
            for region in comparison.regions
        }
        points.append(round_point(name, number, rows, dice, comparison.patients))
    details = {**details, "corrections": str(corrections)}
    return write_rounds([RoundCurve("corrections", tuple(points))], output, title=title, details=details)
