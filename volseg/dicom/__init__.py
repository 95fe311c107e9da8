"""DICOM in both directions: series, RTSTRUCT and SEG in; SEG and RTSTRUCT out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import volseg.dicom.beside_dl  # noqa: F401 - pydicom can be imported from then on
from volseg import opened_at_first_use

if TYPE_CHECKING:
    from volseg.dicom.channels import parse_channels
    from volseg.dicom.choice import EVERYTHING, Choice
    from volseg.dicom.export import export_objects
    from volseg.dicom.file import is_apple_double, is_dicom
    from volseg.dicom.identity import KEY, identify, read_secret, word
    from volseg.dicom.image import Stack, read_stack
    from volseg.dicom.index import Index, index_files, scan, series_of, volumes_among
    from volseg.dicom.instance import Series, name_shape
    from volseg.dicom.object_masks import ObjectMasks, fitting_records, read_object_masks, record_fits
    from volseg.dicom.record import Record, read_record, record_of
    from volseg.dicom.rtstruct import write_rtstruct
    from volseg.dicom.segmentation import write_dicom_seg
    from volseg.dicom.series_list import list_series, listed_grid, listed_modality, read_listed, write_list
    from volseg.dicom.source import Dicom
    from volseg.dicom.target import Target, place
    from volseg.dicom.x_ray import read_x_ray

__all__ = [
    "EVERYTHING",
    "KEY",
    "Choice",
    "Dicom",
    "Index",
    "ObjectMasks",
    "Record",
    "Series",
    "Stack",
    "Target",
    "export_objects",
    "fitting_records",
    "identify",
    "index_files",
    "is_apple_double",
    "is_dicom",
    "list_series",
    "listed_grid",
    "listed_modality",
    "name_shape",
    "parse_channels",
    "place",
    "read_listed",
    "read_object_masks",
    "read_record",
    "read_secret",
    "read_stack",
    "read_x_ray",
    "record_fits",
    "record_of",
    "scan",
    "series_of",
    "volumes_among",
    "word",
    "write_dicom_seg",
    "write_list",
    "write_rtstruct",
]

# A conversion need not load what writes objects, nor a prediction of NIfTI files anything of DICOM.
__getattr__ = opened_at_first_use(
    {
        "volseg.dicom.object_masks": (
            "ObjectMasks",
            "fitting_records",
            "read_object_masks",
            "record_fits",
        ),
        "volseg.dicom.channels": ("parse_channels",),
        "volseg.dicom.choice": (
            "EVERYTHING",
            "Choice",
        ),
        "volseg.dicom.export": ("export_objects",),
        "volseg.dicom.file": ("is_apple_double", "is_dicom"),
        "volseg.dicom.identity": (
            "KEY",
            "identify",
            "read_secret",
            "word",
        ),
        "volseg.dicom.image": ("Stack", "read_stack"),
        "volseg.dicom.index": (
            "Index",
            "index_files",
            "scan",
            "series_of",
            "volumes_among",
        ),
        "volseg.dicom.instance": ("Series", "name_shape"),
        "volseg.dicom.record": (
            "Record",
            "read_record",
            "record_of",
        ),
        "volseg.dicom.rtstruct": ("write_rtstruct",),
        "volseg.dicom.segmentation": ("write_dicom_seg",),
        "volseg.dicom.series_list": (
            "list_series",
            "listed_grid",
            "listed_modality",
            "read_listed",
            "write_list",
        ),
        "volseg.dicom.source": ("Dicom",),
        "volseg.dicom.target": (
            "Target",
            "place",
        ),
        "volseg.dicom.x_ray": ("read_x_ray",),
    }
)
