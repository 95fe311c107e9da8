#!/bin/sh
# A FRACTIONAL DICOM SEG holds shares of a liver (0.25 and 0.8) and of a spleen (0.6). dcmqi's segimage2itkimage writes the stored numbers,
# 64, 204 and 153 of 255, where its JSON says that 1 is the liver and 2 the spleen; the 255 stands in neither file. With --mergeSegments
# both organs are one image of these numbers, so that nobody can tell which voxel is of which organ. A mask by "above 0" holds what is a
# quarter liver, a mask by "equal to 1" nothing. It ends with exit code 0 and says nothing about it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet dcmqi==1.5.7 highdicom==0.28.2 pydicom==3.0.2 SimpleITK==2.5.7 numpy==2.4.6
cd "$folder"
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
import highdicom
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

print(*(f"{name} {version(name)}" for name in ("dcmqi", "highdicom", "SimpleITK")))
study, series, frame = generate_uid(), generate_uid(), generate_uid()
ct = []
for z in range(9):
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = CTImageStorage
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
    one.PatientName, one.PatientID, one.PatientBirthDate, one.PatientSex = "A^B", "1", "", "O"
    one.StudyDate, one.StudyTime, one.StudyID, one.AccessionNumber = "20240102", "101500", "1", ""
    one.Modality, one.SeriesNumber, one.InstanceNumber = "CT", 1, z + 1
    one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 2 * z], [1, 0, 0, 0, 1, 0]
    one.PixelSpacing, one.SliceThickness, one.Rows, one.Columns = [0.8, 0.8], 2, 8, 8
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.PixelData = np.zeros((8, 8), np.int16).tobytes()
    ct.append(one)
organs = [
    highdicom.seg.SegmentDescription(number, name, codes.SCT.Organ, code, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL)
    for number, name, code in ((1, "liver", codes.SCT.Liver), (2, "spleen", codes.SCT.Spleen))
]
shares = np.zeros((9, 8, 8, 2), np.float32)
shares[1:4, 2:5, 2:5, 0], shares[1:4, 2:4, 2:4, 0], shares[5:8, 2:5, 2:5, 1] = 0.25, 0.8, 0.6
kind = highdicom.seg.SegmentationTypeValues.FRACTIONAL
made = highdicom.seg.Segmentation(ct, shares, kind, organs, generate_uid(), 2, generate_uid(), 1, "M", "M", "1", "1")
made.save_as("seg.dcm")
print("as drawn: liver 0.25 and 0.8, spleen 0.6; MaximumFractionalValue", made.MaximumFractionalValue)


def read_by_dcmqi(name, *options):
    """Values of each file of voxels, label numbers of the JSON files, exit code."""
    place = Path(name)
    place.mkdir()
    command = ["segimage2itkimage", "--inputDICOM", "seg.dcm", "--outputDirectory", str(place), "-t", "nii", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    voxels = [sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in sorted(place.glob("*.nii.gz"))]
    told = [json.loads(path.read_text()) for path in sorted(place.glob("*.json"))]
    numbers = [one["labelID"] for content in told for group in content["segmentAttributes"] for one in group]
    return [np.unique(values).tolist() for values in voxels], numbers, done.returncode


apart, merged = read_by_dcmqi("apart"), read_by_dcmqi("merged", "--mergeSegments")
print(f"by segment: values {apart[0]}, label numbers {apart[1]}, exit code {apart[2]}")
print(f"merged: values {merged[0]}, label numbers {merged[1]}, exit code {merged[2]}")
sys.exit(not (apart == ([[0, 64, 204], [0, 153]], [1, 2], 0) and merged == ([[0, 64, 153, 204]], [1, 2], 0)))
PYTHON
