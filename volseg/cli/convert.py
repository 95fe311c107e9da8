"""`volseg convert KIND RAW COHORT`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import typer

from volseg.errors import UsageError


class Kind(str, Enum):
    """The raw layouts that volseg reads."""

    uw_madison = "uw_madison"
    decathlon = "decathlon"
    dicom = "dicom"
    images = "images"
    class_masks = "class_masks"


class Colour(str, Enum):
    """Channels of images."""

    auto = "auto"
    rgb = "rgb"
    grey = "grey"


class Objects(str, Enum):
    """How objects are told apart in masks of images."""

    files = "files"
    values = "values"


class Missing(str, Enum):
    """What an image without mask means."""

    refuse = "refuse"
    unlabelled = "unlabelled"
    empty = "empty"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg convert uw_madison data/uw-madison data/cohort --case case123")(convert)


def convert(
    kind: Kind = typer.Argument(
        help="uw_madison (slices and RLE), decathlon (also nnU-Net raw), dicom, images or class_masks."
    ),
    place: str = typer.Argument(help="The raw folder, or its URL; it is only read.", metavar="RAW"),
    cohort: str = typer.Argument(help="The cohort folder to write, or to go on with; or its URL."),
    case: list[str] = typer.Option([], help="Only this patient or case; may be repeated (uw_madison)."),
    thickness_mm: float = typer.Option(3.0, help="Distance between slices (uw_madison)."),
    axes: str | None = typer.Option(
        None,
        help="Where columns, rows and slices point to, as LPI (left, back, feet), the default of uw_madison; images "
        "have LPS by default, with a warning in cases.csv.",
    ),
    modality: str | None = typer.Option(None, help="Only CT, MR, PT series (dicom)."),
    series: str | None = typer.Option(None, help="Only series whose description matches this expression (dicom)."),
    labels: list[str] = typer.Option([], help="NAME or PATTERN=NAME,...: the regions to take, renamed (dicom)."),
    key: str = typer.Option("{patient}_{series}", help="Pattern of the case keys (dicom)."),
    keep_ids: bool = typer.Option(False, "--keep-ids", help="Write patient IDs and file names to tables (dicom)."),
    secret_file: Path | None = typer.Option(None, help="A file whose text keys the words for patients (dicom)."),
    images: str = typer.Option("**/{key}.*", help="Pattern of the images below RAW, as 'images/{key}.jpg' (images)."),
    masks: list[str] = typer.Option([], help="[REGION=]PATTERN, as 'masks/{key}_*.png'; may be repeated (images)."),
    classes: list[str] = typer.Option([], help="NAME=VALUE or NAME=#rrggbb of class masks; repeated (images)."),
    threshold: int | None = typer.Option(None, min=1, help="Masks are marked from here; 128 if JPEG, else 1 (images)."),
    objects: Objects | None = typer.Option(None, help="Keep objects apart: one a mask file, or a value (images)."),
    colour: Colour = typer.Option(Colour.auto, help="Three channels, luminance, or as the files are (images)."),
    spacing_mm: str | None = typer.Option(None, help="MM, X,Y or X,Y,Z of pixels; else what files state (images)."),
    missing: Missing = typer.Option(Missing.refuse, help="What an image without mask means (images)."),
    validation: list[str] = typer.Option([], help="Pattern of images to validate on, as '*03.tif' (images)."),
    test: list[str] = typer.Option([], help="Pattern of images kept out of the folds, as 'test/**' (images)."),
    max_pixels: int | None = typer.Option(None, min=1, help="Refuse larger images; 89478485 by default (images)."),
    image: str | None = typer.Option(None, help="Name of the image in each folder, as ct; else found (class_masks)."),
    classes_kept: list[str] = typer.Option([], "--class", help="Only this class; may be repeated (class_masks)."),
    overlaps: bool = typer.Option(False, help="Keep voxels of several classes, of at most 8 (class_masks)."),
    patient_pattern: str | None = typer.Option(
        None, help="Regular expression whose group is the patient in each key, as 'genius_(\\d\\d)'; else known forms."
    ),
    folds: int | None = typer.Option(
        None, min=2, help="Folds of splits.json, grouped by patient: those that the source states, else 5."
    ),
    seed: int = typer.Option(0, help="Seed of the split."),
    workers: int = typer.Option(2, min=0, help="Threads; processes with --journal or --shard, of Ray with --ray."),
    ray: str | None = typer.Option(None, help="Address of a Ray cluster, or auto; --workers 0 fills it."),
    shard: str | None = typer.Option(None, help="I/N: only the I-th of N fixed shares of the cases, from 0."),
    journal: Path | None = typer.Option(
        None, help="A line a case; COHORT/.volseg/convert.jsonl with --ray or --shard."
    ),
) -> None:
    """Turn raw slices, volumes or images into a cohort folder of NIfTI volumes. Run again to go on after a stop."""
    from volseg.cli.bar import bar, tell_failures
    from volseg.cli.place import fetched
    from volseg.cohort import Fold, PatientsByPattern, Source, write_cohort
    from volseg.formats import Decathlon, UwMadison
    from volseg.jobs import WorkerOptions, convert_cases
    from volseg.remote import check_apart, writing

    source: Source
    held_out: frozenset[str] = frozenset()
    given: tuple[Fold, ...] = ()
    if kind is not Kind.dicom and (modality or series or labels or keep_ids or secret_file):
        raise UsageError("--modality, --series, --labels, --keep-ids and --secret-file are for dicom folders")
    if kind is not Kind.images and (masks or classes or threshold or objects or spacing_mm or validation or test):
        raise UsageError(
            "--masks, --classes, --threshold, --objects, --spacing-mm, --validation and --test are for image folders"
        )
    if kind is not Kind.class_masks and (image or classes_kept or overlaps):
        raise UsageError("--image, --class and --overlaps are for class_masks folders")
    if axes is not None and kind not in (Kind.uw_madison, Kind.images):
        raise UsageError(f"--axes is for uw_madison and images; {kind.value} files state their directions themselves")
    check_apart(place, cohort)
    raw = fetched(place)
    if kind is Kind.uw_madison:
        source = UwMadison(raw, cases=case or None, thickness_mm=thickness_mm, axes=axes)
    elif case:
        raise UsageError(f"--case selects from uw_madison folders; a {kind.value} folder is converted whole")
    elif kind is Kind.dicom:
        from volseg.dicom import Dicom, read_secret

        secret = read_secret(secret_file)
        source = Dicom(raw, modality=modality, series=series, labels=labels, key=key, keep_ids=keep_ids, secret=secret)
    elif kind is Kind.images:
        from volseg.formats import MAX_PIXELS, Images, parse_spacing

        source = Images(
            raw,
            images=images,
            masks=masks,
            classes=classes,
            threshold=threshold,
            objects=objects.value if objects else None,
            colour=colour.value,
            spacing_mm=parse_spacing(spacing_mm) if spacing_mm else None,
            missing=missing.value,
            validation=validation,
            test=test,
            max_pixels=max_pixels or MAX_PIXELS,
            axes=axes,
        )
        held_out = source.validation
    elif kind is Kind.class_masks:
        from volseg.formats import ClassMasks

        source = ClassMasks(raw, image=image, classes=classes_kept, keep_overlaps=overlaps)
    else:
        source = Decathlon(raw)
        given = source.folds if folds is None else ()
    if patient_pattern:
        source = PatientsByPattern(source, patient_pattern)
    drawn = 5 if folds is None else folds
    team = WorkerOptions.parse(workers=workers, ray=ray, shard=shard, journal=journal)
    with writing(cohort, apart=shard or "") as target, bar("convert") as progress:
        told = target.watched(progress)
        if ray or shard or journal:
            done = convert_cases(
                source,
                target.folder,
                team=team,
                folds=drawn,
                seed=seed,
                validation=held_out,
                given=given,
                progress=told,
            )
        else:
            done = write_cohort(
                source,
                target.folder,
                workers=workers,
                folds=drawn,
                seed=seed,
                validation=held_out,
                given=given,
                progress=told,
            )
    typer.echo(
        f"{cohort}: {len(done.written)} written, {len(done.finished_before)} finished before, {len(done.failed)} failed"
    )
    tell_failures(done.failed)
