#!/bin/sh
# A DICOM SEG of two organs of three slices each, the spleen 8 mm above the liver; each frame states its place, and empty
# slices are left out, which is usual. MONAI's PydicomReader, which knows SEG objects, lays both organs on the same three
# slices, 4 mm too high and 4 mm too low; of four slices and two it stops with an error of shapes. SimpleITK gives a stack of
# all frames 1 mm apart. highdicom puts each in its place.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet monai==1.6.1 pydicom==3.0.2 SimpleITK==2.5.7 highdicom==0.28.2 numpy==2.3.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings
import highdicom, monai, numpy as np, pydicom, SimpleITK
from monai.data import PydicomReader
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

warnings.simplefilter("ignore")
print("MONAI", monai.__version__, "pydicom", pydicom.__version__, "SimpleITK", SimpleITK.__version__, "highdicom",
      highdicom.__version__)
study, series, frame = generate_uid(), generate_uid(), generate_uid()
ct = []
for z in range(9):  # 2 mm apart
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = CTImageStorage
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
    one.PatientName, one.PatientID, one.PatientBirthDate, one.PatientSex = "A^B", "1", "", "O"
    one.StudyDate, one.StudyTime, one.StudyID, one.AccessionNumber = "20240102", "101500", "1", ""
    one.Modality, one.SeriesNumber, one.InstanceNumber = "CT", 1, z + 1
    one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 2 * z], [1, 0, 0, 0, 1, 0]
    one.PixelSpacing, one.SliceThickness, one.Rows, one.Columns = [0.8, 0.8], 2, 8, 8
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.PixelData = np.zeros((8, 8), np.int16).tobytes()
    ct.append(one)
organs = [
    highdicom.seg.SegmentDescription(number, name, codes.SCT.Organ, code, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL)
    for number, name, code in ((1, "liver", codes.SCT.Liver), (2, "spleen", codes.SCT.Spleen))
]


def seg(liver, spleen):
    """The file of a SEG whose organs have these slices."""
    labels = np.zeros((9, 8, 8), np.uint8)
    labels[liver, 2:5, 2:5], labels[spleen, 2:5, 2:5] = 1, 2
    kind = highdicom.seg.SegmentationTypeValues.BINARY
    found = highdicom.seg.Segmentation(ct, labels, kind, organs, generate_uid(), 2, generate_uid(), 1, "M", "M", "1", "1")
    found.save_as("seg.dcm")
    return found


def places(masks, affine, axis):
    """The mm along the table at which each mask has a voxel."""
    found = []
    for mask in masks:
        slices = np.flatnonzero(mask.any(tuple(other for other in range(3) if other != axis)))
        found.append(sorted({round(float((affine @ [*np.eye(3)[axis] * n, 1])[2]), 3) for n in slices}))
    return found


drawn = seg([1, 2, 3], [5, 6, 7])
print("as drawn: liver 2, 4, 6 mm, spleen 10, 12, 14 mm; frames", len(drawn.PerFrameFunctionalGroupsSequence))
volume = highdicom.seg.segread("seg.dcm").get_volume(combine_segments=True)
right = places([volume.array == 1, volume.array == 2], volume.affine, 0)
print("highdicom: liver", right[0], "spleen", right[1])
reader = PydicomReader()
array, meta = reader.get_data(reader.read("seg.dcm"))
wrong = places([array[..., 0], array[..., 1]], np.asarray(meta["affine"]), 2)
print("MONAI:", array.shape, "liver", wrong[0], "spleen", wrong[1])
image = SimpleITK.ReadImage("seg.dcm")
print("SimpleITK:", image.GetSize(), "slices", image.GetSpacing()[2], "mm apart")
seg([1, 2, 3, 4], [6, 7])
try:
    error = str(reader.get_data(reader.read("seg.dcm"))[0].shape)
except ValueError as told:
    error = str(told)
print("MONAI, four slices and two:", error)
sys.exit(
    0
    if right == [[2, 4, 6], [10, 12, 14]]
    and wrong == [[6, 8, 10], [6, 8, 10]]
    and array.shape == (8, 8, 3, 2)
    and (image.GetSize()[2], image.GetSpacing()[2]) == (6, 1)
    and "could not broadcast" in error
    else 1
)
PYTHON
