"""RT Structure Set objects: a prediction as closed outlines that a planning system reads.

Such an object is made for the archive or planning system that the series came from. So it carries the patient and study
of the series, as the standard demands; nothing else that volseg writes does.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset, Sequence
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

import volseg
from volseg.dicom.file import Quiet
from volseg.dicom.image import Slice
from volseg.dicom.outlines import outlines
from volseg.dicom.target import Target, check_names, save
from volseg.errors import SourceError
from volseg.labels import Code, LabelTable, Region
from volseg.volume import ras_to_lps

_DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"
_SERIES_NUMBER = 301
_LONGEST_DESCRIPTION = 1024  # letters that the VR ST holds
_LONGEST_VALUE = 16  # letters that the VR SH holds
# What says whose image it is and of which study: the patient, general study and frame of reference modules.
_FROM_SERIES = (
    *("SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
    *("StudyDescription", "FrameOfReferenceUID"),
)


@Quiet()
def write_rtstruct(path: Path, target: Target, labels: LabelTable) -> None:
    """Write a label map as outlines (CLOSED_PLANAR), one region of interest a region, on every slice that it reaches.

    Each outline encloses exactly the centres of the voxels (see `volseg.dicom.outlines`); holes are keyholes. A voxel
    that belongs to several regions is in the outlines of each. Regions without a voxel are left out. Points are
    rounded to 0.0001 mm.

    Args:
        path: `.dcm`.
        target: the series, and the label map on its slices.
        labels: the regions.

    Raises:
        LabelError: no voxel, a value that is not declared, or a name that is too long.
        SourceError: a series that no object can refer to.
    """
    if target.stack.flat:
        raise SourceError("an X-ray image has no place in the patient for outlines to lie in; export dicom-seg instead")
    target = target.checked(labels)
    regions = target.present(labels)
    check_names(regions, target.headers[0])
    now = datetime.now()
    dataset = _head(target, now)
    frame_uid = str(dataset.FrameOfReferenceUID)
    dataset.StructureSetLabel = "volseg"
    dataset.StructureSetDate, dataset.StructureSetTime = _day(now), _time(now)
    dataset.ReferencedFrameOfReferenceSequence = Sequence([_references(target, frame_uid)])
    dataset.StructureSetROISequence = Sequence()
    dataset.ROIContourSequence = Sequence()
    dataset.RTROIObservationsSequence = Sequence()
    for number, region in enumerate(regions, start=1):
        roi, outline, seen = Dataset(), Dataset(), Dataset()
        roi.ROINumber = number
        roi.ReferencedFrameOfReferenceUID = frame_uid
        roi.ROIName = region.name
        roi.ROIGenerationAlgorithm = "AUTOMATIC"
        if region.description:
            roi.ROIDescription = region.description[:_LONGEST_DESCRIPTION]
        outline.ReferencedROINumber = number
        outline.ROIDisplayColor = list(region.colour)
        with Quiet():  # numbers that were just formatted need no validation, which is most of the time
            outline.ContourSequence = Sequence(_contours(target, region))
        seen.ObservationNumber = number
        seen.ReferencedROINumber = number
        seen.RTROIIdentificationCodeSequence = Sequence([_term(region.code)])
        seen.RTROIInterpretedType = ""
        seen.ROIInterpreter = ""
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(outline)
        dataset.RTROIObservationsSequence.append(seen)
    save(path, dataset)


def _head(target: Target, now: datetime) -> Dataset:
    """Whose object it is, what made it and when."""
    source = target.headers[0]
    dataset = Dataset()
    with Quiet():
        for name in _FROM_SERIES:
            if name in source:
                dataset[name] = source[name]
    dataset.PositionReferenceIndicator = source.get("PositionReferenceIndicator", "")
    dataset.file_meta = FileMetaDataset()
    # Implicit: with explicit VR an outline of more than 65534 bytes has no room for its length (PS3.3 C.8.8.6).
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = _day(now), _time(now)
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesInstanceUID = generate_uid()
    dataset.SeriesNumber = _SERIES_NUMBER
    dataset.SeriesDescription = "volseg outlines"
    dataset.OperatorsName = ""
    dataset.Manufacturer = "volseg"
    dataset.ManufacturerModelName = "volseg"
    dataset.SoftwareVersions = volseg.__version__
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def _references(target: Target, frame_uid: str) -> Dataset:
    """All images of the series, in the order of the slices."""
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = target.headers[0].SeriesInstanceUID
    whole = {item.path: item for item in target.stack.slices}
    series.ContourImageSequence = Sequence([_image(item) for item in whole.values()])
    study.ReferencedSOPClassUID = _DETACHED_STUDY
    study.ReferencedSOPInstanceUID = target.headers[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = Sequence([series])
    frame.FrameOfReferenceUID = frame_uid
    frame.RTReferencedStudySequence = Sequence([study])
    return frame


def _image(item: Slice) -> Dataset:
    image = Dataset()
    image.ReferencedSOPClassUID = item.sop_class
    image.ReferencedSOPInstanceUID = item.sop_uid
    return image


def _contours(target: Target, region: Region) -> Iterator[Dataset]:
    """The outlines of one region, slice after slice."""
    to_lps = ras_to_lps(target.stack.affine_ras)
    mask = np.isin(target.label_map, region.values)
    multi = len(target.headers) == 1 or len(target.headers) < len(target.stack.slices)
    for z in np.flatnonzero(mask.any(axis=(0, 1))).tolist():
        image = _image(target.stack.slices[z])
        if multi:
            image.ReferencedFrameNumber = target.stack.slices[z].frame + 1
        for pixels in outlines(mask[:, :, z]):
            points = np.column_stack([pixels, np.full(len(pixels), z)]) @ to_lps[:3, :3].T + to_lps[:3, 3]
            contour = Dataset()
            contour.ContourImageSequence = Sequence([image])
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{value:.4f}" for value in points.ravel().tolist()]
            yield contour


def _term(code: Code) -> Dataset:
    term = Dataset()
    term.CodingSchemeDesignator, term.CodeMeaning = code.scheme, code.meaning
    # National extensions of SNOMED CT have values of up to 18 digits.
    setattr(term, "CodeValue" if len(code.value) <= _LONGEST_VALUE else "LongCodeValue", code.value)
    return term


def _day(now: datetime) -> str:
    return now.strftime("%Y%m%d")


def _time(now: datetime) -> str:
    return now.strftime("%H%M%S")
