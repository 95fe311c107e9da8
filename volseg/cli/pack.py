"""`volseg pack BUNDLE`."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg pack swinunetr --checkpoint data/runs/mine/model.pt -o mine.zip --torchscript")(
        pack
    )


def pack(
    bundle: str = typer.Argument(help="Name in bundles/, or folder."),
    checkpoint: Path | None = typer.Option(None, help="The trained network; the bundle's own by default."),
    output: Path | None = typer.Option(None, "-o", "--output", help="A .zip or a folder; NAME.zip by default."),
    torchscript: bool = typer.Option(False, "--torchscript", help="Add models/model.ts, for MONAI Deploy."),
    onnx: bool = typer.Option(False, "--onnx", help="Add models/model.onnx."),
    openvino: bool = typer.Option(False, "--openvino", help="Add models/model.xml and .bin: predict starts sooner."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier package."),
) -> None:
    """Put a bundle and its trained network into one package: MONAI's model-zoo layout, as a zip or a folder."""
    from volseg.deploy.pack import FORMATS
    from volseg.deploy.pack import pack as run

    asked = {"torchscript": torchscript, "onnx": onnx, "openvino": openvino}
    written = run(
        bundle,
        checkpoint=checkpoint,
        output=output,
        formats=[name for name in FORMATS if asked[name]],
        overwrite=overwrite,
    )
    typer.echo(f"wrote {written}")
