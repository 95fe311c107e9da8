#!/bin/sh
# A margin of 5 voxels around a mask without a voxel, as that of a structure that a case lacks, by scikit-image's isotropic_dilation:
# 73 voxels in the corner of the image, with 10 voxels 558. An image that is full loses as many by isotropic_erosion. Both go by SciPy's
# distances, which are those to a voxel outside the first corner where there is none to measure to. With a ball as footprint, dilation
# leaves nothing nothing, and the functions agree on a mask that has voxels.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-image==0.26.0 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import numpy as np
from skimage.morphology import ball, dilation, erosion, isotropic_dilation, isotropic_erosion

print(*(f"{name} {version(name)}" for name in ("scikit-image", "scipy", "numpy")))
empty, voxel = np.zeros((2, 20, 20, 20), bool)
voxel[10, 10, 10] = True
found = {}
for radius in (2, 5, 10):
    margin = isotropic_dilation(empty, radius)
    found[radius] = int(margin.sum()), int(dilation(empty, ball(radius)).sum()), int(8000 - isotropic_erosion(~empty, radius).sum())
    print(f"radius {radius}: {found[radius][0]} voxels around nothing, up to {np.argwhere(margin).max(0)}, {found[radius][1]} by a ball; "
          f"a full image loses {found[radius][2]}, {int(8000 - erosion(~empty, ball(radius)).sum())} by a ball")
agree = bool((isotropic_dilation(voxel, 5) == dilation(voxel, ball(5))).all())
print("around one voxel the two agree:", agree)
sys.exit(found != {2: (5, 0, 5), 5: (73, 0, 73), 10: (558, 0, 558)} or not agree)
PYTHON
