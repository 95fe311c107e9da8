"""Pictures of a case: slices, panels, animations, and the viewer of a report."""

from __future__ import annotations

from volseg import names_of_before
from volseg.pictures.case import ReviewCase, read_review_case, window_of
from volseg.pictures.case_picture import CasePicture, draw_case
from volseg.pictures.case_view import CaseView, draw
from volseg.pictures.illustration import animate_training, illustrate, read_case_view
from volseg.pictures.layout import arrange_panels
from volseg.pictures.orientation import PLANES, Plane, plane_of_slices
from volseg.pictures.rendering import Pixels, convenient_scale, panel, panel_size
from volseg.pictures.snapshot import Snapshot, snapshot_path, write_snapshot
from volseg.pictures.viewer import pack_volumes, viewer_data, write_volumes

__all__ = [
    "PLANES",
    "CasePicture",
    "CaseView",
    "Pixels",
    "Plane",
    "ReviewCase",
    "Snapshot",
    "animate_training",
    "arrange_panels",
    "convenient_scale",
    "draw",
    "draw_case",
    "illustrate",
    "pack_volumes",
    "panel",
    "panel_size",
    "plane_of_slices",
    "read_case_view",
    "read_review_case",
    "snapshot_path",
    "viewer_data",
    "window_of",
    "write_snapshot",
    "write_volumes",
]

__getattr__ = names_of_before(__name__)
