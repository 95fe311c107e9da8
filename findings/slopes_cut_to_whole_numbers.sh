#!/bin/sh
# A PET series states a slope for each slice. Where that of the first slice is a whole number, SimpleITK's series reader
# makes whole numbers of all slices, and cuts 37.74 to 37; values beyond 16 bits come out as others. With the first two
# slices' slopes exchanged everything is right. dicom2nifti keeps the values of both. Nothing is raised.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pydicom==3.0.2 SimpleITK==2.5.7 dicom2nifti==2.6.2 nibabel==5.4.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os
import sys
import dicom2nifti, nibabel, numpy as np, pydicom, SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

print("pydicom", pydicom.__version__, "SimpleITK", SimpleITK.__version__, "dicom2nifti 2.6.2 numpy", np.__version__)


def written(name, slopes, number):
    """A series whose slices hold one stored number each, and a slope each."""
    os.mkdir(name)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for place, slope in enumerate(slopes):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.Modality, one.PatientName, one.PatientID, one.Units = "PT", "A^B", "1", "BQML"
        one.Rows = one.Columns = 8
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation, one.SamplesPerPixel = 15, 0, 1
        one.PhotometricInterpretation, one.RescaleSlope, one.RescaleIntercept = "MONOCHROME2", str(slope), "0"
        one.PixelSpacing, one.SliceThickness, one.ImageOrientationPatient = [2, 2], 2, [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient, one.InstanceNumber = [0, 0, 2 * place], place + 1
        one.PixelData = np.full((8, 8), number + place, np.uint16).tobytes()
        one.save_as(f"{name}/{place}.dcm", enforce_file_format=True)
    return [(number + place) * slope for place, slope in enumerate(slopes)]


found = {}
for name, slopes, number in (
    ("whole first", (1, 0.37, 0.21, 0.4), 101),
    ("fraction first", (0.37, 1, 0.21, 0.4), 101),
    ("large", (1, 100, 1000, 1), 1000),
):
    meant = written(name, slopes, number)
    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(name))
    itk = SimpleITK.GetArrayFromImage(image)[:, 0, 0].tolist()
    dicom2nifti.dicom_series_to_nifti(name, f"{name}.nii.gz")
    other = nibabel.load(f"{name}.nii.gz").get_fdata()[0, 0].tolist()
    print(f"{name}: meant {meant}; SimpleITK {image.GetPixelIDTypeAsString()} {itk}; dicom2nifti {other}")
    found[name] = np.allclose(itk, meant), np.allclose(other, meant), itk
sys.exit(
    [both[:2] for both in found.values()] != [(False, True), (True, True), (False, True)]
    or found["whole first"][2] != [101, 37, 21, 41]
    or found["large"][2] != [1000, 34564, 18960, 1003]
)
PYTHON
