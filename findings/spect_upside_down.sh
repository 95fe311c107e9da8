#!/bin/sh
# A reconstructed SPECT of five slices, as one multi-frame object of nuclear medicine: it states the place of the first slice and a
# spacing between slices whose sign is the direction of stacking, here -4 mm, towards the feet. SimpleITK places the slices by the sign,
# the last one 16 mm below the first; dcm2niix places it 16 mm above, so the patient is upside down beside the CT, in the same order of
# slices. It says that it does not know the direction, and says so of +4 mm too.
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
from pydicom.uid import ExplicitVRLittleEndian, NuclearMedicineImageStorage, generate_uid

print(*(f"{name} {version(name)}" for name in ("SimpleITK", "dcm2niix", "pydicom")))


def written(name, spacing):
    """Five slices with the values 1 to 5, the first at 30 mm."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, NuclearMedicineImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = NuclearMedicineImageStorage, meta.MediaStorageSOPInstanceUID, "NM"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    data.PatientID = data.PatientName = "phantom"
    data.PatientBirthDate = data.PatientSex = data.StudyID = data.AccessionNumber = data.ReferringPhysicianName = ""
    data.PositionReferenceIndicator = ""
    data.StudyDate, data.StudyTime, data.SeriesNumber, data.InstanceNumber = "20260101", "120000", 1, 1
    data.Manufacturer, data.ImageType, data.PatientPosition = "SIEMENS", ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"], "HFS"
    data.PixelSpacing, data.SpacingBetweenSlices, data.SliceThickness = [2, 3], spacing, 4
    data.NumberOfFrames = data.NumberOfSlices = 5
    data.FrameIncrementPointer, data.SliceVector, data.NumberOfDetectors = Tag("SliceVector"), [1, 2, 3, 4, 5], 1
    detector, window = Dataset(), Dataset()
    detector.ImagePositionPatient, detector.ImageOrientationPatient, detector.CollimatorType = [-10, -20, 30], [1, 0, 0, 0, 1, 0], "PARA"
    data.DetectorInformationSequence, data.EnergyWindowInformationSequence = [detector], [window]
    data.SamplesPerPixel, data.PhotometricInterpretation, data.Rows, data.Columns = 1, "MONOCHROME2", 8, 10
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.PixelData = np.repeat(np.arange(1, 6, dtype=np.uint16), 80).tobytes()
    Path(name).mkdir()
    data.save_as(Path(name, "a.dcm"), enforce_file_format=True)
    return name


found = {}
for spacing in (4, -4):
    name = written(f"spect{spacing}", spacing)
    image = SimpleITK.ReadImage(f"{name}/a.dcm")
    values = SimpleITK.GetArrayFromImage(image)[:, 0, 0]
    places = {int(value): image.TransformIndexToPhysicalPoint((0, 0, k))[2] for k, value in enumerate(values)}
    lines = subprocess.run(["dcm2niix", "-f", name, "-o", ".", name], check=True, capture_output=True, text=True).stdout
    other = nibabel.load(f"{name}.nii")
    heights = {int(value): float((other.affine @ [0, 0, k, 1])[2]) for k, value in enumerate(other.get_fdata()[0, 0])}
    found[spacing] = places[1], places[5], heights[1], heights[5]
    print(f"spacing {spacing} mm: slices 1 and 5 at {places[1]:g} and {places[5]:g} mm by SimpleITK, {heights[1]:g} and {heights[5]:g} by dcm2niix")
    print(*(line for line in lines.splitlines() if "slice direction" in line), sep="\n")
sys.exit(found != {4: (30, 46, 30, 46), -4: (30, 14, 30, 46)})
PYTHON
