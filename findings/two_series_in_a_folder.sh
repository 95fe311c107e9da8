#!/bin/sh
# A folder with two CT series of one study, four and six slices, one above the other. MONAI's PydicomReader and ANTsPy give
# one volume of ten slices, those of one series among those of the other (MONAI by InstanceNumber, ANTsPy in an order that
# changes with the UIDs). TorchIO gives the four slices of the first series. Nothing is said of the other. SimpleITK tells the
# two apart, if it is asked for their UIDs.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet monai==1.6.1 pydicom==3.0.2 antspyx==0.6.3 torchio==1.2.1 SimpleITK==2.5.7 numpy==2.3.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os
import sys
import warnings
import ants, monai, numpy as np, pydicom, SimpleITK, torchio
from monai.transforms import LoadImage
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

print("MONAI", monai.__version__, "pydicom", pydicom.__version__, "antspyx 0.6.3 torchio", torchio.__version__,
      "SimpleITK", SimpleITK.__version__)
os.mkdir("study")
study, frame = generate_uid(), generate_uid()
for series, (count, value, start) in enumerate(((4, 100, 0), (6, 200, 8)), start=1):
    for place in range(count):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = CTImageStorage
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, f"1.2.826.0.1.{series}", frame
        one.Modality, one.PatientName, one.PatientID, one.SeriesNumber = "CT", "A^B", "1", series
        one.Rows = one.Columns = 8
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation, one.SamplesPerPixel = 15, 0, 1
        one.PhotometricInterpretation, one.RescaleSlope, one.RescaleIntercept = "MONOCHROME2", 1, 0
        one.PixelSpacing, one.SliceThickness, one.ImageOrientationPatient = [1, 1], 2, [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient, one.InstanceNumber = [0, 0, start + 2 * place], place + 1
        one.PixelData = np.full((8, 8), value, np.uint16).tobytes()
        one.save_as(f"study/{series}{place}.dcm", enforce_file_format=True)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    found = {
        "MONAI": np.asarray(LoadImage(reader="PydicomReader", image_only=True)("study"))[0, 0],
        "ANTsPy": ants.dicom_read("study").numpy()[0, 0],
        "TorchIO": torchio.ScalarImage("study").data.numpy()[0, 0, 0],
    }
for program, values in found.items():
    print(program, np.round(values).astype(int).tolist())
about = [str(one.message) for one in told if "series" in str(one.message).lower()]
uids = len(SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs("study"))
print("warnings about series:", about, "UIDs that SimpleITK names:", uids)
both = [100] * 4 + [200] * 6
sys.exit(
    sorted(np.round(found["MONAI"])) != both
    or np.round(found["MONAI"]).tolist() == both  # sorted by InstanceNumber, which both series count from 1
    or sorted(np.round(found["ANTsPy"])) != both
    or np.round(found["TorchIO"]).tolist() != [100] * 4
    or about != []
    or uids != 2
)
PYTHON
