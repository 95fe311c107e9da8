"""`volseg export FORMAT PREDICTIONS`."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(no_args_is_help=True, help="Write predictions or a cohort in the format of another program.")


@app.command(epilog="Example: volseg export slicer data/predictions -o data/slicer")
def slicer(
    predictions: Path = typer.Argument(help="Folder of KEY.nii.gz, as `volseg predict` writes it."),
    output: Path | None = typer.Option(None, "-o", "--output", help="Folder for KEY.seg.nrrd; PREDICTIONS by default."),
    labels: Path | None = typer.Option(
        None, help="Cohort whose dataset.json names the labels; the one in PREDICTIONS by default."
    ),
) -> None:
    """Write .seg.nrrd files that 3D Slicer opens as segmentations, and a colour table."""
    from volseg.cli.bar import bar, tell_failures
    from volseg.cohort import read_dataset_json, read_labels
    from volseg.export.slicer import export_slicer
    from volseg.labels import LabelTable

    if labels is None:
        table = read_labels(predictions, option="--labels")
    else:
        table = LabelTable.from_dataset_json(read_dataset_json(labels))
    target = output or predictions
    with bar("export") as progress:
        failed = export_slicer(predictions, target, table, progress=progress)
    typer.echo(f"{target}: .seg.nrrd files and labels.ctbl; open one in 3D Slicer by dropping it on the window")
    tell_failures(dict(failed))


@app.command(epilog="Example: volseg export slices data/cohort data/raw")
def slices(
    cohort: Path = typer.Argument(help="A cohort of one channel with whole-number intensities."),
    raw: Path = typer.Argument(help="New folder for slices and train.csv."),
) -> None:
    """Write a cohort back as 16-bit PNG slices with run-length masks, the layout of UW-Madison."""
    from volseg.cohort import Cohort
    from volseg.export.slices import write_raw

    opened = Cohort.open(cohort)
    write_raw(raw, opened.cases(), opened.labels)
    typer.echo(f"wrote {len(opened.labelled)} scans to {raw}")
