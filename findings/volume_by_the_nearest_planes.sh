#!/bin/sh
# A box of 20 x 20 mm is outlined on five slices 3 mm apart: 6 ml for dicompyler-core. One outline more, 1 mm beside one of them, as
# some planning systems interpolate, and it has 2.4 ml, since the smallest distance of two outlines is the thickness of all. Outlined on
# one slice alone, as small lesions and lenses are, it has no volume at all and an empty histogram, however thick the slice is.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet dicompyler-core==0.5.6 pydicom==2.4.5 numpy==1.26.4 matplotlib==3.10.9
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import logging
import sys
from importlib.metadata import version
import numpy as np
import pydicom
from dicompylercore import dvhcalc
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, RTDoseStorage, RTStructureSetStorage, generate_uid

print(*(f"{name} {version(name)}" for name in ("dicompyler-core", "pydicom", "numpy")))
logging.disable(logging.CRITICAL)


def dataset(kind, **values):
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = kind
    made.is_little_endian, made.is_implicit_VR = True, False
    made.SOPClassUID, made.SOPInstanceUID, made.FrameOfReferenceUID = kind, generate_uid(), generate_uid()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def item(**values):
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made


dose = dataset(
    RTDoseStorage, Modality="RTDOSE", Rows=60, Columns=60, NumberOfFrames=31, PixelSpacing=[1, 1], SliceThickness=1,
    ImagePositionPatient=[-29.5, -29.5, -15], ImageOrientationPatient=[1, 0, 0, 0, 1, 0], BitsAllocated=16, BitsStored=16, HighBit=15,
    PixelRepresentation=0, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", DoseUnits="GY", DoseType="PHYSICAL",
    DoseSummationType="PLAN", DoseGridScaling=0.01, GridFrameOffsetVector=[float(z) for z in range(31)],
    PixelData=np.full((31, 60, 60), 2000, np.uint16).tobytes(),
)


def volume_ml(planes_mm):
    outlines = []
    for z in planes_mm:
        corners = [-10, -10, z, 10, -10, z, 10, 10, z, -10, 10, z]
        outlines.append(item(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=4, ContourData=corners))
    structures = dataset(
        RTStructureSetStorage, Modality="RTSTRUCT",
        StructureSetROISequence=Sequence([item(ROINumber=1, ROIName="box", ROIGenerationAlgorithm="")]),
        ROIContourSequence=Sequence([item(ReferencedROINumber=1, ROIDisplayColor=[255, 0, 0], ContourSequence=Sequence(outlines))]),
        RTROIObservationsSequence=Sequence([item(ObservationNumber=1, ReferencedROINumber=1, RTROIInterpretedType="GTV")]),
    )
    return float(dvhcalc.get_dvh(structures, dose, 1).volume)


even, more, alone = (volume_ml(planes) for planes in ([-6, -3, 0, 3, 6], [-6, -3, 0, 1, 3, 6], [0]))
print(f"five outlines 3 mm apart: {even:.2f} ml; with one more between two of them: {more:.2f} ml; one outline: {alone:.2f} ml")
sys.exit(not (abs(even - 6) < 0.01 and abs(more - 2.4) < 0.01 and alone == 0))
PYTHON
