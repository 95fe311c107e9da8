"""Small DICOM objects for the tests: series, multi-frame images, outlines; whole, until a test breaks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RTStructureSetStorage,
    generate_uid,
)

KINDS = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "PT": PositronEmissionTomographyImageStorage,
    "CR": ComputedRadiographyImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
    "MG": DigitalMammographyXRayImageStorageForPresentation,
}
PATIENT = {"PatientName": "Lovelace^Ada", "PatientID": "MRN-4711", "PatientBirthDate": "18151210", "PatientSex": "F"}
STUDY = "1.2.826.0.1.3680043.8.498.1"


def grid(
    shape: Sequence[int] = (7, 6, 5),
    spacing: Sequence[float] = (0.8, 0.9, 2.5),
    angles: Sequence[float] = (0.0, 0.0, 0.0),
    origin: Sequence[float] = (-31.5, 12.25, -100.0),
) -> np.ndarray:
    """An affine in LPS mm, turned by three angles (radians), right-handed."""
    a, b, c = angles
    turn = np.eye(3)
    for axis, angle in ((0, a), (1, b), (2, c)):
        step = np.eye(3)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    affine[:3, 3] = origin
    return affine


def image(modality: str = "CT", *, series: str = "1", study: str = STUDY, **elements: Any) -> Dataset:
    """An image without pixels or place. `series` is the last part of its UID."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = KINDS.get(modality, CTImageStorage)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for name, value in PATIENT.items():
        setattr(dataset, name, value)
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = f"{study}.{series}"
    dataset.FrameOfReferenceUID = f"{study}.99"
    dataset.StudyDate, dataset.StudyTime = "20240103", "101500"
    dataset.StudyID = dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.Modality = modality
    dataset.SeriesNumber = 3
    dataset.SeriesDescription = "Abdomen"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PositionReferenceIndicator = ""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def set_pixels(dataset: Dataset, pixels: np.ndarray) -> None:
    """Frames [row, column] or [frame, row, column] of an integer type."""
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    content = np.ascontiguousarray(pixels).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"


def place(dataset: Dataset, affine: np.ndarray, z: int) -> None:
    """Where slice z of a grid lies."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing
    dataset.ImagePositionPatient = _decimals(affine[:3, 3] + z * affine[:3, 2])
    dataset.ImageOrientationPatient = _decimals([*directions[:, 0], *directions[:, 1]])
    dataset.PixelSpacing = _decimals([spacing[1], spacing[0]])
    dataset.SliceThickness = _decimals([spacing[2]])[0]


def series(
    voxels: np.ndarray, affine: np.ndarray | None = None, modality: str = "CT", **elements: Any
) -> list[Dataset]:
    """Single images of a volume [X, Y, Z] on a grid in LPS mm, slice after slice."""
    affine = grid() if affine is None else affine
    found = []
    for z in range(voxels.shape[2]):
        dataset = image(modality, **elements)
        dataset.InstanceNumber = z + 1
        place(dataset, affine, z)
        set_pixels(dataset, voxels[:, :, z].T)
        found.append(dataset)
    return found


def multi_frame(voxels: np.ndarray, affine: np.ndarray | None = None, **elements: Any) -> Dataset:
    """An enhanced CT of a volume [X, Y, Z]; its frames are stored from the last slice to the first."""
    affine = grid() if affine is None else affine
    dataset = image("CT", **elements)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    dataset.NumberOfFrames = voxels.shape[2]
    frames = []
    for z in reversed(range(voxels.shape[2])):
        whole, position = Dataset(), Dataset()
        place(whole, affine, z)
        position.ImagePositionPatient = whole.ImagePositionPatient
        frame = Dataset()
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    measures, orientation, meaning, shared = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = whole.PixelSpacing, whole.SliceThickness
    orientation.ImageOrientationPatient = whole.ImageOrientationPatient
    meaning.RescaleSlope, meaning.RescaleIntercept, meaning.RescaleType = 1, -1024, "HU"
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelValueTransformationSequence = [meaning]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = frames
    set_pixels(dataset, voxels.transpose(2, 1, 0)[::-1])
    return dataset


def structure_set(
    of: Sequence[Dataset], rois: dict[str, list[np.ndarray]], *, images: bool = True, date: str = "20240104"
) -> Dataset:
    """An RTSTRUCT with outlines (n, 3) in LPS mm by name, drawn on a series, whose patient and study it has."""
    dataset = image("RTSTRUCT", series="50", study=of[0].StudyInstanceUID)
    for name in (*PATIENT, "StudyDate", "FrameOfReferenceUID"):
        if name in of[0]:
            setattr(dataset, name, of[0][name].value)
        else:
            delattr(dataset, name)
    for name in ("SamplesPerPixel", "PhotometricInterpretation", "ImageType"):
        delattr(dataset, name)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    dataset.StructureSetLabel, dataset.StructureSetDate, dataset.StructureSetTime = "drawn", date, "080000"
    one, study, frame = Dataset(), Dataset(), Dataset()
    one.SeriesInstanceUID = of[0].SeriesInstanceUID
    one.ContourImageSequence = []
    for source in of:
        reference = Dataset()
        reference.ReferencedSOPClassUID = source.SOPClassUID
        reference.ReferencedSOPInstanceUID = source.SOPInstanceUID if images else generate_uid()
        one.ContourImageSequence.append(reference)
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", of[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [one]
    frame.FrameOfReferenceUID = of[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence, dataset.ROIContourSequence, dataset.RTROIObservationsSequence = [], [], []
    for number, (name, contours) in enumerate(rois.items(), start=1):
        roi, outline, seen = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, name, "MANUAL"
        roi.ReferencedFrameOfReferenceUID = of[0].FrameOfReferenceUID
        outline.ReferencedROINumber, outline.ROIDisplayColor = number, [10 * number, 20, 30]
        outline.ContourSequence = []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = _decimals(points.ravel())
            outline.ContourSequence.append(contour)
        seen.ObservationNumber = seen.ReferencedROINumber = number
        seen.RTROIInterpretedType = seen.ROIInterpreter = ""
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(outline)
        dataset.RTROIObservationsSequence.append(seen)
    return dataset


def square(affine: np.ndarray, low: float, high: float, z: float) -> np.ndarray:
    """The outline of the square from `low` to `high` in voxels along X and Y, on slice z: (4, 3) in LPS mm."""
    corners = np.array([[low, low, z, 1], [high, low, z, 1], [high, high, z, 1], [low, high, z, 1]])
    return (corners @ affine.T)[:, :3]


def save(folder: Path, datasets: Sequence[Dataset], name: Callable[[int], str] = "{:03d}.dcm".format) -> list[Path]:
    """Write objects; `name` gives the path of the n-th one below the folder."""
    paths = []
    for count, dataset in enumerate(datasets):
        path = folder / name(count)
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def noise(shape: Sequence[int] = (7, 6, 5), dtype: Any = np.int16, seed: int = 0) -> np.ndarray:
    """Voxels in which no two slices are alike."""
    return np.random.default_rng(seed).integers(0, 200, tuple(shape)).astype(dtype)


def _decimals(values: Any) -> list[str]:
    """As DICOM's DS has them: at most 16 characters."""
    return [f"{value:.10f}"[:16] for value in np.asarray(values, dtype=float).ravel()]
