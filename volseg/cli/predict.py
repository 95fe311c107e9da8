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
) -> None:
    """Segment volumes, each on the grid of its own input; uncertainty.csv holds the Dice that the network expects."""
    from volseg.cli.bar import bar, tell_failures
    from volseg.inference import Predictor, check_output, count_windows, find_inputs, write_labels

    overrides: dict[str, object] = {"overlap": overlap, "precision": precision}
    predictor = Predictor.from_bundle(bundle, checkpoint=checkpoint, device=device, overrides=overrides)
    cases = find_inputs(images, channels=len(predictor.recipe.channel_names), part=part, fold=fold, modality=modality)
    check_output(output, cases, inputs=images)
    recipe = predictor.recipe
    windows = count_windows(cases, grid_mm=recipe.spacing_mm, roi_size=recipe.roi_size, overlap=overlap)
    predictor = predictor.with_engine(engine, windows=windows)
    write_labels(output, recipe)
    with bar("predict") as progress:
        failed = predictor.predict_to(cases, output, progress=lambda done: progress(done, len(cases)))
    done = f"{len(cases) - len(failed)} predicted, {len(failed)} failed"
    typer.echo(f"{output}: {done} ({predictor.engine.name} {predictor.engine.precision})")
    tell_failures(failed)
