"""`volseg crossval BUNDLE… COHORT -o FOLDER --minutes M`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from volseg.cli.shared_options import folder_to_write
from volseg.errors import UsageError

if TYPE_CHECKING:
    from volseg.cohort import Cohort
    from volseg.crossval import CrossvalFolder, CrossvalSettings, Forecast
    from volseg.jobs import WorkerOptions


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        epilog="Example: volseg crossval unet swinunetr data/cohort -o data/crossval --minutes 20",
    )(crossval)


def crossval(
    context: typer.Context,
    words: list[str] = typer.Argument(
        metavar="BUNDLE... COHORT [--SETTING VALUE]...",
        help="Names in bundles/, or folders; the cohort; then settings of train.json, as `volseg train` takes them.",
    ),
    output: Path = typer.Option(
        ..., "-o", "--output", help="Folder for runs, predictions, report and ensemble.", callback=folder_to_write
    ),
    minutes: float | None = typer.Option(
        None, min=0, help="Minutes of training per fold; the epochs of the bundle by default."
    ),
    folds: str | None = typer.Option(None, metavar="N,N", help="Only these folds of the cohort; all by default."),
    workers: int | None = typer.Option(
        None, min=0, help="Folds side by side: one per GPU by default; on the CPU they share the cores."
    ),
    devices: str | None = typer.Option(
        None, metavar="DEVICE,DEVICE", help="Such as cuda:0,cuda:2; one worker on each."
    ),
    config_file: list[Path] = typer.Option(
        [], "--config-file", "--config_file", help="A further config laid over train.json; may be repeated."
    ),
    take: str = typer.Option(
        "last", help="Network of each fold: last, after the last step; best, of the validation on the held-out cases."
    ),
    ensembles: bool = typer.Option(
        True, help="Of several bundles: the two best, and all together, are candidates too."
    ),
    overlap: float = typer.Option(0.5, min=0, max=0.9, help="Of the prediction, as of volseg predict."),
    engine: str = typer.Option("torch", help="Of the prediction; auto: the fastest in a short trial."),
    flips: str = typer.Option("none", help="Of the prediction: mirror images, as of volseg predict."),
    save_probabilities: bool = typer.Option(False, help="Keep the out-of-fold probabilities."),
    ray: str | None = typer.Option(None, help="Address of a Ray cluster, or auto; --workers 0 fills it."),
    shard: str | None = typer.Option(None, help="I/N: only the I-th of N shares of the folds, from 0; then --gather."),
    gather: bool = typer.Option(False, "--gather", help="Train nothing: score, choose and report what is finished."),
    anyway: bool = typer.Option(False, "--anyway", help="Go on although settings or data have changed."),
    title: str = typer.Option("Cross-validation", help="Title of the report."),
    html: bool = typer.Option(True, help="Write report.html."),
    dry: bool = typer.Option(False, help="Show the jobs, the minutes and the disk, and stop."),
) -> None:
    """Train every fold of every bundle, predict each case out of fold, report, and choose the best.

    Run the same command again to go on after a stop: finished folds are not trained again. FOLDER/ensemble is what
    volseg predict takes in the place of a bundle, with the clean-up that helped.
    """
    from volseg.cli.place import fetched
    from volseg.cli.train import check_words
    from volseg.cohort import Cohort
    from volseg.crossval import CrossvalFolder, CrossvalSettings, Inference, begin, check_folds, data_of
    from volseg.jobs import WorkerOptions

    names, place, overrides = _parts(words)
    cohort = Cohort.open(fetched(place))
    notes = check_folds(cohort)
    settings = CrossvalSettings.of(
        cohort,
        names,
        folds=_folds(folds),
        minutes=minutes or None,
        overrides=overrides,
        config_files=tuple(path.resolve() for path in config_file),
        take=take,
        inference=Inference(overlap, engine, flips, save_probabilities),
        devices=tuple(one.strip() for one in (devices or "").split(",") if one.strip()),
    )
    for name in settings.networks.values():
        check_words(name, settings.overrides, settings.config_files, context.command)
    folder = CrossvalFolder(output)
    worker_options = WorkerOptions.parse(
        workers=_workers(workers, settings, ray=ray, shard=shard), ray=ray, shard=shard
    )
    if shard and gather:
        raise UsageError("--gather is the last step of all shards; run it once without --shard")
    if not gather:
        _check_mirrors(settings)
    foreseen = None if gather else _forecast(folder, settings, cohort, worker_options)
    if foreseen is not None:
        typer.echo(_plan(settings, cohort, foreseen, worker_options))
    notes += [*_region_notes(cohort, settings), *settings.notes]
    for note in notes:
        typer.secho(f"note  {note}", fg="yellow", err=True)
    if dry:
        _show_jobs(folder, settings, cohort, worker_options)
        return
    if gather:
        _check_finished(folder, settings)
    elif not ray:  # the nodes of a cluster have devices of their own
        _check_devices(settings)
    for change in begin(folder, settings, data_of(cohort, settings.folds), anyway=anyway):
        typer.secho(f"warning: {change}; what is finished is kept", fg="yellow", err=True)
        notes.append(f"changed during the cross-validation: {change}")
    failed: dict[str, str] = {}
    if not gather:
        failed = _train(folder, settings, worker_options, anyway=anyway)
    if shard:
        _tell(failed)
        typer.echo(f"the share {shard} is done; after all shares, the same command with --gather in its place reports")
        return
    _conclude(folder, settings, cohort, worker_options, ensembles=ensembles, title=title, html=html, notes=notes)
    _tell(failed)


def _parts(words: Sequence[str]) -> tuple[list[str], str, dict[str, Any]]:
    """The bundles, the cohort, and the settings of train.json, which begin at the first word with `--`."""
    from volseg.cli.train import _overrides

    first = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
    named = list(words[:first])
    if len(named) < 2:
        raise UsageError(
            f"crossval must name one bundle or more, then the cohort, got {' '.join(named) or 'nothing'}; settings of "
            "train.json come behind them"
        )
    misplaced = [name for name in named[:-1] if (Path(name) / "dataset.json").is_file()]
    if misplaced and named[-1] not in misplaced and not (Path(named[-1]) / "dataset.json").is_file():
        bundles = [name for name in named if name not in misplaced]
        raise UsageError(
            f"crossval must have the cohort behind the bundles, got {' '.join(named)}; write "
            f"`volseg crossval {' '.join([*bundles, misplaced[0]])}`"
        )
    return (
        named[:-1],
        named[-1],
        {name: _absolute(name, value) for name, value in _overrides(list(words[first:])).items()},
    )


def _absolute(name: str, value: object) -> object:
    """A file or folder that is there as an absolute path: workers elsewhere have another working directory."""
    from volseg.bundle import is_path_setting

    there = isinstance(value, str) and is_path_setting(name) and Path(value).exists()
    return str(Path(str(value)).resolve()) if there else value


def _folds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdigit() for word in words):
        raise UsageError(f"--folds must be numbers from 0, such as 0,1,2, got {text}")
    return [int(word) for word in words]


def _workers(given: int | None, settings: CrossvalSettings, *, ray: str | None, shard: str | None) -> int:
    if given is not None:
        return given
    if ray is not None:
        return 0
    if settings.devices:
        return len(settings.devices)
    if shard is not None or settings.device(0) is not None:
        return 1
    from volseg.inference import worker_device

    # The devices that workers get in turn until the first comes again.
    found: list[str | None] = []
    while (device := worker_device(None, len(found))) not in found:
        found.append(device)
    return len(found)


def _check_finished(folder: CrossvalFolder, settings: CrossvalSettings) -> None:
    """Refuse to gather what no network has finished, or what was predicted otherwise, before anything is written."""
    from volseg.crossval import check_inference, is_done

    if not any(all(is_done(folder, name, fold) for fold in settings.folds) for name in settings.networks):
        raise UsageError(f"no network of {folder.path} has all its folds; run the same command without --gather first")
    check_inference(folder, settings)


def _check_mirrors(settings: CrossvalSettings) -> None:
    """Refuse `--flips trained` of a training that will not mirror, before each fold would fail by it."""
    if settings.inference.flips != "trained":
        return
    from volseg.training import mirrored_axes

    for name, bundle in settings.networks.items():
        overrides = {**settings.overrides, "dataset_dir": str(settings.cohort), "fold": settings.folds[0]}
        if mirrored_axes(bundle, overrides=overrides, more=settings.config_files) == ():
            raise UsageError(
                f"--flips trained must have networks that are trained with mirror images, and {name} mirrors along no "
                "axis on this cohort; train with --flip_axes '[0]' if both sides look alike, or leave --flips out"
            )


def _check_devices(settings: CrossvalSettings) -> None:
    """Refuse devices that are not there or do not go with the engine, before each fold would fail by them."""
    from volseg.inference import check_device, check_words, worker_device

    stated = settings.overrides.get("device")
    if isinstance(stated, str) and stated.startswith(("$", "@")):
        return
    if isinstance(stated, str):
        check_device(stated)
    for device in settings.devices:
        check_device(device, option="--devices")
    for number in range(max(1, len(settings.devices))):
        check_words(engine=settings.inference.engine, device=settings.device(number) or worker_device(None, number))


def _forecast(
    folder: CrossvalFolder, settings: CrossvalSettings, cohort: Cohort, worker_options: WorkerOptions
) -> Forecast:
    from volseg.crossval import forecast
    from volseg.training import run_bytes

    share = settings.jobs[worker_options.shard.number :: worker_options.shard.count]
    sizes = {}
    for name in dict.fromkeys(name for name, _ in share):
        overrides = {**settings.overrides, "dataset_dir": str(settings.cohort), "fold": settings.folds[0]}
        sizes[name] = run_bytes(settings.networks[name], overrides=overrides, more=settings.config_files)
    return forecast(folder, settings, cohort, workers=max(1, worker_options.workers), jobs=share, bytes_of_run=sizes)


def _plan(settings: CrossvalSettings, cohort: Cohort, foreseen: Forecast, worker_options: WorkerOptions) -> str:
    patients = len({cohort.patient(key) for fold in settings.folds for key in cohort.fold(fold).validation})
    cases = sum(len(cohort.fold(fold).validation) for fold in settings.folds)
    side = "a Ray cluster" if worker_options.ray else f"{worker_options.workers} side by side"
    return (
        f"{', '.join(settings.networks)} on {len(settings.folds)} folds of {cases} cases of {patients} patients, "
        f"{side}: {foreseen.text}"
    )


def _region_notes(cohort: Cohort, settings: CrossvalSettings) -> list[str]:
    from volseg.cli.bar import bar
    from volseg.crossval import fold_notes, regions_of_cases

    with bar("read labels") as progress:
        return fold_notes(cohort, regions_of_cases(cohort, progress=progress), settings.folds)


def _show_jobs(
    folder: CrossvalFolder, settings: CrossvalSettings, cohort: Cohort, worker_options: WorkerOptions
) -> None:
    from volseg.crossval import is_done

    for number, (name, fold) in enumerate(settings.jobs):
        sides = cohort.fold(fold)
        state = "finished" if is_done(folder, name, fold) else "begun" if folder.run(name, fold).is_dir() else "to do"
        share = (
            f", share {number % worker_options.shard.count}/{worker_options.shard.count}"
            if worker_options.shard.count > 1
            else ""
        )
        typer.echo(
            f"{name} fold {fold}: {len(sides.training)} training, {len(sides.validation)} held out, {state}{share}"
        )
    typer.echo("nothing was trained")


def _train(
    folder: CrossvalFolder, settings: CrossvalSettings, worker_options: WorkerOptions, *, anyway: bool
) -> dict[str, str]:
    """Train the folds with a line for each; returns the error of each that failed."""
    from volseg.cli.fold_progress import FoldProgress
    from volseg.crossval import CrossvalFolder, FoldTraining, is_done, jobs_of, parts_of, run_folds

    # Workers on other machines have another working directory.
    work = FoldTraining(CrossvalFolder(folder.path.absolute()), settings, anyway)
    watch = FoldProgress(
        folder,
        [parts_of(job.key) for job in jobs_of(work, worker_options)],
        settings,
        workers=max(1, worker_options.workers),
    )
    done_before = sum(is_done(folder, *job) for job in watch.jobs)
    if done_before:
        typer.echo(f"{done_before} of {len(watch.jobs)} folds were finished before")
    with watch:
        result = run_folds(work, worker_options=worker_options, told=watch.told)
    return dict(result.failed)


def _conclude(
    folder: CrossvalFolder,
    settings: CrossvalSettings,
    cohort: Cohort,
    worker_options: WorkerOptions,
    *,
    ensembles: bool,
    title: str,
    html: bool,
    notes: list[str],
) -> None:
    from volseg.cli.bar import bar
    from volseg.crossval import conclude, is_done, short_result
    from volseg.report import short_comparison, short_table, summarise

    finished = []
    for name in settings.networks:
        missing = [fold for fold in settings.folds if not is_done(folder, name, fold)]
        if missing:
            note = f"{name} is left out: its folds {', '.join(map(str, missing))} are not finished"
            typer.secho(f"note  {note}", fg="yellow", err=True)
            notes.append(note)
        else:
            finished.append(name)
    result = conclude(
        folder,
        settings,
        cohort,
        networks=finished,
        ensembles=ensembles,
        workers=max(1, worker_options.workers),
        title=title,
        html=html,
        notes=notes,
        bars=bar,
    )
    if result.comparison is not None:
        typer.echo(short_comparison(result.comparison))
    typer.echo(short_result(result))
    typer.echo(f"chosen: {result.choice.reason}")
    kept = [one for one in result.cleanup if one.chosen]
    for one in kept:
        typer.echo(f"clean-up: the largest part alone of {one.region}, {one.gain:+.4f} of Dice (out of fold)")
    if not kept:
        typer.echo("clean-up: none, no region gains by keeping its largest part alone")
    typer.echo(short_table(summarise(result.rows)))
    typer.echo(f"wrote {', '.join(str(file) for file in result.files)}")
    typer.echo(f"next: volseg predict {result.ensemble} INPUT -o OUT")


def _tell(failed: Mapping[str, str]) -> None:
    from volseg.cli.bar import tell_failures

    tell_failures({key.replace("/fold_", " fold "): error for key, error in failed.items()})
