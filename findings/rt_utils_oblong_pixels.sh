#!/bin/sh
# rt-utils 1.2.7 takes PixelSpacing, rows before columns, for columns before rows: outlines on oblong pixels are displaced.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet rt-utils==1.2.7 pydicom==3.0.2 numpy==2.4.6 opencv-python==5.0.0.93 setuptools
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from rt_utils import RTStructBuilder

series = Path(sys.argv[1]) / "series"
series.mkdir()
study, one, frame = generate_uid(), generate_uid(), generate_uid()
for z in range(3):
    slice_ = Dataset()
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.SOPClassUID = slice_.file_meta.MediaStorageSOPClassUID = CTImageStorage
    slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    slice_.PatientName, slice_.PatientID, slice_.PatientBirthDate, slice_.PatientSex = "A", "1", "", ""
    slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.FrameOfReferenceUID = study, one, frame
    slice_.StudyDate, slice_.StudyTime, slice_.StudyID, slice_.AccessionNumber = "20240101", "101010", "", ""
    slice_.Modality, slice_.SeriesNumber, slice_.InstanceNumber = "CT", 1, z + 1
    slice_.ImagePositionPatient, slice_.ImageOrientationPatient = [0, 0, 3 * z], [1, 0, 0, 0, 1, 0]
    slice_.PixelSpacing, slice_.SliceThickness = [1, 2], 3  # 1 mm between rows, 2 mm between columns
    slice_.Rows = slice_.Columns = 16
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
    slice_.PixelData = np.zeros((16, 16), np.int16).tobytes()
    slice_.save_as(series / f"{z}.dcm", enforce_file_format=True)

mask = np.zeros((16, 16, 3), bool)
mask[4:7, 8:13, 1] = True  # rows 4 to 6, columns 8 to 12: 16 to 24 mm to the left, 4 to 6 mm to the back
drawn = RTStructBuilder.create_new(dicom_series_path=str(series))
drawn.add_roi(mask=mask, name="box")
drawn.save(str(series / "rt.dcm"))
points = np.array(pydicom.dcmread(series / "rt.dcm").ROIContourSequence[0].ContourSequence[0].ContourData, float)
x, y, _ = points.reshape(-1, 3).T
print("rt-utils", version("rt-utils"), "opencv-python", version("opencv-python"))
print("by PS3.3 10.7.1.3 (rows, then columns): x 16 to 24 mm, y 4 to 6 mm")
print(f"by rt-utils: x {x.min():g} to {x.max():g} mm, y {y.min():g} to {y.max():g} mm")
sys.exit(0 if (x.min(), x.max(), y.min(), y.max()) == (8, 12, 8, 12) else 1)
PYTHON
