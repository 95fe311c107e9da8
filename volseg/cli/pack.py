"""`volseg pack BUNDLE`."""

from __future__ import annotations

from pathlib import Path

import typer

from volseg.cli.shared_options import folder_to_write


def _package_to_write(parameter: typer.CallbackParam, value: Path | None) -> Path | None:
    """Refuse the name of a file that is no zip, such as `model.onnx`: a package is a folder or a zip."""
    zipped = value is not None and value.suffix.lower() == ".zip"
    return value if zipped else folder_to_write(parameter, value)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg pack swinunetr --checkpoint data/runs/mine/model.pt -o mine.zip --torchscript")(
        pack
    )


def pack(
    bundle: str = typer.Argument(help="Name in bundles/, or folder."),
    checkpoint: Path | None = typer.Option(None, help="The trained network; the bundle's own by default."),
    output: Path | None = typer.Option(
        None, "-o", "--output", help="A .zip or a folder; NAME.zip by default.", callback=_package_to_write
    ),
    torchscript: bool = typer.Option(False, "--torchscript", help="Add models/model.ts, for MONAI Deploy."),
    onnx: bool = typer.Option(False, "--onnx", help="Add models/model.onnx."),
    safetensors: bool = typer.Option(
        False, "--safetensors", help="Add models/model.safetensors: the weights without any code."
    ),
    openvino: bool = typer.Option(False, "--openvino", help="Add models/model.xml and .bin: predict starts sooner."),
    int8: bool = typer.Option(
        False,
        "--int8",
        help="Add --openvino and models/model_int8.xml: 8-bit layers, calibrated on training windows; refused where "
        "Dice falls or bfloat16 is as fast.",
    ),
    cohort: str | None = typer.Option(
        None, help="Of --int8: the cohort of the training; the one that the checkpoint names by default."
    ),
    card: Path | None = typer.Option(
        None, help="JSON file that tells of the network, its data and their licence, for the page."
    ),
    crossval: Path | None = typer.Option(
        None, help="Folder of a finished `volseg crossval`, whose out-of-fold Dice the page shows."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier package."),
) -> None:
    """Put a bundle and its trained network into one package: MONAI's model-zoo layout, as a zip or a folder.

    In bundles/ of the working directory it is used by its name: `-o bundles/mine`, then `volseg predict mine`.
    """
    from volseg.deploy.pack import FORMATS
    from volseg.deploy.pack import pack as run
    from volseg.errors import UsageError

    if cohort is not None and not int8:
        raise UsageError("--cohort needs --int8, which is calibrated by the windows of a cohort")
    asked = {"torchscript": torchscript, "onnx": onnx, "openvino": openvino, "safetensors": safetensors}
    written = run(
        bundle,
        checkpoint=checkpoint,
        output=output,
        formats=[name for name in FORMATS if asked[name]],
        int8=int8,
        cohort=cohort,
        card=card,
        crossval=crossval,
        overwrite=overwrite,
    )
    typer.echo(f"wrote {written}")
