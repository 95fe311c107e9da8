#!/bin/sh
# The centre line of a straight vessel, by scikit-image's skeletonize in three dimensions, which is said to keep the shape of what
# it thins. A vessel whose width is an odd number of voxels has one; a vessel of an even width, round or square, 2 or 12 voxels wide, has
# none: not one voxel is left, and a ball about a corner of voxels is gone as well. Lengths, numbers of vessels and the clDice of
# such a vessel with itself, whose terms divide by the skeleton, come out of nothing. Each plane by itself keeps its line.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-image==0.26.0 kimimaro==5.8.5 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import kimimaro, numpy as np
from skimage.morphology import skeletonize

print(*(f"{name} {version(name)}" for name in ("scikit-image", "kimimaro", "numpy")))
z, y, x = np.indices((60, 32, 32))
found = {}
for width in (2, 3, 4, 5, 8, 9, 12):
    middle = 14.5 if width % 2 == 0 else 15
    tube = ((y - middle) ** 2 + (x - middle) ** 2 <= (width / 2) ** 2) & (z >= 5) & (z < 55)
    square = np.zeros_like(tube)
    square[5:55, 5 : 5 + width, 5 : 5 + width] = True
    ball = ((np.stack((z, y, x)) - middle) ** 2).sum(0) <= (width / 2) ** 2
    lines = kimimaro.skeletonize(tube.astype(np.uint8), dust_threshold=0, parallel=1, progress=False)
    found[width] = (
        *(int(skeletonize(mask).sum()) for mask in (tube, square, ball)),
        int(skeletonize(square[:, 5 + width // 2]).sum()),
    )
    print(f"width {width}: {found[width][0]} voxels of {tube.sum()} are the skeleton of the tube, {found[width][1]} of the square one, "
          f"{found[width][2]} of the ball; {found[width][3]} of one plane; kimimaro's line has "
          f"{len(lines[1].vertices) if 1 in lines else 0} vertices")
sys.exit(any((width % 2 == 0) != (values[:3] == (0, 0, 0)) or not all(values[:2]) != (width % 2 == 0) or not values[3]
             for width, values in found.items()))
PYTHON
