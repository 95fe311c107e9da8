#!/bin/sh
# A NIfTI volume that nii2dcm has made a DICOM series of lies elsewhere. ImagePositionPatient gets the numbers of the NIfTI affine with
# their signs, though x and y run the other way in DICOM, and those of one slice further down; the directions are negated in all three
# components instead of x and y: of a coronal volume the head comes where the feet were. Negative numbers, such as the -1000 HU of air,
# become positive ones of 12 bits. Nothing is said about any of it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet nii2dcm==0.1.1 nibabel==5.4.2 pydicom==3.0.2 SimpleITK==2.5.7 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import contextlib
import io
import sys
from importlib.metadata import version
from pathlib import Path
import nibabel
import numpy as np
import pydicom
import SimpleITK as sitk
from nii2dcm.run import run_nii2dcm

print(*(f"{name} {version(name)}" for name in ("nii2dcm", "nibabel", "pydicom", "SimpleITK")))
folder = Path(sys.argv[1])
planes = {
    "axial": np.array([[-1.5, 0, 0, 90], [0, -1.5, 0, 120], [0, 0, 4, -60], [0, 0, 0, 1]]),
    "coronal": np.array([[1.5, 0, 0, -80], [0, 0, 4, -100], [0, 1.5, 0, -60], [0, 0, 0, 1]]),
}


def series_of(voxels, affine, place):
    place.mkdir()
    nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / "volume.nii.gz")
    with contextlib.redirect_stdout(io.StringIO()):
        run_nii2dcm(str(folder / "volume.nii.gz"), str(place), "MR")
    return sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(place))


moved = {}
for plane, affine in planes.items():
    voxels = np.zeros((20, 24, 8), np.int16)
    voxels[3, 5, 6], voxels[3, 15, 6] = 1000, 1001
    image = sitk.ReadImage(series_of(voxels, affine, folder / plane))
    array = sitk.GetArrayFromImage(image)  # (slices, rows, columns)
    before = np.array([(affine @ [3, row, 6, 1])[:3] for row in (5, 15)])
    after = [
        image.TransformIndexToPhysicalPoint([int(place) for place in np.argwhere(array == value)[0][::-1]])
        for value in (1000, 1001)
    ] * np.array([-1, -1, 1])
    moved[plane] = before, after
    print(f"{plane}: two points at {before.tolist()} mm (right, front, head) come to lie at {after.tolist()}")
voxels = np.full((20, 24, 2), -1000, np.int16)
voxels[0] = 400
files = series_of(voxels, planes["axial"], folder / "air")
air = pydicom.dcmread(files[0])
stored = set(np.unique(air.pixel_array).tolist())
print(f"-1000 and 400 are {sorted(stored)}, with an intercept of {air.RescaleIntercept}")
one, other = moved["axial"], moved["coronal"]
far = np.abs(one[1] - one[0]).min(axis=0)
turned = np.sign(other[0][1, 2] - other[0][0, 2]) != np.sign(other[1][1, 2] - other[1][0, 2])
sys.exit(not (far[0] > 100 and far[1] > 100 and far[2] == 4 and turned and stored == {400, 3096}))
PYTHON
