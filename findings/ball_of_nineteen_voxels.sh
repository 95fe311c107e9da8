#!/bin/sh
# A voxel that SimpleITK dilates by a ball of radius 1 becomes 19 voxels, the farthest 1.41 away, where 7 lie within the radius:
# the ball of radius r is drawn with a radius of r + 1/2. With radius 5 a margin has 739 voxels instead of 515. scikit-image's
# ball is the one within the radius. Dilation, erosion, opening and closing of SimpleITK all take this ball by default.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet SimpleITK==2.5.7 scikit-image==0.26.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import numpy as np, SimpleITK, skimage
from skimage.morphology import ball, dilation

print("SimpleITK", SimpleITK.__version__, "scikit-image", skimage.__version__, "numpy", np.__version__)
one = np.zeros((15, 15, 15), np.uint8)
one[7, 7, 7] = 1
distance = np.sqrt(((np.indices(one.shape) - 7) ** 2).sum(0))
found = {}
for radius in (1, 2, 3, 5):
    grown = SimpleITK.BinaryDilate(SimpleITK.GetImageFromArray(one), (radius,) * 3, SimpleITK.sitkBall)
    grown = SimpleITK.GetArrayFromImage(grown) > 0
    found[radius] = int(grown.sum()), int(dilation(one, ball(radius)).sum()), int((distance <= radius).sum())
    print(f"radius {radius}: SimpleITK {found[radius][0]} voxels, the farthest {distance[grown].max():.2f} away; "
          f"scikit-image {found[radius][1]}; within the radius {found[radius][2]}")
sys.exit(found != {1: (19, 7, 7), 2: (81, 33, 33), 3: (179, 123, 123), 5: (739, 515, 515)})
PYTHON
