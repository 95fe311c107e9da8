"""`volseg compare COHORT PREDICTIONS PREDICTIONS … -o OUT`, and `volseg compare RUN RUN … -o OUT`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import typer

from volseg.errors import UsageError

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
    output: Path = typer.Option(..., "-o", "--output", help="Folder for comparison.csv, .json, .md and .svg."),
    metric: str = typer.Option("dice", help="Metric that is compared, as a column of cases.csv: dice, hd95_mm, ..."),
    tolerance: float | None = typer.Option(
        None, min=0, help="Differences that are ties; 0.005 of Dice and 0.5 mm of HD95 by default."
    ),
    regions: list[str] = typer.Option(
        [],
        metavar="NAME[=OTHER]",
        help="Compare these regions of the cohort, which predictions call OTHER; all that everyone has by default.",
    ),
    title: str | None = typer.Option(None, help="Title of the page."),
    workers: int = typer.Option(2, min=1, help="Number of threads."),
) -> None:
    """Compare prediction sets, or training runs, on the cases they share.

    Paired differences, intervals by patient, Wilcoxon with Holm. Of training runs the Dice of the best validation is
    compared, and their size, speed and memory go into runs.md.
    """
    from volseg.report import is_run

    if any(map(is_run, paths)):
        _compare_runs(paths, output, metric=metric, tolerance=tolerance, title=title or "Comparison of training runs")
    else:
        cohort, *predictions = paths
        if len(predictions) < _FEWEST_SETS:
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
) -> None:
    from volseg.cli.bar import bar, tell_failures
    from volseg.cli.imported import imported_predictions
    from volseg.cli.matching import matched
    from volseg.cli.place import check_order
    from volseg.cohort import Cohort, Predictions
    from volseg.errors import LabelError
    from volseg.evaluation import compare as contrast
    from volseg.evaluation import evaluate, set_names
    from volseg.report import short_comparison, write_comparison

    for folder in predictions:
        check_order(folder, cohort, "COHORT PREDICTIONS...")
    opened = Cohort.open(cohort)
    names = set_names(predictions)
    with ExitStack() as stack:
        folders = {
            name: stack.enter_context(imported_predictions(folder, opened))
            for name, folder in zip(names, predictions, strict=True)
        }
        matches = {name: matched(folder, opened, regions) for name, (folder, _) in folders.items()}
        shared = [region for region in opened.labels.names if all(region in match.names for match in matches.values())]
        if not shared:
            raise LabelError(
                f"{', '.join(names)} have no region of the cohort in common; compare sets of the same regions"
            )
        rows = {}
        for name, (folder, failed) in folders.items():
            with bar(name) as progress:
                found = evaluate(
                    folder,
                    opened,
                    keys=sorted({*Predictions(folder).keys(), *failed}),
                    workers=workers,
                    progress=progress,
                    match=matches[name].only(shared),
                )
            rows[name] = [replace(row, error=failed[row.key]) if row.key in failed else row for row in found]
    comparison = contrast(rows, metric=metric, tolerance=tolerance)
    details = {"cohort": str(cohort), **{name: str(path) for name, path in zip(names, predictions, strict=True)}}
    notes = [f"{name}: {note}" for name, match in matches.items() for note in match.notes]
    if notes:
        details["regions"] = "; ".join(notes)
    files = write_comparison(comparison, output, title=title, details=details)
    typer.echo(short_comparison(comparison))
    for key, without in comparison.not_shared.items():
        typer.secho(f"left out  {key}: no prediction in {', '.join(without)}", fg="yellow", err=True)
    typer.echo(f"wrote {', '.join(str(file) for file in files)}")
    tell_failures(comparison.failed)
