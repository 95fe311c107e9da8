#!/bin/sh
# An enhanced PET states a slope for each frame, as scanners do that use the whole range of 16 bits in each slice. SimpleITK,
# and TorchIO with it, multiplies all frames by the slope of the first; MONAI's PydicomReader multiplies none of them, not
# even by a slope that all frames share. dcm2niix and highdicom give each frame its own. Nothing is raised.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet monai==1.6.1 pydicom==3.0.2 SimpleITK==2.5.7 torchio==1.2.1 highdicom==0.28.2 \
    dcm2niix==1.0.20260724 nibabel==5.4.2 numpy==2.3.5
cd "$folder"
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" - <<'PYTHON'
import os
import subprocess
import sys
import warnings
import highdicom, monai, nibabel, numpy as np, pydicom, SimpleITK, torchio
from monai.transforms import LoadImage
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedPETImageStorage, ExplicitVRLittleEndian, generate_uid

warnings.simplefilter("ignore")
print("MONAI", monai.__version__, "pydicom", pydicom.__version__, "SimpleITK", SimpleITK.__version__, "torchio",
      torchio.__version__, "highdicom", highdicom.__version__, "dcm2niix 1.0.20260724")


def item(**values):
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def written(name, slopes):
    """Four frames, 3 mm apart, whose pixels are all stored as 100."""
    os.mkdir(name)
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = EnhancedPETImageStorage
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    one.Modality, one.PatientName, one.PatientID, one.InstanceNumber = "PT", "A^B", "1", 1
    one.ImageType, one.NumberOfFrames = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], len(slopes)
    one.Rows = one.Columns = 8
    one.BitsAllocated = one.BitsStored = 16
    one.HighBit, one.PixelRepresentation, one.SamplesPerPixel, one.PhotometricInterpretation = 15, 0, 1, "MONOCHROME2"
    sizes = item(PixelSpacing=[2, 2], SliceThickness=3, SpacingBetweenSlices=3)
    axes = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    one.SharedFunctionalGroupsSequence = [item(PixelMeasuresSequence=[sizes], PlaneOrientationSequence=[axes])]
    order = generate_uid()
    one.DimensionOrganizationSequence = [item(DimensionOrganizationUID=order)]
    place = item(DimensionOrganizationUID=order, DimensionIndexPointer=0x00209057, FunctionalGroupPointer=0x00209111)
    one.DimensionIndexSequence = [place]
    one.PerFrameFunctionalGroupsSequence = [
        item(
            FrameContentSequence=[item(StackID="1", InStackPositionNumber=k + 1, DimensionIndexValues=[k + 1])],
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 3 * k])],
            PixelValueTransformationSequence=[item(RescaleSlope=str(slope), RescaleIntercept="0", RescaleType="US")],
        )
        for k, slope in enumerate(slopes)
    ]
    one.PixelData = np.full((len(slopes), 8, 8), 100, np.uint16).tobytes()
    one.save_as(f"{name}/pet.dcm", enforce_file_format=True)


def read(name):
    """One value per frame, from the lowest frame up, by each reader."""
    path = f"{name}/pet.dcm"
    subprocess.run(["dcm2niix", "-z", "n", "-b", "n", "-f", "out", "-o", name, name], check=True, capture_output=True)
    volume = highdicom.imread(path).get_volume()
    up = np.argsort([(volume.affine @ (k, 0, 0, 1))[2] for k in range(4)])
    return {
        "SimpleITK": SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))[:, 0, 0],
        "TorchIO": torchio.ScalarImage(path).numpy()[0, 0, 0],
        "MONAI": np.unique(LoadImage(image_only=True, reader="PydicomReader")(path)).repeat(4)[:4],
        "dcm2niix": nibabel.load(f"{name}/out.nii").get_fdata()[0, 0],
        "highdicom": volume.array[up, 0, 0],
    }


right = True
for name, slopes in (("own", (0.5, 0.25, 1, 2)), ("shared", (2, 2, 2, 2))):
    written(name, slopes)
    meant = [100 * slope for slope in slopes]
    seen = {"SimpleITK": [meant[0]] * 4, "TorchIO": [meant[0]] * 4, "MONAI": [100] * 4, "dcm2niix": meant, "highdicom": meant}
    print(f"{name}: meant {meant}")
    for reader, values in read(name).items():
        print(f"    {reader} {values.tolist()}")
        right &= bool(np.allclose(values, seen[reader]))
sys.exit(not right)
PYTHON
