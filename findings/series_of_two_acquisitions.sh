#!/bin/sh
# One DICOM series with two acquisitions of the same three places, 2 mm apart. SimpleITK's series reader gives one volume
# of six slices 0.8 mm apart, which exist nowhere; ITK prints a line of warning. A missing slice stretches the others too,
# and two echoes of five slices 2.5 mm apart become ten slices 1.11 mm apart.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pydicom==3.0.2 SimpleITK==2.5.7 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os
import sys
import numpy as np, pydicom, SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, MRImageStorage, ExplicitVRLittleEndian, generate_uid

print("pydicom", pydicom.__version__, "SimpleITK", SimpleITK.__version__, "numpy", np.__version__)
study, series, frame = generate_uid(), generate_uid(), generate_uid()


def write(path, place, acquisition, step=2, echo=""):
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = CTImageStorage
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
    one.Modality, one.PatientName, one.PatientID, one.AcquisitionNumber = "CT", "A^B", "1", acquisition
    one.Rows = one.Columns = 8
    one.BitsAllocated = one.BitsStored = 16
    one.HighBit, one.PixelRepresentation, one.SamplesPerPixel = 15, 0, 1
    one.PhotometricInterpretation, one.RescaleSlope, one.RescaleIntercept = "MONOCHROME2", 1, 0
    if echo:
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = MRImageStorage
        one.Modality, one.EchoTime, one.EchoNumbers = "MR", echo, acquisition
    one.PixelSpacing, one.SliceThickness, one.ImageOrientationPatient = [1, 1], 2, [1, 0, 0, 0, 1, 0]
    one.ImagePositionPatient, one.InstanceNumber = [0, 0, step * place], place + 1
    one.PixelData = np.full((8, 8), 100 + acquisition, np.uint16).tobytes()
    one.save_as(path, enforce_file_format=True)


def stacked(name):
    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(name))
    slices, apart = image.GetSize()[2], round(image.GetSpacing()[2], 6)
    print(f"{name}: {slices} slices, {apart} mm apart, values", SimpleITK.GetArrayFromImage(image)[:, 0, 0])
    return slices, apart


found = []
for name, slices in (("two", [(z, a) for a in (1, 2) for z in (0, 1, 2)]), ("gap", [(z, 1) for z in (0, 1, 2, 4, 5)])):
    os.mkdir(name)
    for place, acquisition in slices:
        write(f"{name}/{acquisition}{place}.dcm", place, acquisition)
    found.append(stacked(name))
os.mkdir("echoes")
for place in range(5):
    for number, echo in ((1, "4.6"), (2, "9.2")):
        write(f"echoes/{number}{place}.dcm", place, number, step=2.5, echo=echo)
found.append(stacked("echoes"))
sys.exit(found != [(6, 0.8), (5, 2.5), (10, 1.111111)])
PYTHON
