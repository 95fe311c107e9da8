"""`volseg convert images`: folders of images with masks."""

from __future__ import annotations

from contextlib import nullcontext
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from volseg.cli.convert.kind import Kind, RawData


class Colour(str, Enum):
    """Channels of images."""

    auto = "auto"
    rgb = "rgb"
    grey = "grey"


class Objects(str, Enum):
    """How objects are told apart in masks."""

    files = "files"
    values = "values"


class Missing(str, Enum):
    """What an image without mask means."""

    refuse = "refuse"
    unlabelled = "unlabelled"
    empty = "empty"


def read(
    raw: Path,
    *,
    images: Annotated[
        str, typer.Option(help="Pattern of the images below RAW, as 'images/{key}.jpg'; quote it.")
    ] = "**/{key}.*",
    masks: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[REGION=]PATTERN",
            help="Pattern of the masks below RAW, as 'lung=masks/{key}_*.png'; may be repeated.",
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE|NAME=#rrggbb",
            help="A class of masks that hold several, by value or by colour; may be repeated.",
        ),
    ] = None,
    threshold: Annotated[
        int | None,
        typer.Option(min=1, help="Masks are marked from this value on; by default 128 in JPEG files and 1 in others."),
    ] = None,
    objects: Annotated[
        Objects | None,
        typer.Option(help="Keep objects apart: files, one object per mask file; values, one per value of a mask."),
    ] = None,
    colour: Annotated[
        Colour,
        typer.Option(help="rgb: three channels; grey: luminance; auto: three where any file is stored in colour."),
    ] = Colour.auto,
    spacing_mm: Annotated[
        str | None,
        typer.Option(
            metavar="MM|X,Y|X,Y,Z",
            help="Size of a pixel in mm, and distance between slices; by default what the files state, else 1.",
        ),
    ] = None,
    missing: Annotated[
        Missing,
        typer.Option(
            help="What an image without mask is: refuse, a failed case; unlabelled, a case without label; empty, a "
            "case in which nothing is marked."
        ),
    ] = Missing.refuse,
    validation: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of images to validate on, as '*03.tif'; then there is one fold; may be repeated."),
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of images to keep out of all folds, as 'test/**'; may be repeated."),
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Number of pixels above which an image is refused; 89478485 by default.")
    ] = None,
    overlaps: Annotated[
        bool,
        typer.Option(
            "--overlaps",
            help="Keep the overlaps of more than 8 regions too: each combination that occurs gets a value, for which "
            "all masks are read twice.",
        ),
    ] = False,
    axes: Annotated[
        str | None,
        typer.Option(
            help="Where columns, rows and the third axis point to, as three letters; LPS by default, with a warning in "
            "cases.csv."
        ),
    ] = None,
) -> RawData:
    """Images with masks (PNG, JPEG, TIFF, X-rays in DICOM and others): X-rays, microscopy, stacks of slices.

    Patterns are of paths below RAW: {key} pairs an image with its masks, {patient} names what must not be split, *
    and ? stand for letters, ** for any folders.
    """
    from volseg.cli.bar import bar
    from volseg.dicom import read_x_ray
    from volseg.formats import MAX_PIXELS, Images, parse_spacing

    with bar("overlaps") if overlaps else nullcontext() as progress:
        source = Images(
            raw,
            images=images,
            masks=masks or (),
            classes=classes or (),
            threshold=threshold,
            objects=objects.value if objects else None,
            colour=colour.value,
            spacing_mm=parse_spacing(spacing_mm) if spacing_mm else None,
            missing=missing.value,
            validation=validation or (),
            test=test or (),
            max_pixels=max_pixels or MAX_PIXELS,
            axes=axes,
            read_dicom=read_x_ray,
            overlaps=overlaps,
            progress=progress,
        )
    return RawData(source, validation=source.validation)


KIND = Kind(
    "images",
    read,
    "volseg convert images data/lungs data/cohort --colour grey --images 'images/{key}.png' "
    "--masks 'lung=masks/{key}.png'",
    also_called=("image", "png", "jpg", "jpeg", "tif", "tiff", "pictures"),
)
