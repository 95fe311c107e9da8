#!/bin/sh
# A CT series with a tilted gantry through dcm2niix: in the file that keeps the pixels the sform's step from slice to slice
# is as long as the distance between planes, cos(tilt) times the true step along the couch, so that slice k lies
# k * step * (1 - cos(tilt)) from its place; and the qform, which knows no shear, disagrees with the sform by far more.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet dcm2niix==1.0.20260724 pydicom==3.0.2 nibabel==5.4.2 numpy==2.4.6
cd "$folder"
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" - <<'PYTHON'
import subprocess
import sys
from pathlib import Path

import nibabel, numpy as np, pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

print("nibabel", nibabel.__version__, "pydicom", pydicom.__version__, "dcm2niix 1.0.20260724")
TILT, STEP, SLICES, ROWS, COLUMNS = 12.0, 2.5, 21, 12, 10
turn = np.radians(TILT)
column, row = np.array([1.0, 0, 0]), np.array([0, np.cos(turn), np.sin(turn)])  # LPS
Path("series").mkdir()
series, study, frame = generate_uid(), generate_uid(), generate_uid()
for k in range(SLICES):
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID = CTImageStorage
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID = generate_uid()
    d.SeriesInstanceUID, d.StudyInstanceUID, d.FrameOfReferenceUID = series, study, frame
    d.PatientName, d.PatientID, d.Modality, d.Manufacturer, d.PatientPosition = "a", "a", "CT", "Siemens", "HFS"
    d.StudyDate, d.StudyTime, d.SeriesNumber, d.InstanceNumber, d.AcquisitionNumber = "20200101", "101010", 1, k + 1, 1
    d.ImageType, d.Rows, d.Columns, d.PixelSpacing = ["ORIGINAL", "PRIMARY", "AXIAL"], ROWS, COLUMNS, [0.9, 1.2]
    d.SliceThickness, d.GantryDetectorTilt = STEP, -TILT
    d.ImageOrientationPatient = [f"{x:.8f}" for x in (*column, *row)]
    d.ImagePositionPatient = [0, 0, k * STEP]
    d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 1
    d.BitsAllocated, d.BitsStored, d.HighBit, d.RescaleSlope, d.RescaleIntercept = 16, 16, 15, 1, 0
    pixels = np.zeros((ROWS, COLUMNS), np.int16)
    pixels[3, 4] = k + 1  # a marker that names its slice
    d.PixelData = pixels.tobytes()
    d.save_as(f"series/{k:03d}.dcm", enforce_file_format=True)
subprocess.run(["dcm2niix", "-z", "n", "-b", "n", "-f", "x", "-o", ".", "series"], check=True, capture_output=True)
image = nibabel.load("x.nii")
voxels = np.asarray(image.dataobj)
away = {"sform": [], "qform": []}
for k in range(SLICES):
    true = (np.array([0, 0, k * STEP]) + 4 * 1.2 * column + 3 * 0.9 * row) * (-1, -1, 1)
    at = np.argwhere(voxels == k + 1)[0]
    for name, affine in (("sform", image.get_sform()), ("qform", image.get_qform())):
        away[name].append(np.linalg.norm(affine[:3, :3] @ at + affine[:3, 3] - true))
expected = (SLICES - 1) * STEP * (1 - np.cos(turn))
print(f"step of the series {STEP} mm; of the sform {np.linalg.norm(image.get_sform()[:3, 2]):.4f} mm")
for name, distances in away.items():
    print(f"{name}: first slice {distances[0]:.3f} mm, last slice {distances[-1]:.3f} mm from its place")
spread = abs(away["sform"][-1] - away["sform"][0])
print(f"k * step * (1 - cos) of the last slice: {expected:.3f} mm")
sys.exit(0 if abs(spread - expected) < 0.01 and away["qform"][-1] > 5 else 1)
PYTHON
