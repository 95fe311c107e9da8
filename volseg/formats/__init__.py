"""Layouts of others, reader beside writer: UW-Madison slices, images, decathlon, Kaggle, 3D Slicer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg import opened_at_first_use

if TYPE_CHECKING:
    from volseg.formats.class_masks import ClassMasks
    from volseg.formats.decathlon import Decathlon
    from volseg.formats.image_file import MAX_PIXELS, SUFFIXES
    from volseg.formats.image_pattern import safe_key
    from volseg.formats.images import Images, parse_spacing
    from volseg.formats.imported_predictions import (
        ImportedPredictions,
        encode_exactly,
        encode_named,
        import_predictions,
        needs_import,
        pair_names,
    )
    from volseg.formats.kaggle import check_submission, write_submission
    from volseg.formats.named_masks import (
        NamedMasks,
        names_in_header,
        place_mask,
        read_named_masks,
        slices_as_mask,
        under_old_names,
    )
    from volseg.formats.segmentation_file import SEGMENTATION_SUFFIX, Segment, Segmentation, read_segmentation
    from volseg.formats.slicer import export_slicer, segment_values, write_segmentation
    from volseg.formats.uw_madison import UwMadison, is_slice, read_scan
    from volseg.formats.uw_madison_writer import Row, write_raw, write_scan
    from volseg.formats.value_names import find_table, read_table_names

__all__ = [
    "MAX_PIXELS",
    "SEGMENTATION_SUFFIX",
    "SUFFIXES",
    "ClassMasks",
    "Decathlon",
    "Images",
    "ImportedPredictions",
    "NamedMasks",
    "Row",
    "Segment",
    "Segmentation",
    "UwMadison",
    "check_submission",
    "encode_exactly",
    "encode_named",
    "export_slicer",
    "find_table",
    "import_predictions",
    "is_slice",
    "names_in_header",
    "needs_import",
    "pair_names",
    "parse_spacing",
    "place_mask",
    "read_named_masks",
    "read_scan",
    "read_segmentation",
    "read_table_names",
    "safe_key",
    "segment_values",
    "slices_as_mask",
    "under_old_names",
    "write_raw",
    "write_scan",
    "write_segmentation",
    "write_submission",
]

# A conversion of one layout need not load those of the others, nor what reads TIFF and segmentations.
__getattr__ = opened_at_first_use(
    {
        "volseg.formats.named_masks": (
            "NamedMasks",
            "names_in_header",
            "place_mask",
            "read_named_masks",
            "slices_as_mask",
            "under_old_names",
        ),
        "volseg.formats.class_masks": ("ClassMasks",),
        "volseg.formats.decathlon": ("Decathlon",),
        "volseg.formats.image_file": (
            "MAX_PIXELS",
            "SUFFIXES",
        ),
        "volseg.formats.image_pattern": ("safe_key",),
        "volseg.formats.images": (
            "Images",
            "parse_spacing",
        ),
        "volseg.formats.imported_predictions": (
            "ImportedPredictions",
            "encode_exactly",
            "encode_named",
            "import_predictions",
            "needs_import",
            "pair_names",
        ),
        "volseg.formats.kaggle": (
            "check_submission",
            "write_submission",
        ),
        "volseg.formats.segmentation_file": (
            "SEGMENTATION_SUFFIX",
            "Segment",
            "Segmentation",
            "read_segmentation",
        ),
        "volseg.formats.slicer": (
            "export_slicer",
            "segment_values",
            "write_segmentation",
        ),
        "volseg.formats.uw_madison": (
            "UwMadison",
            "is_slice",
            "read_scan",
        ),
        "volseg.formats.uw_madison_writer": (
            "Row",
            "write_raw",
            "write_scan",
        ),
        "volseg.formats.value_names": (
            "find_table",
            "read_table_names",
        ),
    }
)
