#!/bin/sh
# The frames of an enhanced CT are stored in another order than they lie in, which the standard allows: each frame states its
# place, and indexes state the order. SimpleITK and TorchIO keep the order of the file and take 1 mm for the size of pixels
# and the distance of slices; dcm2niix and highdicom give the volume. Nothing is raised.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet pydicom==3.0.2 SimpleITK==2.5.7 torchio==1.2.1 dcm2niix==1.0.20260724 \
    highdicom==0.28.2 nibabel==5.4.2 numpy==2.3.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import glob
import os
import subprocess
import sys
import highdicom, nibabel, numpy as np, pydicom, SimpleITK, torchio
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

print("pydicom", pydicom.__version__, "SimpleITK", SimpleITK.__version__, "torchio", torchio.__version__,
      "dcm2niix 1.0.20260724 highdicom", highdicom.__version__)


def item(**values):
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def enhanced(order):
    """Five frames 2.5 mm apart with the values 100 to 500 from the feet to the head, stored in some order."""
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    one.Modality, one.PatientName, one.PatientID, one.PatientBirthDate, one.PatientSex = "CT", "A^B", "1", "", "O"
    one.StudyDate = one.SeriesDate = one.ContentDate = "20240102"
    one.StudyTime = one.SeriesTime = one.ContentTime = "101500"
    one.AcquisitionDateTime, one.StudyID, one.SeriesNumber, one.InstanceNumber = "20240102101500", "1", 1, 1
    one.AccessionNumber = one.ReferringPhysicianName = ""
    one.Manufacturer, one.ImageType = "M", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    one.VolumetricProperties, one.VolumeBasedCalculationTechnique, one.PixelPresentation = "VOLUME", "NONE", "MONOCHROME"
    one.Rows = one.Columns = 8
    one.NumberOfFrames, one.SamplesPerPixel, one.PhotometricInterpretation = len(order), 1, "MONOCHROME2"
    one.BitsAllocated = one.BitsStored = 16
    one.HighBit, one.PixelRepresentation = 15, 1
    organisation = generate_uid()
    one.DimensionOrganizationSequence = [item(DimensionOrganizationUID=organisation)]
    one.DimensionIndexSequence = [
        item(DimensionIndexPointer=pointer, FunctionalGroupPointer=0x00209111, DimensionOrganizationUID=organisation)
        for pointer in (0x00209056, 0x00209057)  # StackID, InStackPositionNumber
    ]
    one.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=[0.8, 0.8], SliceThickness=2.5, SpacingBetweenSlices=2.5)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=0, RescaleType="HU")],
        )
    ]
    one.PerFrameFunctionalGroupsSequence = [
        item(
            FrameContentSequence=[
                item(StackID="1", InStackPositionNumber=place + 1, DimensionIndexValues=[1, place + 1])
            ],
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 2.5 * place])],
        )
        for place in order
    ]
    one.PixelData = np.stack([np.full((8, 8), 100 * (place + 1), np.int16) for place in order]).tobytes()
    return one


found = {}
for name, order in (("in order", range(5)), ("out of order", (3, 0, 4, 1, 2))):
    os.mkdir(name)
    path = f"{name}/1.dcm"
    enhanced(list(order)).save_as(path, enforce_file_format=True)
    image = SimpleITK.ReadImage(path)
    itk = SimpleITK.GetArrayFromImage(image)[:, 0, 0].tolist(), image.GetSpacing()[::2]
    tio = torchio.ScalarImage(path)
    os.mkdir(f"{name} out")
    subprocess.run([f"{sys.prefix}/bin/dcm2niix", "-b", "n", "-f", "a", "-o", f"{name} out", name],
                   stdout=subprocess.DEVNULL, check=True)
    (file,) = glob.glob(f"{name} out/*.nii")
    nifti = nibabel.load(file)
    volume = highdicom.imread(path).get_volume()
    found[name] = {
        "SimpleITK": itk,
        "TorchIO": (tio.data[0, 0, 0].tolist(), (tio.spacing[0], tio.spacing[2])),
        "dcm2niix": (nifti.get_fdata()[0, 0].tolist(), tuple(float(mm) for mm in nifti.header.get_zooms()[::2])),
        "highdicom": (volume.array[:, 0, 0].tolist()[::-1], (volume.spacing[2], volume.spacing[0])),
    }
    for program, (values, (mm, apart)) in found[name].items():
        print(f"{name}, {program}: {[round(v) for v in values]}, pixels of {mm:.3g} mm, slices {apart:.3g} mm apart")
right = ([100, 200, 300, 400, 500], (0.8, 2.5))
stored = ([400, 100, 500, 200, 300], (1.0, 1.0))


def same(one, other):
    return np.allclose(one[0], other[0]) and np.allclose(one[1], other[1], atol=1e-5)


sys.exit(
    not all(same(one, right) for one in found["in order"].values())
    or not same(found["out of order"]["highdicom"], right)
    or not same(found["out of order"]["SimpleITK"], stored)
    or not same(found["out of order"]["TorchIO"], stored)
    or not same(found["out of order"]["dcm2niix"], right)
)
PYTHON
