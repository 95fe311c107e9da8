"""What a multi-frame object says of each of its frames, in the keywords of a single image."""

from __future__ import annotations

from pydicom import Dataset

from volseg.dicom.file import DAMAGE, Quiet, items, whole
from volseg.errors import SourceError

PLACE = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
"""What places an image in the patient, and how many numbers each has."""
_GROUPS = (
    "PixelMeasuresSequence",
    "PlaneOrientationSequence",
    "PlanePositionSequence",
    "PixelValueTransformationSequence",
    "SegmentIdentificationSequence",
)
_RESCALE = ("RescaleSlope", "RescaleIntercept", "RescaleType")
# Functional groups hold sequences of sequences, the deepest that of a diffusion gradient's direction.
_MAX_DEPTH = 4


def frame_headers(header: Dataset) -> list[Dataset]:
    """What a multi-frame object says of each frame, in the keywords of a single image (PS3.3 C.7.6.16).

    Raises:
        SourceError: not as many descriptions as frames.
    """
    shared = items(header, "SharedFunctionalGroupsSequence")
    frames = items(header, "PerFrameFunctionalGroupsSequence")
    expected = whole(header, "NumberOfFrames", default=1)
    if len(shared) > 1:
        raise SourceError(f"what its frames share is stated {len(shared)} times, expected once; the file is damaged")
    if len(frames) != expected:
        raise SourceError(f"{len(frames)} frames are described, the header claims {expected}; the file is damaged")
    common = Dataset()
    for keyword in _RESCALE:  # which belong into the functional groups, and stand beside them in some files
        if keyword in header:
            common[keyword] = header[keyword]
    flat: list[Dataset] = []
    for frame in frames:
        merged = Dataset()
        merged.update(common)
        for group in _GROUPS:
            for item in items(frame, group)[:1] or [item for part in shared for item in items(part, group)[:1]]:
                merged.update(item)
        flat.append(merged)
    return flat


def frame_attributes(header: Dataset) -> list[Dataset]:
    """All that an object says of each frame, by keyword: echo time, b-value, phase, kind of image and so on.

    Of sequences within the functional groups the first item counts. A single image says it in its header.

    Raises:
        SourceError: a damaged header.
    """
    if "PerFrameFunctionalGroupsSequence" not in header:
        return [header]
    try:
        with Quiet():
            common = Dataset()
            for part in items(header, "SharedFunctionalGroupsSequence"):
                _gather(part, common, _MAX_DEPTH)
            flat = []
            for frame in items(header, "PerFrameFunctionalGroupsSequence"):
                merged = Dataset()
                merged.update(common)
                _gather(frame, merged, _MAX_DEPTH)
                flat.append(merged)
            return flat
    except DAMAGE as error:
        raise SourceError("the description of the frames cannot be read; the file is damaged") from error


def _gather(dataset: Dataset, into: Dataset, depth: int) -> None:
    """Add the elements of a data set and of the first items of its sequences."""
    for element in dataset:
        if element.VR != "SQ":
            into.add(element)
        elif depth and element.value:
            _gather(element.value[0], into, depth - 1)
