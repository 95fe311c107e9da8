"""`volseg predict BUNDLE INPUT -o OUT`."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg predict swinunetr data/cohort --part validation -o data/predictions")(predict)


def predict(
    bundle: str = typer.Argument(help="Name in bundles/, or folder."),
    images: Path = typer.Argument(help="A NIfTI file, a folder of them, a cohort, or DICOM.", metavar="INPUT"),
    output: Path = typer.Option(..., "-o", "--output", help="Folder for KEY.nii.gz and uncertainty.csv."),
    checkpoint: Path | None = typer.Option(None, help="The trained network; the bundle's own by default."),
    modality: str | None = typer.Option(None, help="Of a folder of DICOM files: only CT, MR, PT series."),
    part: str = typer.Option("all", help="Of a cohort: all, training or validation."),
    fold: int = typer.Option(0, min=0, help="Which fold the part is of."),
    device: str | None = typer.Option(None, help="cpu, cuda, cuda:1, ...; the best by default."),
    overlap: float = typer.Option(0.5, min=0, max=0.9, help="Share of a window that its neighbour covers."),
    precision: str = typer.Option("auto", help="fp32, bf16, or auto: bf16 where the hardware has it."),
    engine: str = typer.Option("auto", help="torch, openvino (on the CPU), or auto: the faster one, by a short trial."),
    workers: int = typer.Option(1, min=0, help="Processes: one a GPU, or several that share the cores."),
    ray: str | None = typer.Option(None, help="Address of a Ray cluster, or auto; --workers 0 fills it."),
    shard: str | None = typer.Option(None, help="I/N: only the I-th of N fixed shares of the cases, from 0."),
    journal: Path | None = typer.Option(None, help="The file; OUTPUT/.volseg/predict.jsonl by default."),
) -> None:
    """Segment volumes, each on the grid of its own input; uncertainty.csv holds the Dice that the network expects.

    Run again to go on after a stop: what is finished, by the same network from the same files, is not done again.
    """
    from volseg.cli.bar import bar, tell_failures
    from volseg.fleet.predicting import Predicting, predict_cases
    from volseg.fleet.team import Team
    from volseg.inference import Predictor, check_output, count_windows, find_inputs, worker_device, write_labels

    team = Team.parse(workers=workers, ray=ray, shard=shard, journal=journal)
    overrides: dict[str, object] = {"overlap": overlap, "precision": precision}
    # Workers on GPUs load their own networks; this process then needs none.
    gpus = not team.alone and str(worker_device(device, 0)).startswith("cuda")
    predictor = Predictor.from_bundle(
        bundle, checkpoint=checkpoint, device="cpu" if gpus or ray else device, overrides=overrides
    )
    cases = find_inputs(images, channels=len(predictor.recipe.channel_names), part=part, fold=fold, modality=modality)
    check_output(output, cases, inputs=images)
    recipe = predictor.recipe

    def choose(name: str) -> Predictor:
        windows = count_windows(cases, grid_mm=recipe.spacing_mm, roi_size=recipe.roi_size, overlap=overlap)
        return predictor.with_engine(name, windows=windows)

    work = Predicting.of(
        predictor, bundle=bundle, checkpoint=checkpoint, device=device, engine=engine, overrides=overrides
    )
    write_labels(output, recipe)
    with bar("predict") as progress:
        tally = predict_cases(work, cases, output, team=team, choose=None if gpus or ray else choose, progress=progress)
    before = f", {tally.before} finished before" if tally.before else ""
    done = f"{tally.done} predicted{before}, {len(tally.failed)} failed"
    ways = sorted({way.partition(",")[0] for way in tally.devices})
    typer.echo(f"{output}: {done} ({', '.join(ways) or 'nothing done'})")
    tell_failures(tally.failed)
