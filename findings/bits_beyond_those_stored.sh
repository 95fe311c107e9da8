#!/bin/sh
# A CT with 12 of 16 bits stored and the other four at 0: -1000 HU is stored as 0x0C18. Bits above those that are stored are no part
# of a value, and pydicom, SimpleITK and dcm2niix leave them out. highdicom's imread counts them, so -1000 becomes 3096 and air
# is denser than bone; where an overlay lies in bit 12, as in older files, what it covers has 4096 more. Nothing is raised.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet highdicom==0.28.2 pydicom==3.0.2 SimpleITK==2.5.7 dcm2niix==1.0.20260724 nibabel==5.4.2 \
    numpy==2.3.5
cd "$folder"
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" - <<'PYTHON'
import os
import subprocess
import sys
import warnings
import highdicom, nibabel, numpy as np, pydicom, SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_rescale
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

warnings.simplefilter("ignore")
print("highdicom", highdicom.__version__, "pydicom", pydicom.__version__, "SimpleITK", SimpleITK.__version__,
      "dcm2niix 1.0.20260724")
hounsfield = np.array([-1000, -100, -1, 0, 40, 400, 1500, 2000], np.int16)


def written(name, pixels, signed, intercept, overlay=False):
    """Three slices, 2 mm apart, each row of which holds the eight values."""
    os.mkdir(name)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for z in range(3):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = CTImageStorage
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.PatientName, one.PatientID, one.StudyDate, one.StudyTime = "A^B", "1", "20240102", "101500"
        one.Modality, one.SeriesNumber, one.InstanceNumber, one.ImageType = "CT", 1, z + 1, ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 2 * z], [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.SliceThickness, one.Rows, one.Columns = [1, 1], 2, 8, 8
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, signed
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = "1", str(intercept), "HU"
        if overlay:
            one.add_new(0x60000010, "US", 8)
            one.add_new(0x60000011, "US", 8)
            one.add_new(0x60000040, "CS", "G")
            one.add_new(0x60000050, "SS", [1, 1])
            one.add_new(0x60000100, "US", 16)
            one.add_new(0x60000102, "US", 12)
        one.PixelData = np.tile(pixels, (8, 1)).astype(np.uint16).tobytes()
        one.save_as(f"{name}/{z}.dcm", enforce_file_format=True)


def read(name):
    """One row of values by each reader."""
    path = f"{name}/0.dcm"
    subprocess.run(["dcm2niix", "-z", "n", "-b", "n", "-f", "out", "-o", name, name], check=True, capture_output=True)
    return {
        "highdicom": highdicom.imread(path).get_frames()[0, 0],
        "pydicom": apply_rescale(pydicom.dcmread(path).pixel_array, pydicom.dcmread(path))[0],
        "SimpleITK": SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))[0, 0],
        "dcm2niix": nibabel.load(f"{name}/out.nii").get_fdata()[:, 0, 0],
    }


below = hounsfield.view(np.uint16) & 0x0FFF
covered = (hounsfield + 1024).astype(np.uint16) | np.uint16(0x1000)
written("signed, upper bits 0", below, 1, 0)
written("signed, upper bits as the sign", hounsfield.view(np.uint16), 1, 0)
written("overlay in bit 12", covered, 0, -1024, overlay=True)
meant = hounsfield.tolist()
seen = {
    "signed, upper bits 0": [3096, 3996, 4095, 0, 40, 400, 1500, 2000],
    "signed, upper bits as the sign": meant,
    "overlay in bit 12": [value + 4096 for value in meant],
}
right = True
for name, by_highdicom in seen.items():
    print(f"{name}: meant {meant}")
    for reader, values in read(name).items():
        values = [int(value) for value in values]
        print(f"    {reader} {values}")
        right &= values == (by_highdicom if reader == "highdicom" else meant)
sys.exit(not right)
PYTHON
