"""`volseg predict BUNDLE INPUT -o OUT`."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg predict swinunetr data/cohort --part validation -o data/predictions")(predict)


def predict(
    bundle: str = typer.Argument(help="Name in bundles/, or folder."),
    images: str = typer.Argument(help="NIfTI file, folder of them, cohort, DICOM; or its URL.", metavar="INPUT"),
    output: str = typer.Option(..., "-o", "--output", help="Folder or URL for KEY.nii.gz and uncertainty.csv."),
    checkpoint: list[Path] = typer.Option(
        [], help="The trained network; the bundle's own by default. Several, or a folder of runs, make an ensemble."
    ),
    also: list[str] = typer.Option(
        [], "--with", metavar="BUNDLE[=CHECKPOINT]", help="A further bundle, whose network joins the ensemble; repeat."
    ),
    modality: str | None = typer.Option(None, help="Of a folder of DICOM files: only CT, MR, PT series."),
    part: str = typer.Option("all", help="Of a cohort: all, training or validation."),
    fold: int = typer.Option(0, min=0, help="Which fold the part is of."),
    device: str | None = typer.Option(None, help="cpu, cuda, cuda:1, ...; the best by default."),
    overlap: float = typer.Option(0.5, min=0, max=0.9, help="Share of a window that its neighbour covers."),
    precision: str = typer.Option("auto", help="fp32, bf16, or auto: bf16 where the hardware has it."),
    engine: str = typer.Option(
        "auto", help="torch; compiled, openvino: on the CPU; auto: the fastest in a short trial."
    ),
    flips: str = typer.Option(
        "none", help="Mirror images that are looked at too: axes such as 0 or 0,1; trained: those it was trained with."
    ),
    skip: bool = typer.Option(True, "--skip-empty/--no-skip-empty", help="Leave out windows that hold one value only."),
    save_probabilities: bool = typer.Option(
        False, help="Also write OUTPUT/probabilities/KEY.nii.gz, a channel a class."
    ),
    fill_holes: list[str] = typer.Option([], metavar="NAME[,NAME]", help="Clean-up: fill cavities of these regions."),
    min_ml: list[str] = typer.Option(
        [], metavar="NAME=ML", help="Clean-up: remove parts of a region below this volume."
    ),
    keep_largest: list[str] = typer.Option(
        [], metavar="NAME[,NAME]", help="Clean-up: of these regions only the largest part stays."
    ),
    workers: int = typer.Option(1, min=0, help="Processes: one a GPU, or several that share the cores."),
    ray: str | None = typer.Option(None, help="Address of a Ray cluster, or auto; --workers 0 fills it."),
    shard: str | None = typer.Option(None, help="I/N: only the I-th of N fixed shares of the cases, from 0."),
    journal: Path | None = typer.Option(None, help="The file; OUTPUT/.volseg/predict.jsonl by default."),
) -> None:
    """Segment volumes, each on the grid of its own input; uncertainty.csv holds the Dice that the network expects.

    Run again to go on after a stop: what is finished, by the same networks from the same files, is not done again. Of
    several networks and mirror images the mean of the probabilities counts. The clean-up is off unless asked for, goes
    region by region, and is recorded in dataset.json and run_report.json.
    """
    from volseg.cleanup import Cleanup
    from volseg.cli.bar import bar, tell_failures
    from volseg.cli.place import fetched
    from volseg.fleet.audit import remove_unproven
    from volseg.fleet.predicting import Predicting, members_of, predict_cases
    from volseg.fleet.team import Team
    from volseg.inference import (
        Predictor,
        check_output,
        count_windows,
        find_inputs,
        flip_axes,
        worker_device,
        write_labels,
    )
    from volseg.remote import check_apart, writing

    team = Team.parse(workers=workers, ray=ray, shard=shard, journal=journal)
    check_apart(images, output)
    cleanup = Cleanup.parse(fill_holes=fill_holes, min_ml=min_ml, keep_largest=keep_largest)
    overrides: dict[str, object] = {"overlap": overlap, "precision": precision}
    # Only what differs from the default, so that bundles which do not know these settings still work.
    overrides |= {} if skip else {"skip_empty": False}
    overrides |= {"cleanup": cleanup.to_json()} if cleanup else {}
    overrides |= {"save_probabilities": True} if save_probabilities else {}
    (_, first), *others = members_of(bundle, checkpoint, also)
    asked = Predicting(bundle, first, device, engine, overrides, others)
    # Workers on GPUs load their own networks; this process then needs none.
    gpus = not team.alone and str(worker_device(device, 0)).startswith("cuda")
    predictor = asked.load("cpu" if gpus or ray else device)
    axes = flip_axes(flips, [member.recipe for member in (predictor, *predictor.others)])
    predictor = predictor.joined(flips=axes)
    inputs = fetched(images)
    cases = find_inputs(inputs, channels=len(predictor.recipe.channel_names), part=part, fold=fold, modality=modality)
    recipe = predictor.recipe

    def choose(name: str) -> Predictor:
        windows = count_windows(cases, grid_mm=recipe.spacing_mm, roi_size=recipe.roi_size, overlap=overlap)
        return predictor.with_engine(name, windows=windows)

    work = Predicting.of(
        predictor, bundle=bundle, checkpoint=first, device=device, engine=engine, overrides=overrides, others=others
    )
    made_with = {
        "cleanup": cleanup.to_json(),
        "flips": list(axes),
        "probabilities": list(recipe.labels.channel_names) if save_probabilities else [],
    }
    with writing(output, apart=shard or "") as place, bar("predict") as progress:
        check_output(place.folder, cases, inputs=inputs)
        remove_unproven(place.folder, place.fetched, keys={key for key, _ in cases})
        write_labels(place.folder, recipe, made_with={name: value for name, value in made_with.items() if value})
        tally = predict_cases(
            work,
            cases,
            place.folder,
            team=team,
            choose=None if gpus or ray else choose,
            progress=place.watched(progress),
        )
    before = f", {tally.before} finished before" if tally.before else ""
    done = f"{tally.done} predicted{before}, {len(tally.failed)} failed"
    ways = sorted({way.partition(",")[0] for way in tally.devices})
    typer.echo(f"{output}: {done} ({', '.join(ways) or 'nothing done'})")
    tell_failures(tally.failed)
