"""`volseg convert class_masks`: a folder per case with one mask per class."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from volseg.cli.convert.kind import Kind, RawData


def read(
    raw: Path,
    *,
    image: Annotated[
        str | None,
        typer.Option(help="Name of the image in each folder, without its ending, as ct; by default a usual name."),
    ] = None,
    class_: Annotated[
        list[str] | None, typer.Option("--class", help="Only this class; may be repeated; all by default.")
    ] = None,
    overlaps: Annotated[
        bool,
        typer.Option(
            help="Keep voxels that belong to several classes; of more than 8 classes all masks are then read twice."
        ),
    ] = False,
) -> RawData:
    """A folder per case with one mask per class, as TotalSegmentator's data.

    The masks lie in segmentations/, masks/, labels/ or seg/ beside the image, or in the image's own folder.
    """
    from volseg.cli.bar import bar
    from volseg.formats import ClassMasks

    with bar("overlaps") if overlaps else nullcontext() as progress:
        source = ClassMasks(raw, image=image, classes=class_ or (), keep_overlaps=overlaps, progress=progress)
    return RawData(source)


KIND = Kind(
    "class_masks",
    read,
    "volseg convert class_masks data/totalsegmentator data/cohort --class liver --class spleen",
    also_called=("totalsegmentator", "total_segmentator", "masks", "segmentations"),
)
