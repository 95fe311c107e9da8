"""`volseg export FORMAT PREDICTIONS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from volseg.cli.shared_options import BValue, Echo, ImageType, Phase, Where, file_to_write, folder_to_write
from volseg.errors import UsageError

if TYPE_CHECKING:
    from volseg.dicom import Choice, Target
    from volseg.labels import LabelMatch, LabelTable

_MARGIN = typer.Option(
    False, "--margin", help="Add a structure per region that contains the whole organ, of a calibrated network."
)
app = typer.Typer(no_args_is_help=True, help="Write predictions or a cohort in the format of another program.")


@app.command(epilog="Example: volseg export slicer data/predictions -o data/slicer")
def slicer(
    predictions: Path = typer.Argument(help="Folder of KEY.nii.gz, as `volseg predict` writes it."),
    output: Path | None = typer.Option(
        None, "-o", "--output", help="Folder for KEY.seg.nrrd; PREDICTIONS by default.", callback=folder_to_write
    ),
    labels: Path | None = typer.Option(
        None, help="Cohort whose dataset.json names the labels; the one in PREDICTIONS by default."
    ),
    margin: bool = _MARGIN,
) -> None:
    """Write .seg.nrrd files that 3D Slicer opens as segmentations, and a colour table.

    With --margin each region of a calibrated prediction has an outer layer, which contains the whole organ with the
    probability of the calibration; its name says that it is not the organ.
    """
    from volseg.cli.bar import bar, tell_failures
    from volseg.cohort import exported_bounds
    from volseg.formats import export_slicer

    table, match = _table(predictions, labels, beside=predictions)
    target = output or predictions
    with bar("export") as progress:
        prepare = exported_bounds(predictions, match, margin=True) if margin else None
        failed = export_slicer(predictions, target, table, match=match, prepare=prepare, progress=progress)
    typer.echo(
        f"{target}: .seg.nrrd files, labels.csv and labels.ctbl; open one in 3D Slicer by dropping it on the window"
    )
    tell_failures(dict(failed))


@app.command(epilog="Example: volseg export safetensors data/runs/mine/model.pt -o mine.safetensors")
def safetensors(
    checkpoint: Path = typer.Argument(help="Checkpoint of a training or of a package."),
    output: Path = typer.Option(
        ..., "-o", "--output", help="File to write, which ends in .safetensors.", callback=file_to_write
    ),
) -> None:
    """Write the network of a checkpoint as .safetensors: tensors, and the recipe as text, without any code."""
    from volseg.bundle import write_safetensors

    if not checkpoint.is_file():
        raise UsageError(f"there is no checkpoint {checkpoint}; name the model.pt of a training")
    typer.echo(f"wrote {write_safetensors(checkpoint, output)}")


@app.command(epilog="Example: volseg export auto3dseg unet -o templates")
def auto3dseg(
    bundle: str = typer.Argument(help="Name in bundles/, or folder."),
    output: Path = typer.Option(
        ..., "-o", "--output", help="Folder of templates; it may hold others.", callback=folder_to_write
    ),
) -> None:
    """Write a bundle as an algorithm template of MONAI's Auto3DSeg, for BundleGen and AutoRunner.

    Its trainings are those of `volseg train` with Auto3DSeg's data list and folds, and its ensembles get probabilities.
    """
    from volseg.deploy.auto3dseg import write_template

    target = write_template(bundle, output)
    typer.echo(
        f"wrote {target}; give AutoRunner or BundleGen templates_path_or_url={output} and, of several, "
        f"algos={target.name}"
    )


@app.command(epilog="Example: volseg export slices data/cohort data/raw")
def slices(
    cohort: Path = typer.Argument(help="A cohort of one channel with whole-number intensities."),
    raw: Path = typer.Argument(help="New folder for slices and train.csv.", callback=folder_to_write),
    ignored_as_empty: bool = typer.Option(
        False, "--ignored-as-empty", help="Write voxels that nobody looked at as empty; else such a cohort is refused."
    ),
) -> None:
    """Write a cohort back as 16-bit PNG slices with run-length masks, the layout of UW-Madison."""
    from volseg.datasets import open_cohort
    from volseg.formats import write_raw

    opened = open_cohort(cohort)
    write_raw(raw, opened.cases(), opened.labels, ignored_as_empty=ignored_as_empty)
    typer.echo(f"wrote {len(opened.labelled)} scans to {raw}")


@app.command(
    epilog="Example: volseg export kaggle data/predictions data/cohort --test-csv data/test.csv -o submission.csv"
)
def kaggle(
    predictions: Path = typer.Argument(help="Folder of KEY.nii.gz, as `volseg predict` writes it."),
    cohort: Path = typer.Argument(help="The cohort that was converted from the slices of the competition."),
    test_csv: Path = typer.Option(..., help="test.csv or sample_submission.csv: the ids and classes to write."),
    output: Path = typer.Option(
        ..., "-o", "--output", help="The submission: id,class,predicted.", callback=file_to_write
    ),
    empty_missing: bool = typer.Option(
        False, "--empty-missing", help="Leave the rows of cases without prediction empty; else they are an error."
    ),
    check: bool = typer.Option(False, "--check", help="Write nothing: compare the file there with the predictions."),
) -> None:
    """Write the submission of the UW-Madison GI tract competition, and read it back to check it.

    Run lengths are row-major on the slices as they were, whatever grid the predictions are on.
    """
    from volseg.cli.bar import bar
    from volseg.cli.place import check_order
    from volseg.cohort import Cohort, Predictions, read_labels
    from volseg.formats import check_submission, write_submission

    check_order(predictions, cohort, "PREDICTIONS COHORT")
    opened = Cohort.open(cohort)
    own = not predictions.is_dir() or Predictions(predictions).stated is not None
    labels = read_labels(predictions, option="COHORT") if own else opened.labels
    work = check_submission if check else write_submission
    with bar("export") as progress:
        done = work(
            output, predictions, opened, test_csv, labels=labels, empty_missing=empty_missing, progress=progress
        )
    empty = f", {len(done.empty)} of them without prediction and empty" if done.empty else ""
    turned = f", {len(done.resampled)} resampled to their slices" if done.resampled else ""
    told = "is equal to" if check else "was read back and is equal to"
    typer.echo(f"{output}: {done.rows} rows of {done.cases} scans{empty}{turned}; {told} the predictions")


_PREDICTIONS = typer.Argument(help="A file KEY.nii.gz, or a folder of them.")
_DICOM = typer.Option(..., help="Folder tree with the series that the predictions were made from.")


def _objects_to_write(parameter: typer.CallbackParam, value: Path) -> Path:
    """Refuse the name of a file that is no DICOM."""
    named: Path = value if value.suffix.lower() == ".dcm" else folder_to_write(parameter, value)
    return named


_OUTPUT = typer.Option(
    ..., "-o", "--output", help="Folder; or a file.dcm for a single prediction.", callback=_objects_to_write
)
_LABELS = typer.Option(None, help="Cohort whose dataset.json names the labels; the one beside PREDICTIONS by default.")
_KEY = typer.Option("{patient}_{series}", help="Pattern of the keys, as at the conversion.")
_SECRET = typer.Option(None, help="Secret of the keys, as at the conversion.")
_FOR_SERIES = typer.Option(
    None, metavar="UID|KEY", help="The series of a single prediction, whatever its record says, on the same voxels."
)


@app.command("dicom-seg", epilog="Example: volseg export dicom-seg data/predictions --dicom data/dicom -o data/seg")
def dicom_seg(
    predictions: Path = _PREDICTIONS,
    dicom: Path = _DICOM,
    output: Path = _OUTPUT,
    labels: Path | None = _LABELS,
    key: str = _KEY,
    secret_file: Path | None = _SECRET,
    for_series: str | None = _FOR_SERIES,
    echo: Echo = None,
    phase: Phase = None,
    b_value: BValue = None,
    image_type: ImageType = None,
    where: Where = None,
    margin: bool = _MARGIN,
) -> None:
    """Write DICOM Segmentation objects for the archive; they carry the patient and study of their series.

    A prediction knows the series that it was made from, and is written for no other.
    """
    from volseg.dicom import Choice, write_dicom_seg

    choice = Choice.of(echo=echo, phase=phase, b_value=b_value, image_type=image_type, where=where or ())
    _objects(
        predictions, dicom, output, labels, write_dicom_seg, ".seg.dcm", key, secret_file, for_series, choice, margin
    )


@app.command(epilog="Example: volseg export rtstruct data/predictions --dicom data/dicom -o data/rtstruct")
def rtstruct(
    predictions: Path = _PREDICTIONS,
    dicom: Path = _DICOM,
    output: Path = _OUTPUT,
    labels: Path | None = _LABELS,
    key: str = _KEY,
    secret_file: Path | None = _SECRET,
    for_series: str | None = _FOR_SERIES,
    echo: Echo = None,
    phase: Phase = None,
    b_value: BValue = None,
    image_type: ImageType = None,
    where: Where = None,
    margin: bool = _MARGIN,
) -> None:
    """Write RT Structure Sets for planning systems; they carry the patient and study of their series.

    A prediction knows the series that it was made from, and is written for no other.
    """
    from volseg.dicom import Choice, write_rtstruct

    choice = Choice.of(echo=echo, phase=phase, b_value=b_value, image_type=image_type, where=where or ())
    _objects(
        predictions,
        dicom,
        output,
        labels,
        write_rtstruct,
        ".rtstruct.dcm",
        key,
        secret_file,
        for_series,
        choice,
        margin,
    )


def _table(predictions: Path, labels: Path | None, *, beside: Path) -> tuple[LabelTable, LabelMatch | None]:
    """The table that names the labels, and how the predictions' own values become those of it, if there are two."""
    from volseg.cohort import Predictions, read_dataset_json, read_labels
    from volseg.labels import LabelTable

    if labels is None:
        return read_labels(beside, option="--labels"), None
    table = LabelTable.from_dataset_json(read_dataset_json(labels))
    match = Predictions(beside).match_all(table, option=f"--labels {labels}")
    for note in match.notes if match else ():
        typer.secho(f"note  {predictions}: {note}", fg="yellow", err=True)
    return table, match


def _objects(
    predictions: Path,
    dicom: Path,
    output: Path,
    labels: Path | None,
    write: Callable[[Path, Target, LabelTable], None],
    ending: str,
    key: str,
    secret_file: Path | None,
    for_series: str | None,
    choice: Choice,
    margin: bool,
) -> None:
    from volseg.cli.bar import bar, tell_failures
    from volseg.cohort import exported_bounds
    from volseg.dicom import export_objects, read_secret

    if not predictions.exists():
        raise UsageError(f"there is no {predictions}; name a prediction KEY.nii.gz, or the folder of the predictions")
    if output.suffix.lower() == ".dcm" and not predictions.is_file() and not output.is_dir():
        raise UsageError(f"-o {output.name} is one file, and {predictions} may hold several predictions; name a folder")
    beside = predictions.parent if predictions.is_file() else predictions
    table, match = _table(predictions, labels, beside=beside)
    secret = read_secret(secret_file)
    with bar("export") as progress:
        failed = export_objects(
            predictions,
            dicom,
            output,
            table,
            write,
            ending=ending,
            match=match,
            prepare=exported_bounds(beside, match, margin=margin),
            key=key,
            secret=secret,
            for_series=for_series,
            choice=choice,
            progress=progress,
        )
    typer.echo(f"{output}: DICOM objects for the archive, with the patient of their series; {len(failed)} failed")
    tell_failures(dict(failed))
