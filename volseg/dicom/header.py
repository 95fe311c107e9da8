"""What the header of a file says of where it belongs: patient, study, series, place, day."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset

from volseg.dicom.file import numbers, plain, text, whole
from volseg.dicom.instance import Instance, known_modality
from volseg.dicom.mosaic import IMAGES_IN_MOSAIC, SIEMENS, images_in_mosaic
from volseg.errors import SourceError

TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"),
    *("PatientID", "PatientName", "PatientBirthDate", "StudyDate", "StudyTime", "Modality", "SeriesNumber"),
    *("SeriesDescription", "ImageType", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    "PhotometricInterpretation",
    *("ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber", "ImagesInAcquisition", "NumberOfSlices"),
    *("PatientSex", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "SeriesDate", "SeriesTime"),
    *("ContentDate", "ContentTime"),
    *("ProtocolName", "Units", SIEMENS, IMAGES_IN_MOSAIC),
    *("ConcatenationUID", "InConcatenationNumber", "InConcatenationTotalNumber"),
)

"""Elements that are read of each file; the others follow where a series is read."""


def sop_class_of(header: Dataset) -> str:
    """The kind of object; where the data set leaves it empty, the file's own meta header has it."""
    return plain(header, "SOPClassUID") or text(header.file_meta, "MediaStorageSOPClassUID")


def instance_of(path: Path, name: str, header: Dataset) -> Instance:
    """What a header says of where its object belongs.

    Args:
        path: the file.
        name: its path below the folder.
        header: its elements, those of `TAGS` at least.

    Raises:
        SourceError: a damaged header.
    """
    sop_class = sop_class_of(header)
    if not sop_class:
        raise SourceError("the file does not say what kind of object it is (SOP class); it is damaged")
    position = numbers(header, "ImagePositionPatient", 3)
    image_type = text(header, "ImageType").upper()
    person = (text(header, "PatientName"), plain(header, "PatientBirthDate"), plain(header, "PatientSex"))
    return Instance(
        path=path,
        name=name,
        sop_class=sop_class,
        sop_uid=plain(header, "SOPInstanceUID") or text(header.file_meta, "MediaStorageSOPInstanceUID"),
        series_uid=plain(header, "SeriesInstanceUID"),
        study_uid=plain(header, "StudyInstanceUID"),
        frame_uid=plain(header, "FrameOfReferenceUID"),
        patient=text(header, "PatientID") or "".join(person[:2]),
        study_date=plain(header, "StudyDate"),
        modality=known_modality(plain(header, "Modality")),
        number=_count(header, "SeriesNumber", ""),
        description=text(header, "SeriesDescription"),
        image_type=image_type,
        frames=whole(header, "NumberOfFrames", default=1),
        samples=3 if _is_palette(header) else whole(header, "SamplesPerPixel", default=1),
        rows=whole(header, "Rows"),
        columns=whole(header, "Columns"),
        placed=None not in (position, numbers(header, "ImageOrientationPatient", 6)),
        order=int(order) if (order := _count(header, "InstanceNumber", "")) else None,
        stated=int(_count(header, "NumberOfSlices", "") or _count(header, "ImagesInAcquisition", "0")),
        position_lps=position or (),
        person=person,
        acquired=_acquired(header, image_type),
        begun=_begun(header),
        protocol=text(header, "ProtocolName") if "ProtocolName" in header else "",
        units=plain(header, "Units"),
        mosaic="MOSAIC" in image_type or images_in_mosaic(header) > 1,
        concatenation=plain(header, "ConcatenationUID"),
        part_number=whole(header, "InConcatenationNumber"),
        parts=whole(header, "InConcatenationTotalNumber"),
    )


def _is_palette(header: Dataset) -> bool:
    """Whether the numbers of an image stand for colours of a table."""
    return plain(header, "PhotometricInterpretation").startswith("PALETTE")


def _acquired(header: Dataset, image_type: str) -> str:
    """Day and time of acquisition, as one text; of an original image without them those of its series or content."""
    day = plain(header, "AcquisitionDate")
    if day:
        return day + plain(header, "AcquisitionTime")
    stamp = plain(header, "AcquisitionDateTime")
    if stamp:
        return stamp
    if "DERIVED" in image_type:
        return ""
    for kind in ("Series", "Content"):
        day = plain(header, f"{kind}Date")
        if day:
            return day + plain(header, f"{kind}Time")
    return ""


def _begun(header: Dataset) -> str:
    """When study and series began, which all images of a series share; seconds are whole."""
    times = (plain(header, "StudyTime"), plain(header, "SeriesDate"), plain(header, "SeriesTime"))
    return "/".join(time.partition(".")[0] for time in times).strip("/")


def _count(header: Dataset, keyword: str, otherwise: str) -> str:
    """A whole number as text; `otherwise` where it is absent or none, since nothing depends on it alone."""
    try:
        return str(whole(header, keyword)) if text(header, keyword) else otherwise
    except SourceError:
        return otherwise
