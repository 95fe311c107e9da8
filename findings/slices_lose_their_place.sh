#!/bin/sh
# SimpleITK writes the slices of a volume as DICOM files, as in `WriteImage(volume[:, :, k : k + 1], "0.dcm")`. What the files
# hold depends on what the process has done before: if it has read any DICOM file, each slice holds its place, directions and
# spacing; if not, as where the volume comes from NIfTI, the very same lines write files without a place. All slices lie at
# (0, 0, 0) then, 1 mm apart, for whoever reads the series, and nothing is said. With a modality in the image's metadata
# (0008|0060 CT) the places are kept in both cases.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet SimpleITK==2.5.7 pydicom==3.0.2 numpy==2.4.6
cd "$folder"
cat > write.py <<'PYTHON'
"""Write four sagittal slices as NAME-0.dcm to NAME-3.dcm: write.py NAME TYPE MODALITY [DICOM FILE TO READ BEFORE]."""
import sys
import numpy as np, SimpleITK

name, kind, modality, *before = sys.argv[1:]
for file in before:
    SimpleITK.ReadImage(file)
volume = SimpleITK.GetImageFromArray(np.arange(4 * 16 * 20).reshape(4, 16, 20).astype(kind))
volume.SetSpacing((0.7, 0.8, 2.5))
volume.SetOrigin((-120, -110, 300))
volume.SetDirection((0, 0, 1, 1, 0, 0, 0, 1, 0))
for k in range(4):
    part = volume[:, :, k : k + 1]
    if modality != "none":
        part.SetMetaData("0008|0060", modality)
    SimpleITK.WriteImage(part, f"{name}-{k}.dcm")
PYTHON
cat > report.py <<'PYTHON'
import sys
import pydicom, SimpleITK

print("SimpleITK", SimpleITK.__version__, "pydicom", pydicom.__version__)
found = {}
for name in ("int16", "uint16", "int16-read-before", "uint16-read-before", "int16-CT"):
    header = pydicom.dcmread(f"{name}-3.dcm")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([f"{name}-{k}.dcm" for k in range(4)])
    back = reader.Execute()
    last = back.TransformIndexToPhysicalPoint((0, 0, 3))
    found[name] = "ImagePositionPatient" in header, round(back.GetSpacing()[2], 3), tuple(round(value, 3) for value in last)
    print(f"{name}: {'a' if found[name][0] else 'no'} place in the file, {found[name][1]} mm between slices, the last at {found[name][2]}")
lost, whole = (False, 1.0, (0.0, 0.0, 3.0)), (True, 2.5, (-112.5, -110.0, 300.0))
sys.exit([found[name] for name in found] != [lost, lost, whole, whole, whole])
PYTHON
for kind in int16 uint16; do
    "$folder/venv/bin/python" write.py $kind $kind none
    "$folder/venv/bin/python" write.py $kind-read-before $kind none int16-0.dcm
done
"$folder/venv/bin/python" write.py int16-CT int16 CT
"$folder/venv/bin/python" report.py
