#!/bin/sh
# A mask that fills its image, 8 x 8 x 8 voxels, resampled by nibabel onto a grid of half the voxel size and the same extent: with
# order=0 the outermost voxels are 0 although their nearest voxel is 1, for what lies beyond the centres of the border's voxels
# counts as outside. 2744 of 4096 voxels are left, a third is lost; of an image in Hounsfield units the rim is 0, as water.
# SimpleITK's Resample gives 4096. nilearn's resample_img loses the same voxels.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet nibabel==5.4.2 nilearn==0.14.1 SimpleITK==2.5.7 scipy==1.17.1 numpy==2.3.5
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import nibabel, numpy as np, SimpleITK
from nibabel.processing import resample_from_to
from nilearn.image import resample_img

print(*(f"{name} {version(name)}" for name in ("nibabel", "nilearn", "SimpleITK", "scipy", "numpy")))
mask = nibabel.Nifti1Image(np.ones((8, 8, 8), np.uint8), np.eye(4))
fine = np.diag([0.5, 0.5, 0.5, 1])
fine[:3, 3] = -0.25  # the corner of the first voxel stays at -0.5
shape = (16, 16, 16)
image = SimpleITK.GetImageFromArray(np.ones((8, 8, 8), np.uint8))
same = (SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, [-0.25] * 3, [0.5] * 3, np.eye(3).ravel().tolist())
found = {
    "nibabel": resample_from_to(mask, (shape, fine), order=0).get_fdata(),
    "nilearn": resample_img(mask, fine, shape, interpolation="nearest").get_fdata(),
    "SimpleITK": SimpleITK.GetArrayFromImage(SimpleITK.Resample(image, shape, *same)),
}
for name, values in found.items():
    print(f"{name}: {int(values.sum())} of {values.size} voxels are 1")
sys.exit([int(values.sum()) for values in found.values()] != [2744, 2744, 4096])
PYTHON
