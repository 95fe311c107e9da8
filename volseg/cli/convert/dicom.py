"""`volseg convert dicom`: series, and the RTSTRUCT and DICOM SEG objects drawn on them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from volseg.cli.convert.kind import Kind, RawData
from volseg.cli.shared_options import BValue, Echo, ImageType, Phase, Where

_KEY = "{patient}_{series}"
_CHANNELS = "Options for several series per case"


def read(
    raw: Path,
    *,
    modality: Annotated[
        str | None,
        typer.Option(
            help="Only series of this modality: CT, MR or PT; needed where there are several. It also decides which "
            "series a drawing labels that may belong to several."
        ),
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="Only series whose description matches this regular expression, in any case.")
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|PATTERN=NAME,...",
            help="The regions to take, chosen, renamed or united, as 'GTV*=tumour,Liver'; may be repeated; all by "
            "default.",
        ),
    ] = None,
    overlaps: Annotated[
        bool,
        typer.Option(
            "--overlaps",
            help="Keep the overlaps of more than 8 regions too: each combination that occurs gets a value, for which "
            "all drawings are read twice.",
        ),
    ] = False,
    key: Annotated[
        str,
        typer.Option(
            help="Pattern of the case keys; fields are {patient}, {session}, {study}, {series}, {modality}, {number}."
        ),
    ] = _KEY,
    keep_ids: Annotated[
        bool, typer.Option("--keep-ids", help="Write patient IDs and file names to tables and messages.")
    ] = False,
    carry_over: Annotated[
        bool,
        typer.Option(
            "--carry-over",
            help="Label a series that has no outlines of its own with those of another series or day of the patient "
            "that lie on its grid, with a warning.",
        ),
    ] = False,
    secret_file: Annotated[
        Path | None, typer.Option(help="File whose text keys the words that stand for patients and series.")
    ] = None,
    echo: Echo = None,
    phase: Phase = None,
    b_value: BValue = None,
    image_type: ImageType = None,
    where: Where = None,
    channels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATTERN,...",
            rich_help_panel=_CHANNELS,
            help="The series of each study and day that are the channels of a case, by a pattern of SeriesDescription "
            "or ProtocolName, as 'T1=*t1*,T2=*t2*,DWI=*dwi*@b-value=800'; behind @ also echo, phase, image-type, "
            "modality. Keys are {patient}_{study} by default.",
        ),
    ] = None,
    resample_channels: Annotated[
        bool,
        typer.Option(
            "--resample-channels",
            rich_help_panel=_CHANNELS,
            help="Resample channels that lie on other voxels to those of the first, linearly; else they are refused.",
        ),
    ] = False,
) -> RawData:
    """DICOM files in any folder tree: CT, MR and PET series, with RTSTRUCT and DICOM SEG objects as labels.

    No name, ID, date or UID of a patient gets into the cohort unless --keep-ids is given.
    """
    from volseg.cli.bar import bar
    from volseg.dicom import Dicom, read_secret

    secret = read_secret(secret_file)
    with bar("overlaps") if overlaps else nullcontext() as progress:
        source = Dicom(
            raw,
            modality=modality,
            series=series,
            labels=labels or (),
            key=key,
            keep_ids=keep_ids,
            carry_over=carry_over,
            secret=secret,
            echo=echo,
            phase=phase,
            b_value=b_value,
            image_type=image_type,
            where=where or (),
            channels=channels or (),
            resample_channels=resample_channels,
            overlaps=overlaps,
            progress=progress,
        )
    return RawData(source)


KIND = Kind(
    "dicom",
    read,
    'volseg convert dicom data/dicom data/cohort --modality CT --labels "GTV*=tumour"',
    also_called=("dcm", "rtstruct", "dicom_seg", "dicomseg", "pacs"),
)
