"""DICOM Segmentation objects: a prediction as a binary SEG that refers to the slices it was drawn on.

Such an object is made for the archive that the series came from. So it carries the patient and study of the series, as
the standard demands; nothing else that volseg writes does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.datadict import keyword_dict

import volseg
from volseg.dicom.file import DAMAGE, Quiet, items, text
from volseg.dicom.segments import has_highdicom
from volseg.dicom.target import Target, check_names, save
from volseg.errors import SourceError, UsageError
from volseg.labels import ANATOMY, TISSUE, LabelTable, Region

_SERIES_NUMBER = 300
_LONGEST_DESCRIPTION = 1024  # letters that the VR ST holds
_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"


@Quiet()
def write_dicom_seg(path: Path, target: Target, labels: LabelTable) -> None:
    """Write a label map as a BINARY segmentation: one segment a region, frames only where it has a voxel.

    A voxel that belongs to several regions is in the segment of each. Regions without a voxel are left out: a segment
    without a frame is nothing that all readers take. Names, colours and codes are those of the table, and so is the
    description, as Segment Description (0062,0006), which the standard has for free text.

    Args:
        path: `.dcm`.
        target: the series, and the label map on its slices.
        labels: the regions.

    Raises:
        LabelError: no voxel, a value that is not declared, or a name that is too long.
        SourceError: a series that no object can refer to.
        UsageError: highdicom is not installed.
    """
    if not has_highdicom():
        raise UsageError(
            "DICOM SEG needs highdicom, which is not installed: on Python 3.14 its dependency pyjpegls is compiled; "
            "get a C++ compiler and `pip install 'volseg[seg]'`, or export RTSTRUCT"
        )
    from highdicom import UID, AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code as Term

    target = target.checked(labels)
    regions = target.present(labels)
    check_names(regions, target.headers[0])
    headers, frames = target.headers, _frames_in_file(target)
    if len(headers) > 1 and any(_PER_FRAME in header for header in headers):
        raise SourceError(
            f"the series is one image in {len(headers)} objects (a concatenation), to which a segmentation cannot "
            "refer; join the parts first, or export RTSTRUCT"
        )
    algorithm = AlgorithmIdentificationSequence(
        name="volseg", version=volseg.__version__, family=codes.DCM.ArtificialIntelligence
    )
    descriptions = []
    for number, region in enumerate(regions, start=1):
        category = region.code if region.code.value == TISSUE.value else ANATOMY
        term, kind = (Term(code.value, code.scheme, code.meaning) for code in (region.code, category))
        descriptions.append(
            SegmentDescription(
                segment_number=number,
                segment_label=region.name,
                segmented_property_category=kind,
                segmented_property_type=term,
                algorithm_type="AUTOMATIC",
                algorithm_identification=algorithm,
                display_color=CIELabColor.from_rgb(*region.colour),
            )
        )
        if region.description:
            descriptions[-1].SegmentDescription = region.description[:_LONGEST_DESCRIPTION]
    try:
        with Quiet():
            segmentation = Segmentation(
                source_images=[_of_frames(headers[0], frames)] if frames else _with_thickness(target),
                pixel_array=_frames(target, regions),
                segmentation_type=SegmentationTypeValues.BINARY,
                segment_descriptions=descriptions,
                series_instance_uid=UID(),
                series_number=_SERIES_NUMBER,
                sop_instance_uid=UID(),
                instance_number=1,
                manufacturer="volseg",
                manufacturer_model_name="volseg",
                software_versions=volseg.__version__,
                device_serial_number="0",
                series_description="volseg segmentation",
                omit_empty_frames=True,
            )
            _refer_to(segmentation, frames)
    except DAMAGE as error:
        raise SourceError(f"the series cannot carry a segmentation: {_reason(error)}") from error
    save(path, segmentation)


def _frames(target: Target, regions: list[Region]) -> NDArray[np.uint8]:
    """What highdicom takes: (frame, row, column) segment numbers, or one channel a segment where regions overlap.

    Frames are in the order of the slices; in a multi-frame object, in that of its frames.
    """
    places = {item.frame: z for z, item in enumerate(target.stack.slices)}
    order = [places[frame] for frame in _frames_in_file(target)] or list(range(target.label_map.shape[2]))
    slices = target.label_map.transpose(2, 1, 0)[order]  # [X, Y, Z] to [slice, row, column]
    belongs = np.zeros((256, len(regions)), dtype=np.uint8)
    for number, region in enumerate(regions):
        belongs[list(region.values), number] = 1
    if (belongs[np.unique(slices)].sum(axis=1) > 1).any():
        return np.take(belongs, slices, axis=0)
    numbers = (belongs * np.arange(1, len(regions) + 1, dtype=np.uint8)).max(axis=1)
    return np.take(numbers, slices)


def _frames_in_file(target: Target) -> list[int]:
    """The frames of a multi-frame object that are the slices, from 0, in the order of the file; none of other series.

    An object may hold several volumes, of which the slices are one.
    """
    multi = len(target.headers) == 1 and _PER_FRAME in target.headers[0]
    return sorted(item.frame for item in target.stack.slices) if multi else []


def _with_thickness(target: Target) -> list[Dataset]:
    """The headers of a series of single images; those without a thickness, which highdicom asks for, with a distance.

    A voxel of the segmentation reaches as far as the slices are apart, whatever the thickness of the scan was.
    """
    distance_mm = float(np.linalg.norm(target.stack.affine_ras[:3, 2]))
    found = []
    for header in target.headers:
        stated = header
        if not target.stack.flat and not text(header, "SliceThickness"):
            stated = Dataset()
            stated.update(header)
            stated.SliceThickness = f"{distance_mm:.6g}"
        found.append(stated)
    return found


def _of_frames(header: Dataset, frames: Sequence[int]) -> Dataset:
    """The header of a multi-frame object as if it held some of its frames alone, with their place and nothing else.

    highdicom takes a segmentation of all frames of an object only, whose pixel size and orientation are shared.

    Args:
        header: Header of the object, which stays as it is.
        frames: Frames from 0, of one geometry.
    """
    shared, described = items(header, _SHARED), items(header, _PER_FRAME)

    def stated(frame: int, keywords: Sequence[str]) -> Dataset:
        found = Dataset()
        for keyword in keywords:
            found[keyword] = next(group[keyword] for group in (described[frame], *shared) if keyword in group)
        return found

    reduced = Dataset()
    reduced.update(header)
    reduced.NumberOfFrames = len(frames)
    setattr(reduced, _SHARED, [stated(frames[0], ("PixelMeasuresSequence", "PlaneOrientationSequence"))])
    setattr(reduced, _PER_FRAME, [stated(frame, ("PlanePositionSequence",)) for frame in frames])
    return reduced


def _refer_to(segmentation: Dataset, frames: Sequence[int]) -> None:
    """Refer to the frames of a multi-frame object by their numbers in the whole object."""
    stated = [
        image
        for group in (items(segmentation, _PER_FRAME) if frames else ())
        for derived in items(group, "DerivationImageSequence")
        for image in items(derived, "SourceImageSequence")
    ]
    for image in {id(image): image for image in stated}.values():  # frames of several segments share one
        image.ReferencedFrameNumber = frames[int(image.ReferencedFrameNumber) - 1] + 1


def _reason(error: BaseException) -> str:
    """The attributes that an error of highdicom names, and its kind: the text may quote values of the patient."""
    named = [name for name in re.findall(r"[A-Z][A-Za-z]+", str(error)) if keyword_dict.get(name)]
    return ", ".join([*dict.fromkeys(named), type(error).__name__])
