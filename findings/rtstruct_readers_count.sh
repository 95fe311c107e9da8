#!/bin/sh
# Outlines midway between the centres of pixels, and a hole: 400 and 300 pixels become 441 and 360 or 320 in two of three readers.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet rt-utils==1.2.7 dcmrtstruct2nii==5 pydicom==2.4.5 numpy==1.26.4 SimpleITK==2.5.7 \
    opencv-python==4.11.0.86 scikit-image==0.25.2 setuptools
"$folder/venv/bin/pip" install --quiet --no-deps platipy==0.7.2
"$folder/venv/bin/python" - "$folder" <<'PYTHON' 2>/dev/null
import logging
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from dcmrtstruct2nii import dcmrtstruct2nii
from platipy.dicom.io.rtstruct_to_nifti import (
    read_dicom_image,
    read_dicom_struct_file,
    transform_point_set_from_dicom_struct,
)
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from rt_utils import RTStructBuilder

logging.disable()
root = Path(sys.argv[1])
(root / "series").mkdir()
study, one, frame = generate_uid(), generate_uid(), generate_uid()


def dataset(kind, **content):
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.is_little_endian, made.is_implicit_VR = True, False
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = kind
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    patient = {"PatientName": "A", "PatientID": "1", "PatientBirthDate": "", "PatientSex": "", "StudyDate": "20240101"}
    rest = {"StudyTime": "101010", "StudyID": "", "AccessionNumber": "", "StudyInstanceUID": study}
    return filled({**patient, **rest, "FrameOfReferenceUID": frame, **content}, made)


def filled(content, made=None):
    made = Dataset() if made is None else made
    for name, value in content.items():
        setattr(made, name, value)
    return made


slices = []
for z in range(4):
    place = {"ImagePositionPatient": [0, 0, 3 * z], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    grid = {"PixelSpacing": [1, 1], "SliceThickness": 3, "Rows": 40, "Columns": 40, "SamplesPerPixel": 1}
    bits = {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1}
    values = {"PhotometricInterpretation": "MONOCHROME2", "RescaleSlope": 1, "RescaleIntercept": 0}
    series = {"SeriesInstanceUID": one, "Modality": "CT", "SeriesNumber": 1, "InstanceNumber": z + 1}
    pixels = np.zeros((40, 40), np.int16).tobytes()
    image = dataset(CTImageStorage, **place, **grid, **bits, **values, **series, PixelData=pixels)
    image.save_as(root / "series" / f"{z}.dcm", write_like_original=False)
    slices.append(filled({"ReferencedSOPClassUID": CTImageStorage, "ReferencedSOPInstanceUID": image.SOPInstanceUID}))


def square(first, last, z):
    """The outline of pixels first to last: half a pixel outside of their centres."""
    low, high = first - 0.5, last + 0.5
    points = [low, low, 3 * z, high, low, 3 * z, high, high, 3 * z, low, high, 3 * z]
    kind = {"ContourGeometricType": "CLOSED_PLANAR", "NumberOfContourPoints": 4}
    return filled({**kind, "ContourImageSequence": [slices[z]], "ContourData": [f"{value:g}" for value in points]})


outlines = [square(10, 29, 1), square(10, 29, 2), square(15, 24, 2)]  # filled on slice 1, with a hole on slice 2
referenced = filled({"SeriesInstanceUID": one, "ContourImageSequence": slices})
detached = {"ReferencedSOPClassUID": "1.2.840.10008.3.1.2.3.1", "ReferencedSOPInstanceUID": study}
of_study = filled({**detached, "RTReferencedSeriesSequence": [referenced]})
of_frame = filled({"FrameOfReferenceUID": frame, "RTReferencedStudySequence": [of_study]})
told = {"ROINumber": 1, "ROIName": "ring", "ReferencedFrameOfReferenceUID": frame, "ROIGenerationAlgorithm": "MANUAL"}
drawn = {"ReferencedROINumber": 1, "ROIDisplayColor": [255, 0, 0], "ContourSequence": outlines}
observed = {"ObservationNumber": 1, "ReferencedROINumber": 1, "RTROIInterpretedType": "", "ROIInterpreter": ""}
structures = dataset(
    RTStructureSetStorage,
    **{"SeriesInstanceUID": generate_uid(), "Modality": "RTSTRUCT", "SeriesNumber": 2, "Manufacturer": ""},
    **{"StructureSetLabel": "A", "StructureSetDate": "20240101", "StructureSetTime": "101010"},
    **{"ReferencedFrameOfReferenceSequence": [of_frame], "StructureSetROISequence": [filled(told)]},
    **{"ROIContourSequence": [filled(drawn)], "RTROIObservationsSequence": [filled(observed)]},
)
structures.save_as(root / "rt.dcm", write_like_original=False)

found = {}
mask = RTStructBuilder.create_from(str(root / "series"), str(root / "rt.dcm")).get_roi_mask_by_name("ring")
found["rt-utils"] = mask.sum((0, 1))[1:3].tolist()
dcmrtstruct2nii(str(root / "rt.dcm"), str(root / "series"), str(root / "nii"))
mask = sitk.GetArrayFromImage(sitk.ReadImage(str(root / "nii" / "mask_ring.nii.gz"))) > 0
found["dcmrtstruct2nii"] = mask.sum((1, 2))[1:3].tolist()
image = read_dicom_image(str(root / "series"))
masks, _ = transform_point_set_from_dicom_struct(image, read_dicom_struct_file(str(root / "rt.dcm")))
found["platipy"] = sitk.GetArrayFromImage(masks[0]).sum((1, 2))[1:3].tolist()
print("pixels whose centre is inside: filled 400, with a hole 300")
for name, counts in found.items():
    print(f"{name} {version(name)}: filled {counts[0]}, with a hole {counts[1]}")
expected = {"rt-utils": [441, 360], "dcmrtstruct2nii": [400, 300], "platipy": [441, 320]}
sys.exit(0 if found == expected else 1)
PYTHON
