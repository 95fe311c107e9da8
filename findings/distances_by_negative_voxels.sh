#!/bin/sh
# SciPy's distance transform takes a negative sampling without a word, and its distances are wrong then: between two walls five pixels
# apart it gives 2 and more where they are 0 to 2. scikit-rt takes voxel sizes with their signs from a NIfTI affine, where the first one
# is negative in files as dcm2niix writes them (left-anterior-superior), and hands them over: of the same two boxes its Hausdorff
# distance is 7 mm and not 3.6, and the mean surface distance twice as large. Its Dice and volumes are right.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# scikit-rt pins versions of 2022, of which some have no wheels for Python 3.11: it runs with these.
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 scipy==1.17.1 nibabel==5.4.2 pydicom==2.4.5 SimpleITK==2.5.7 pandas==3.1.1 \
    matplotlib==3.11.2 shapely==2.2.0 scikit-image==0.26.0 ipywidgets==8.1.9 ipython==9.18.1 tomli==2.5.0
"$folder/venv/bin/pip" install --quiet --no-deps scikit-rt==0.8.2
cd "$folder"
MPLCONFIGDIR="$folder" "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import nibabel
import numpy as np
from scipy.ndimage import distance_transform_edt
from skrt import ROI

print(*(f"{name} {version(name)}" for name in ("scipy", "scikit-rt", "nibabel", "numpy")))
between = np.ones((6, 6), bool)
between[:, [0, 5]] = False
walls = {sign: np.round(distance_transform_edt(between, sampling=(sign, 1))[2], 2).tolist() for sign in (1, -1)}
for sign, distances in walls.items():
    print(f"SciPy, sampling ({sign}, 1): {distances} pixels from the nearer wall")

first, second = np.zeros((2, 30, 30, 12), np.uint8)
first[5:15, 6:16, 3:8] = 1
second[7:17, 6:16, 3:9] = 1
found = {}
for name, sign in (("right-anterior-superior", 1), ("left-anterior-superior", -1)):
    regions = []
    for mask, file in ((first, "first.nii.gz"), (second, "second.nii.gz")):
        nibabel.save(nibabel.Nifti1Image(mask, np.diag([sign, 1.0, 3.0, 1.0])), file)
        regions.append(ROI(file, name=file[:-7]))
    one, other = regions
    found[sign] = [
        round(float(value), 2)
        for value in (
            *(one.get_dice(other), one.get_volume()),
            *(one.get_hausdorff_distance(other), one.get_mean_surface_distance(other)),
        )
    ]
    dice, volume, hausdorff, mean = found[sign]
    print(f"{name}: Dice {dice}, {volume} mm3, Hausdorff distance {hausdorff} mm, mean surface distance {mean} mm")
right, wrong = found[1], found[-1]
sys.exit(
    not (
        walls == {1: [0, 1, 2, 2, 1, 0], -1: [2, 2.24, 2.83, 2.83, 2.24, 2]}
        and right[:2] == wrong[:2]
        and right[2:] == [3.61, 1.21]
        and wrong[2:] == [7, 2.39]
    )
)
PYTHON
