#!/bin/sh
# An image of Analyze 7.5, whose header knows no directions but six ways that it may have been sliced. That left and right are unsure is
# known; front and back are, too: nibabel takes the second axis as running to the front, SimpleITK as running to the back, and the place
# of the first voxel is another one. Whichever of the six the header states, neither heeds it. SimpleITK warns that the format is old.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet nibabel==5.4.2 SimpleITK==2.5.7 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path
import nibabel, numpy as np, SimpleITK

print(*(f"{name} {version(name)}" for name in ("nibabel", "SimpleITK")))
ORIENT = 252  # the byte of the header that says how the image was sliced
WAYS = ("transverse", "coronal", "sagittal", "transverse, flipped", "coronal, flipped", "sagittal, flipped")
voxels = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8)
header = nibabel.AnalyzeImage.header_class()
header.set_data_shape(voxels.shape)
header.set_data_dtype(np.int16)
header.set_zooms((2, 3, 4))
nibabel.save(nibabel.AnalyzeImage(voxels, None, header), "image.img")
SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
found = set()
for code, way in enumerate(WAYS):
    stated = bytearray(Path("image.hdr").read_bytes())
    stated[ORIENT] = code
    Path("image.hdr").write_bytes(stated)
    one, other = nibabel.load("image.img"), SimpleITK.ReadImage("image.hdr")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(other.GetDirection(), (3, 3)) * other.GetSpacing()
    affine[:3, 3] = other.GetOrigin()
    affine = np.diag([-1, -1, 1, 1]) @ affine  # from left and back to right and front
    same = bool((SimpleITK.GetArrayFromImage(other).T == np.asarray(one.dataobj)).all())
    axes = ["".join(nibabel.aff2axcodes(matrix)) for matrix in (one.affine, affine)]
    places = [(matrix[:3, 3] + 0.0).tolist() for matrix in (one.affine, affine)]
    print(f"{way}: nibabel {axes[0]}, first voxel at {places[0]}; SimpleITK {axes[1]}, at {places[1]}; the same voxels: {same}")
    found.add((*axes, *map(tuple, places), same))
sys.exit(found != {("LAS", "LPS", (5, -9, -14), (0, 0, 0), True)})
PYTHON
