#!/bin/sh
# A dose of a treatment plan (RTDOSE), 1 to 4 Gy, whose planes lie where its vector of offsets says: every 2.5 mm, or 0, 2.5, 7.5 and
# 12.5 mm, which the standard allows. SimpleITK takes the first step for all of them, so that the last plane lies 5 mm too low, and says
# nothing. dcm2niix takes 1 mm in each case. Both give the stored numbers, 1000 for 1 Gy, though the file states the factor, and though
# both apply the slope of an image.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pydicom==3.0.2 SimpleITK==2.5.7 dcm2niix==1.0.20260724 nibabel==5.4.2 numpy==2.4.6
cd "$folder"
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" - <<'PYTHON'
import subprocess, sys
from importlib.metadata import version
from pathlib import Path
import nibabel, numpy as np, SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, RTDoseStorage, generate_uid

print(*(f"{name} {version(name)}" for name in ("SimpleITK", "dcm2niix", "pydicom")))


def written(name, offsets):
    """Planes of 1, 2, 3 and 4 Gy, the first at 30 mm."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, RTDoseStorage, generate_uid()
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = RTDoseStorage, meta.MediaStorageSOPInstanceUID, "RTDOSE"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    data.PatientID = data.PatientName = "phantom"
    data.PatientBirthDate = data.PatientSex = data.StudyID = data.AccessionNumber = data.ReferringPhysicianName = ""
    data.PositionReferenceIndicator = data.OperatorsName = ""
    data.StudyDate, data.StudyTime, data.SeriesNumber, data.InstanceNumber = "20260101", "120000", 1, 1
    data.Manufacturer = "phantom"
    data.DoseUnits, data.DoseType, data.DoseSummationType, data.DoseGridScaling = "GY", "PHYSICAL", "PLAN", "0.001"
    data.ImagePositionPatient, data.ImageOrientationPatient = [-10, -20, 30], [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness = [2, 3], ""
    data.NumberOfFrames, data.FrameIncrementPointer = len(offsets), Tag("GridFrameOffsetVector")
    data.GridFrameOffsetVector = offsets
    data.SamplesPerPixel, data.PhotometricInterpretation, data.Rows, data.Columns = 1, "MONOCHROME2", 8, 10
    data.BitsAllocated = data.BitsStored = 32
    data.HighBit, data.PixelRepresentation = 31, 0
    data.PixelData = np.repeat(np.arange(1000, 5000, 1000, dtype=np.uint32), 80).tobytes()
    Path(name).mkdir()
    data.save_as(Path(name, "a.dcm"), enforce_file_format=True)
    return name


found = {}
for offsets in ([0, 2.5, 5, 7.5], [0, 2.5, 7.5, 12.5]):
    name = written(f"dose{offsets[-1]}", offsets)
    image = SimpleITK.ReadImage(f"{name}/a.dcm")
    subprocess.run(["dcm2niix", "-f", name, "-o", ".", name], check=True, capture_output=True)
    other = nibabel.load(f"{name}.nii")
    found[offsets[-1]] = (
        image.TransformIndexToPhysicalPoint((0, 0, 3))[2], float(SimpleITK.GetArrayFromImage(image)[3, 0, 0]),
        float((other.affine @ [0, 0, 3, 1])[2]), float(other.get_fdata()[0, 0, 3]),
    )
    print("4 Gy at {:g} mm: {:g} mm and {:g} by SimpleITK, {:g} mm and {:g} by dcm2niix".format(30 + offsets[-1], *found[offsets[-1]]))
sys.exit(found != {7.5: (37.5, 4000, 33, 4000), 12.5: (37.5, 4000, 33, 4000)})
PYTHON
