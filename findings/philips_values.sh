#!/bin/sh
# Two MR series of one scanner of Philips. Each states slope 2 and intercept 0 as the standard has it, and a further factor of the vendor,
# 0.05 in one and 0.1 in the other, in a private element. A stored 100 is 200 to SimpleITK and pydicom in both; in the NIfTI files of
# dcm2niix it is 2000 and 1000, since it takes Philips' own scale by default. So a threshold or a window of a cohort that was read from
# DICOM does not hold for the files that dcm2niix made of the same scans; with -p n it gives 200.
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
import nibabel, numpy as np, pydicom, SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

print(*(f"{name} {version(name)}" for name in ("dcm2niix", "SimpleITK", "pydicom")))


def written(name, factor):
    """Four slices in which 100 is stored; `factor` is the vendor's."""
    study, series, frame = (generate_uid() for _ in range(3))
    Path(name).mkdir()
    for k in range(4):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, MRImageStorage, generate_uid()
        data = Dataset()
        data.file_meta = meta
        data.SOPClassUID, data.SOPInstanceUID, data.Modality = MRImageStorage, meta.MediaStorageSOPInstanceUID, "MR"
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
        data.PatientID = data.PatientName = "phantom"
        data.PatientBirthDate = data.PatientSex = data.StudyID = data.AccessionNumber = data.ReferringPhysicianName = ""
        data.StudyDate, data.StudyTime, data.SeriesNumber, data.InstanceNumber = "20260101", "120000", 1, k + 1
        data.PositionReferenceIndicator, data.PatientPosition, data.ProtocolName = "", "HFS", "T2"
        data.Manufacturer, data.ImageType, data.ScanningSequence = "Philips Medical Systems", ["ORIGINAL", "PRIMARY", "M_SE", "M", "SE"], "SE"
        data.SequenceVariant, data.ScanOptions, data.MRAcquisitionType, data.EchoTrainLength = "NONE", "", "2D", 1
        data.EchoTime, data.RepetitionTime, data.MagneticFieldStrength = 80, 4000, 3
        data.ImagePositionPatient, data.ImageOrientationPatient = [-10, -20, 30 + 3 * k], [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = [2, 2], 3
        data.SamplesPerPixel, data.PhotometricInterpretation, data.Rows, data.Columns = 1, "MONOCHROME2", 8, 10
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        data.RescaleSlope, data.RescaleIntercept = 2, 0
        private = data.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        private.add_new(0x0D, "FL", 0.0)
        private.add_new(0x0E, "FL", factor)
        data.PixelData = np.full(80, 100, np.uint16).tobytes()
        data.save_as(Path(name, f"{k}.dcm"), enforce_file_format=True)
    return name


found = {}
for factor in (0.05, 0.1):
    name = written(f"factor{factor}", factor)
    data = pydicom.dcmread(f"{name}/0.dcm")
    row = {"SimpleITK": SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(f"{name}/0.dcm")).max(),
           "pydicom": apply_modality_lut(data.pixel_array, data).max()}
    for label, options in (("dcm2niix", ()), ("dcm2niix -p n", ("-p", "n"))):
        target = f"{name}{len(options)}"
        subprocess.run(["dcm2niix", *options, "-f", target, "-o", ".", name], check=True, capture_output=True)
        row[label] = nibabel.load(f"{target}.nii").get_fdata().max()
    found[factor] = {label: round(float(value), 2) for label, value in row.items()}
    print(f"100 with slope 2 and Philips' factor {factor}:", found[factor])
sys.exit(found != {factor: {"SimpleITK": 200, "pydicom": 200, "dcm2niix": value, "dcm2niix -p n": 200}
                   for factor, value in ((0.05, 2000), (0.1, 1000))})
PYTHON
