"""Layouts of others, reader beside writer: UW-Madison slices, images, decathlon, Kaggle, 3D Slicer."""

from __future__ import annotations

from volseg.formats.decathlon import Decathlon
from volseg.formats.image_file import MAX_PIXELS, SUFFIXES
from volseg.formats.image_pattern import safe_key
from volseg.formats.images import Images, parse_spacing
from volseg.formats.kaggle import check_submission, write_submission
from volseg.formats.slicer import export_slicer, write_segmentation
from volseg.formats.uw_madison import UwMadison, is_slice, read_scan
from volseg.formats.uw_madison_writer import Row, write_raw, write_scan

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "Decathlon",
    "Images",
    "Row",
    "UwMadison",
    "check_submission",
    "export_slicer",
    "is_slice",
    "parse_spacing",
    "read_scan",
    "safe_key",
    "write_raw",
    "write_scan",
    "write_segmentation",
    "write_submission",
]
