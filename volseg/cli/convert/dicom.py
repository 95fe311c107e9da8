"""`volseg convert dicom`: series, and the RTSTRUCT and DICOM SEG objects drawn on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from volseg.cli.convert.kind import Kind, RawData

_KEY = "{patient}_{series}"


def read(
    raw: Path,
    *,
    modality: Annotated[
        str | None, typer.Option(help="Only series of this modality: CT, MR or PT; needed where there are several.")
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
    key: Annotated[
        str,
        typer.Option(
            help="Pattern of the case keys; fields are {patient}, {session}, {study}, {series}, {modality}, {number}."
        ),
    ] = _KEY,
    keep_ids: Annotated[
        bool, typer.Option("--keep-ids", help="Write patient IDs and file names to tables and messages.")
    ] = False,
    secret_file: Annotated[
        Path | None, typer.Option(help="File whose text keys the words that stand for patients and series.")
    ] = None,
) -> RawData:
    """DICOM files in any folder tree: CT, MR and PET series, with RTSTRUCT and DICOM SEG objects as labels.

    No name, ID, date or UID of a patient gets into the cohort unless --keep-ids is given.
    """
    from volseg.dicom import Dicom, read_secret

    secret = read_secret(secret_file)
    return RawData(
        Dicom(raw, modality=modality, series=series, labels=labels or (), key=key, keep_ids=keep_ids, secret=secret)
    )


KIND = Kind(
    "dicom",
    read,
    'volseg convert dicom data/dicom data/cohort --modality CT --labels "GTV*=tumour"',
    also_called=("dcm", "rtstruct", "dicom_seg", "dicomseg", "pacs"),
)
