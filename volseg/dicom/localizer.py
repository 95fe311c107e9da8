"""Multi-frame objects that are no volume: localizers, and few frames that look in several directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydicom import Dataset

from volseg.dicom.attributes import of_keyword
from volseg.dicom.choice import Choice
from volseg.dicom.file import numbers, read_header, text
from volseg.dicom.frames import frame_attributes
from volseg.dicom.instance import Instance
from volseg.errors import SourceError

LOCALIZER = "LOCALIZER"
# A localizer has a few frames of each direction. Of longer objects the frames are not looked at before they are read.
_MOST_FRAMES = 64
_SAME_DIRECTION = 0.99  # cosine of the angle between normals


_SEVERAL = "objects whose frames look in several directions, as localizers do"


def no_volume(instance: Instance, choices: Sequence[Choice] = ()) -> str:
    """Why a multi-frame object is no volume, empty where it may be one.

    Args:
        instance: the object.
        choices: volumes that are asked for. Of frames in several directions, those of a stack may be one.
    """
    if LOCALIZER in instance.image_type:
        return "localizers"
    if not instance.enhanced or instance.frames > _MOST_FRAMES:
        return ""
    try:
        frames = frame_attributes(read_header(instance.path))
        if not _several_directions(frames):
            return "localizers" if frames and _all_localizers(frames) else ""
        if _all_localizers(frames):
            return "localizers"
    except SourceError:
        return ""  # which is told where it is read
    if any(_one_direction(frames, choice) for choice in choices):
        return ""
    stacks = {stack for frame in frames if (stack := of_keyword("StackID")(frame)) is not None}
    return f"{_SEVERAL} (--where StackID=1 takes one of their stacks)" if len(stacks) > 1 else _SEVERAL


def _all_localizers(frames: Sequence[Dataset]) -> bool:
    return all(LOCALIZER in text(frame, "FrameType").upper() for frame in frames)


def _several_directions(frames: Sequence[Dataset]) -> bool:
    directions = [numbers(frame, "ImageOrientationPatient", 6) for frame in frames]
    normals = [np.cross(known[:3], known[3:]) for known in directions if known]
    return any(abs(normal @ normals[0]) < _SAME_DIRECTION for normal in normals[1:])


def _one_direction(frames: Sequence[Dataset], choice: Choice) -> bool:
    """Whether the frames of a choice look in one direction; phases, which are counted by place, are not looked at."""
    chosen = replace(choice, phase="")
    if not chosen:
        return False
    try:
        return not _several_directions([frames[number] for number in chosen.chosen(frames, [])])
    except SourceError:
        return False
