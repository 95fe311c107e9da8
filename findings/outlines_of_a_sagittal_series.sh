#!/bin/sh
# An outline of 20 by 10 pixels on the third and the fourth slice of an MR series, as RTSTRUCT. Where the slices are axial, DicomRTTool and
# rt-utils give the same mask. Where they are sagittal or coronal, DicomRTTool's mask is empty, without a word; where the slices are tilted by
# 10 degrees, as for a prostate, it lies on the fourth and the fifth slice. rt-utils has it on the third and the fourth in each.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet DicomRTTool==6.2.0 rt-utils==1.2.7 opencv-python==5.0.0.93 pydicom==3.0.2 SimpleITK==2.5.7 \
    numpy==2.2.6 setuptools
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import math, sys
from importlib.metadata import version
from pathlib import Path
import numpy as np
from DicomRTTool.ReaderWriter import DicomReaderWriter
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, RTStructureSetStorage, generate_uid
from rt_utils import RTStructBuilder


def begun(kind, study, frame, modality):
    """A data set with what images and structure sets share."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, kind, generate_uid()
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = kind, meta.MediaStorageSOPInstanceUID, modality
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, generate_uid(), frame
    data.PatientID = data.PatientName = "phantom"
    data.PatientBirthDate = data.PatientSex = data.StudyID = data.AccessionNumber = data.ReferringPhysicianName = ""
    data.StudyDate, data.StudyTime, data.SeriesNumber, data.InstanceNumber = "20260101", "120000", 1, 1
    data.Manufacturer, data.PositionReferenceIndicator = "phantom", ""
    return data


def item(**elements):
    one = Dataset()
    for name, value in elements.items():
        setattr(one, name, value)
    return one


def written(name, rows, columns):
    """Six slices of 40 x 50 pixels of 2 mm, 3 mm apart, and the outlines on slices 2 and 3, counted from 0."""
    rows, columns, first = np.array(rows), np.array(columns), np.array([-50.0, -60.0, 30.0])
    normal, study, frame, series = np.cross(rows, columns), generate_uid(), generate_uid(), generate_uid()
    Path(name).mkdir()
    images = []
    for k in range(6):
        data = begun(MRImageStorage, study, frame, "MR")
        data.SeriesInstanceUID, data.InstanceNumber, data.ImageType = series, k + 1, ["ORIGINAL", "PRIMARY"]
        data.ImagePositionPatient = [round(value, 6) for value in first + 3 * k * normal]
        data.ImageOrientationPatient = [round(value, 8) for value in (*rows, *columns)]
        data.PixelSpacing, data.SliceThickness = [2, 2], 3
        data.SamplesPerPixel, data.PhotometricInterpretation, data.Rows, data.Columns = 1, "MONOCHROME2", 40, 50
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 1
        data.PixelData = np.full((40, 50), 100 * k, np.int16).tobytes()
        data.save_as(Path(name, f"{k}.dcm"), enforce_file_format=True)
        images.append(item(ReferencedSOPClassUID=MRImageStorage, ReferencedSOPInstanceUID=data.SOPInstanceUID))
    contours = []
    for k in (2, 3):
        points = [first + 3 * k * normal + 2 * x * rows + 2 * y * columns for x, y in ((9.6, 9.6), (29.4, 9.6), (29.4, 19.4), (9.6, 19.4))]
        contours.append(item(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=4, ContourImageSequence=[images[k]],
                             ContourData=[round(float(value), 4) for point in points for value in point]))
    drawn = begun(RTStructureSetStorage, study, frame, "RTSTRUCT")
    drawn.StructureSetLabel, drawn.StructureSetDate, drawn.StructureSetTime = "drawn", "20260101", "120000"
    seen = item(SeriesInstanceUID=series, ContourImageSequence=images)
    of = item(ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1", ReferencedSOPInstanceUID=study, RTReferencedSeriesSequence=[seen])
    drawn.ReferencedFrameOfReferenceSequence = [item(FrameOfReferenceUID=frame, RTReferencedStudySequence=[of])]
    drawn.StructureSetROISequence = [item(ROINumber=1, ReferencedFrameOfReferenceUID=frame, ROIName="organ", ROIGenerationAlgorithm="")]
    drawn.ROIContourSequence = [item(ReferencedROINumber=1, ROIDisplayColor=[255, 0, 0], ContourSequence=contours)]
    drawn.RTROIObservationsSequence = [item(ObservationNumber=1, ReferencedROINumber=1, RTROIInterpretedType="ORGAN", ROIInterpreter="")]
    drawn.save_as(Path(name, "rt.dcm"), enforce_file_format=True)
    return name


tilt = math.radians(10)
found = {}
for name, rows, columns in (("axial", (1, 0, 0), (0, 1, 0)), ("sagittal", (0, 1, 0), (0, 0, -1)), ("coronal", (1, 0, 0), (0, 0, -1)),
                            ("tilted", (1, 0, 0), (0, math.cos(tilt), math.sin(tilt)))):
    written(name, rows, columns)
    reader = DicomReaderWriter(Contour_Names=["organ"], arg_max=True, verbose=False)
    reader.walk_through_folders(name, thread_count=1)
    reader.get_images_and_mask()
    one = np.asarray(reader.mask) > 0  # slices first
    other = RTStructBuilder.create_from(dicom_series_path=name, rt_struct_path=f"{name}/rt.dcm").get_roi_mask_by_name("organ")
    found[name] = [(np.unique(np.nonzero(mask)[axis]).tolist(), int(mask.sum())) for mask, axis in ((one, 0), (other, 2))]
print(*(f"{name} {version(name)}" for name in ("DicomRTTool", "rt-utils", "pydicom", "numpy")))
for name, ((slices, voxels), (others, count)) in found.items():
    print(f"{name}: {voxels} voxels on slices {slices} by DicomRTTool, {count} on slices {others} by rt-utils")
places = {name: [slices for slices, _ in values] for name, values in found.items()}
sys.exit(places != {"axial": [[2, 3], [2, 3]], "sagittal": [[], [2, 3]], "coronal": [[], [2, 3]], "tilted": [[3, 4], [2, 3]]})
PYTHON
