#!/bin/sh
# The size of a pixel of an X-ray image: SimpleITK takes that at the detector (ImagerPixelSpacing) where the file states a
# calibrated one too (PixelSpacing), and 1 mm where PixelSpacing stands alone. dcm2niix takes PixelSpacing, and 1 mm where
# ImagerPixelSpacing stands alone. So no image that states one of the two alone has one size for both programs.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pydicom==3.0.2 SimpleITK==2.5.7 dcm2niix==1.0.20260724 nibabel==5.4.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import glob
import os
import subprocess
import sys
import nibabel, numpy as np, pydicom, SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

print("pydicom", pydicom.__version__, "SimpleITK", SimpleITK.__version__, "dcm2niix 1.0.20260724")
found = {}
for kind, modality in ((ComputedRadiographyImageStorage, "CR"), (DigitalXRayImageStorageForPresentation, "DX")):
    for name, calibrated, detector in (("both", 0.1, 0.2), ("detector", None, 0.2), ("calibrated", 0.1, None)):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = kind
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.StudyInstanceUID, one.SeriesInstanceUID = generate_uid(), generate_uid()
        one.Modality, one.PatientName, one.PatientID, one.InstanceNumber = modality, "A^B", "1", 1
        one.Rows = one.Columns = 8
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation, one.SamplesPerPixel = 15, 0, 1
        one.PhotometricInterpretation = "MONOCHROME2"
        if calibrated:
            one.PixelSpacing, one.PixelSpacingCalibrationType = [calibrated, calibrated], "FIDUCIAL"
        if detector:
            one.ImagerPixelSpacing = [detector, detector]
        one.PixelData = np.arange(64, dtype=np.uint16).tobytes()
        place = f"{modality}_{name}"
        os.mkdir(place)
        one.save_as(f"{place}/1.dcm", enforce_file_format=True)
        itk = round(SimpleITK.ReadImage(f"{place}/1.dcm").GetSpacing()[0], 4)
        os.mkdir(f"{place}_out")
        subprocess.run([f"{sys.prefix}/bin/dcm2niix", "-b", "n", "-f", "a", "-o", f"{place}_out", place],
                       stdout=subprocess.DEVNULL, check=True)
        (file,) = glob.glob(f"{place}_out/*.nii")
        other = round(float(nibabel.load(file).header.get_zooms()[0]), 4)
        print(f"{modality}, PixelSpacing {calibrated}, ImagerPixelSpacing {detector}: "
              f"SimpleITK {itk} mm, dcm2niix {other} mm")
        found[place] = itk, other
expected = {"both": (0.2, 0.1), "detector": (0.2, 1.0), "calibrated": (1.0, 0.1)}
sys.exit(found != {f"{modality}_{name}": pair for modality in ("CR", "DX") for name, pair in expected.items()})
PYTHON
