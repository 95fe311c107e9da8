"""Multi-frame objects that are no volume: localizers, and few frames that look in several directions."""

from __future__ import annotations

import numpy as np

from volseg.dicom.file import numbers, read_header, text
from volseg.dicom.frames import frame_attributes
from volseg.dicom.instance import Instance
from volseg.errors import SourceError

LOCALIZER = "LOCALIZER"
# A localizer has a few frames of each direction. Of longer objects the frames are not looked at before they are read.
_MOST_FRAMES = 64
_SAME_DIRECTION = 0.99  # cosine of the angle between normals


def no_volume(instance: Instance) -> str:
    """Why a multi-frame object is no volume, empty where it may be one."""
    if LOCALIZER in instance.image_type:
        return "localizers"
    if not instance.enhanced or instance.frames > _MOST_FRAMES:
        return ""
    try:
        frames = frame_attributes(read_header(instance.path))
        directions = [numbers(frame, "ImageOrientationPatient", 6) for frame in frames]
    except SourceError:
        return ""  # which is told where it is read
    if frames and all(LOCALIZER in text(frame, "FrameType").upper() for frame in frames):
        return "localizers"
    normals = [np.cross(known[:3], known[3:]) for known in directions if known]
    if len(normals) > 1 and any(abs(normal @ normals[0]) < _SAME_DIRECTION for normal in normals[1:]):
        return "objects whose frames look in several directions, as localizers do"
    return ""
