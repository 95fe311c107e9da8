"""`volseg predict BUNDLE INPUT -o OUT`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from volseg.cli.answer import AsJson
from volseg.cli.network_options import NetworkOptions, with_network_options
from volseg.cli.shared_options import BValue, Echo, ImageType, Phase, RayAddress, ShardOfCases, Where

if TYPE_CHECKING:
    from volseg.inference import AnyPredictor


def register(app: typer.Typer) -> None:
    """Add the command."""
    example = "Example: volseg predict swinunetr data/cohort --part validation -o data/predictions"
    app.command(epilog=example)(with_network_options(predict))


def predict(
    bundle: str = typer.Argument(help="Name in bundles/, or folder."),
    images: str = typer.Argument(help="NIfTI file, folder of them, cohort, DICOM; or its URL.", metavar="INPUT"),
    output: str = typer.Option(..., "-o", "--output", help="Folder or URL for KEY.nii.gz and uncertainty.csv."),
    *,
    options: NetworkOptions,
    channels: str | None = typer.Option(
        None,
        metavar="NAME,NAME",
        help="What the files _0000, _0001, ... hold; by default as dataset.json names them. Of DICOM files the series "
        "of each study, as 'T1=*t1*,T2=*t2*'.",
    ),
    modality: str | None = typer.Option(None, help="Only DICOM series of this modality: CT, MR or PT."),
    echo: Echo = None,
    phase: Phase = None,
    b_value: BValue = None,
    image_type: ImageType = None,
    where: Where = None,
    resample_channels: bool = typer.Option(
        False, "--resample-channels", help="Resample DICOM channels on other voxels to those of the first."
    ),
    part: str = typer.Option("all", help="Part of a cohort: all, labelled, training, validation or test."),
    fold: int = typer.Option(0, min=0, help="Number of the fold that --part is of, from 0."),
    workers: int = typer.Option(1, min=0, help="Number of processes: one per GPU, or several that share the cores."),
    ray: RayAddress = None,
    shard: ShardOfCases = None,
    journal: Path | None = typer.Option(
        None, help="File that gets a line per case; OUTPUT/.volseg/predict.jsonl by default."
    ),
    as_json: bool = AsJson,
) -> None:
    """Segment volumes, each on the grid of its own input; uncertainty.csv holds the Dice that the network expects.

    Run again to go on after a stop: what is finished, by the same networks from the same files, is not done again. Of
    several networks and mirror images the mean of the probabilities counts. The clean-up is off unless asked for, goes
    region by region, and is recorded in dataset.json and run_report.json. With --within a first network, or label maps
    made before, say where to look: what lies outside that region is background.
    """
    from volseg.bundle import tell_networks
    from volseg.cli.answer import answer, print_answer
    from volseg.cli.bar import bar, tell_failures
    from volseg.cli.place import fetched
    from volseg.cohort import FILE_ENDING, write_labels
    from volseg.errors import UsageError
    from volseg.inference import (
        ArrayPredictor,
        check_output,
        count_windows,
        find_inputs,
        input_cohort,
    )
    from volseg.jobs import WorkerOptions, predict_cases, remove_unproven
    from volseg.remote import check_apart, writing

    worker_options = WorkerOptions.parse(workers=workers, ray=ray, shard=shard, journal=journal)
    check_apart(images, output)
    asked = options.asked(bundle)

    def load() -> AnyPredictor:
        return asked.load("cpu" if gpus() or ray else options.device, flips=options.flips)

    @functools.cache
    def gpus() -> bool:  # workers on GPUs load their own networks; this process then needs none
        if worker_options.alone:
            return False
        from volseg.inference import worker_device

        return str(worker_device(options.device, 0)).startswith("cuda")

    # All that words and headers tell is told before PyTorch is loaded.
    stated = asked.check(flips=options.flips)
    predictor = None if stated is not None else load()
    found = stated or predictor
    if found is None:
        raise UsageError(f"{bundle} holds no network")
    recipe = found.recipe
    inputs = fetched(images)
    patterns = channels is not None and "=" in channels
    given = [channels] if channels and patterns else [name.strip() for name in (channels or "").split(",") if channels]
    chosen = {"echo": echo, "phase": phase, "b_value": b_value, "image_type": image_type, "where": where or None}
    cases = find_inputs(
        inputs,
        channels=recipe.channel_names,
        part=part,
        fold=fold,
        modality=modality,
        given=given,
        choice={name: value for name, value in chosen.items() if value is not None},
        resample_channels=resample_channels,
    )

    def choose(name: str) -> AnyPredictor:
        if predictor is None:
            raise UsageError(f"{bundle} holds no network")
        windows = count_windows(cases, grid_mm=recipe.spacing_mm, roi_size=recipe.roi_size, overlap=options.overlap)
        return predictor.with_engine(name, windows=windows)

    tell_networks([*found.first_networks, *found.networks], input_cohort(inputs))
    work = asked.of(found)
    with writing(output, apart=shard or "") as place, bar("predict") as progress:
        check_output(place.folder, cases, inputs=inputs, labels=recipe.labels)
        if asked.step is not None:
            asked.step.check_output(place.folder)
        remove_unproven(place.folder, place.fetched, keys={key for key, _ in cases})
        made_with = work.made_with(recipe.labels)
        write_labels(place.folder, recipe.labels, channel_names=recipe.channel_names, made_with=made_with)
        predictor = predictor or load()
        if isinstance(predictor, ArrayPredictor):
            predictor.check_sizes(cases)
        result = predict_cases(
            work,
            cases,
            place.folder,
            worker_options=worker_options,
            choose=None if gpus() or ray else choose,
            progress=place.watched(progress),
        )
    before = f", {result.before} finished before" if result.before else ""
    done = f"{result.done} predicted{before}, {len(result.failed)} failed"
    ways = sorted({way.partition(",")[0] for way in result.devices})
    if as_json:
        facts = {
            "output": output,
            "done": result.done,
            "before": result.before,
            "predictions": [f"{key}{FILE_ENDING}" for key, _ in cases if key not in result.failed],
            "devices": dict(result.devices),
            "notes": dict(result.notes),
            "seconds": round(result.seconds, 3),
        }
        print_answer(answer("predict", facts, failed=result.failed))
    else:
        typer.echo(f"{output}: {done} ({', '.join(ways) or 'nothing done'})")
    for key, note in result.notes.items():
        typer.secho(f"note  {key}: {note}", fg="yellow", err=True)
    tell_failures(result.failed)
