#!/bin/sh
# A PET slice in Bq/ml that also states real world values, SUV by another slope, as scanners add them to PET and to maps of MR.
# highdicom's volumes and frames hold the SUV, since such values count before slope and intercept unless they are declined.
# SimpleITK, pydicom and dcm2niix give Bq/ml. One file is 2500 or 0.5, and no array says which.
#
# A CT whose low numbers are to be shown bright (MONOCHROME1), which the standard allows: highdicom and SimpleITK invert the
# numbers before slope and intercept are applied, so soft tissue of 40 HU is 63447. pydicom and dcm2niix give 40, and so does highdicom
# with apply_presentation_lut=False.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet highdicom==0.28.2 pydicom==3.0.2 SimpleITK==2.5.7 dcm2niix==1.0.20260724 nibabel==5.4.2 \
    numpy==2.4.6
cd "$folder"
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" - <<'PYTHON'
import subprocess, sys
from importlib.metadata import version
from pathlib import Path
import highdicom, nibabel, numpy as np, pydicom, SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

print(*(f"{name} {version(name)}" for name in ("highdicom", "pydicom", "SimpleITK", "dcm2niix")))


def written(name, *, kind, modality, photometric, slope, intercept, stored, suv_slope=None):
    """Three slices of `stored` as DICOM files."""
    study, series, frame = (generate_uid() for _ in range(3))
    files = []
    for k in range(3):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, kind, generate_uid()
        data = Dataset()
        data.file_meta = meta
        data.SOPClassUID, data.SOPInstanceUID, data.Modality = kind, meta.MediaStorageSOPInstanceUID, modality
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
        data.PatientID = data.PatientName = "phantom"
        data.PatientBirthDate = data.PatientSex = data.StudyID = data.AccessionNumber = data.ReferringPhysicianName = ""
        data.StudyDate, data.StudyTime, data.SeriesNumber, data.InstanceNumber = "20260101", "120000", 1, k + 1
        data.Manufacturer, data.ImageType = "SIEMENS", ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.ImagePositionPatient, data.ImageOrientationPatient = [-10, -20, 30 + 3 * k], [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = [2, 2], 3
        data.SamplesPerPixel, data.PhotometricInterpretation, data.Rows, data.Columns = 1, photometric, 8, 8
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 0
        data.RescaleSlope, data.RescaleIntercept = slope, intercept
        if suv_slope:
            units = Dataset()
            units.CodeValue, units.CodingSchemeDesignator, units.CodeMeaning = "g/ml{SUVbw}", "UCUM", "Standardized Uptake Value body weight"
            mapping = Dataset()
            mapping.RealWorldValueFirstValueMapped, mapping.RealWorldValueLastValueMapped = 0, 65535
            mapping.RealWorldValueIntercept, mapping.RealWorldValueSlope = 0.0, suv_slope
            mapping.LUTExplanation = mapping.LUTLabel = "SUV"
            mapping.MeasurementUnitsCodeSequence = [units]
            data.Units, data.RealWorldValueMappingSequence = "BQML", [mapping]
        data.PixelData = np.full((8, 8), stored, np.uint16).tobytes()
        path = Path(name, f"{k}.dcm")
        path.parent.mkdir(exist_ok=True)
        data.save_as(path, enforce_file_format=True)
        files.append(str(path))
    return files


def seen(files):
    """The value of the first voxel, per program."""
    data = [pydicom.dcmread(file) for file in files]
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(files)
    folder = str(Path(files[0]).parent)
    subprocess.run(["dcm2niix", "-f", folder, "-o", ".", folder], check=True, capture_output=True)
    return {
        "highdicom": float(highdicom.get_volume_from_series(data).array[0, 0, 0]),
        "highdicom, as stored": float(highdicom.get_volume_from_series(
            data, apply_real_world_transform=False, apply_presentation_lut=False).array[0, 0, 0]),
        "SimpleITK": float(SimpleITK.GetArrayFromImage(reader.Execute())[0, 0, 0]),
        "pydicom": float(apply_modality_lut(data[0].pixel_array, data[0])[0, 0]),
        "dcm2niix": float(nibabel.load(f"{folder}.nii").get_fdata()[0, 0, 0]),
    }


pet = seen(written("pet", kind=PositronEmissionTomographyImageStorage, modality="PT", photometric="MONOCHROME2", slope=2.5, intercept=0,
                   stored=1000, suv_slope=0.0005))
ct = seen(written("ct", kind=CTImageStorage, modality="CT", photometric="MONOCHROME1", slope=1, intercept=-1024, stored=1064))
print("PET of 2500 Bq/ml, SUV 0.5:", pet)
print("CT of 40 HU, MONOCHROME1:", ct)
others = ("highdicom, as stored", "pydicom", "dcm2niix")
sys.exit(pet != {"highdicom": 0.5, "SimpleITK": 2500.0, **{name: 2500.0 for name in others}}
         or ct != {"highdicom": 63447.0, "SimpleITK": 63447.0, **{name: 40.0 for name in others}})
PYTHON
