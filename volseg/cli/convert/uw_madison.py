"""`volseg convert uw_madison`: the slices and run lengths of the UW-Madison GI tract competition."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from volseg.cli.convert.kind import Kind, RawData


def read(
    raw: Path,
    *,
    case: Annotated[
        list[str] | None,
        typer.Option(help="Only this patient (case123) or case (case123_day20); may be repeated."),
    ] = None,
    thickness_mm: Annotated[float, typer.Option(help="Distance between slices in mm, which no file states.")] = 3.0,
    axes: Annotated[
        str | None,
        typer.Option(
            help="Where columns, rows and slices point to, as three letters; LPI (left, back, feet) by default."
        ),
    ] = None,
) -> RawData:
    """Slices of the UW-Madison GI tract competition: 16-bit PNG files, and masks as run lengths in train.csv.

    RAW is the folder that holds train.csv and train/, or the one above it; any subset of the scans will do.
    """
    from volseg.formats import UwMadison

    return RawData(UwMadison(raw, cases=case or None, thickness_mm=thickness_mm, axes=axes))


KIND = Kind(
    "uw_madison",
    read,
    "volseg convert uw_madison data/uw-madison data/cohort --case case123",
    also_called=("uwmadison", "uw", "madison", "gi_tract", "kaggle", "slices", "phantom"),
)
