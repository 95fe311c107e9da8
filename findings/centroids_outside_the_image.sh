#!/bin/sh
# ANTsPy's label_image_centroids gives places that are not those of the labels: of one voxel at (17, 17, 12) in an image of
# 20 x 24 x 16 it says (12, 4, 21), which is outside the image. In a cube the three numbers are in reverse order. With
# physical=True, spacing 2 mm and an origin, the numbers are the same. get_center_of_mass of a mask is right.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet antspyx==0.6.3 numpy==2.3.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import ants, numpy as np

print("antspyx", version("antspyx"), "numpy", np.__version__)
found = []
for shape, voxel in (((20, 24, 16), (17, 17, 12)), ((10, 10, 10), (2, 3, 4))):
    label = np.zeros(shape, np.float32)
    label[voxel] = 1
    image = ants.from_numpy(label, origin=(10.0, 20.0, 30.0), spacing=(2.0, 2.0, 2.0))
    voxels, physical = (ants.label_image_centroids(image, physical=yes)["vertices"][0].tolist() for yes in (False, True))
    mass = list(ants.get_center_of_mass(image))
    print(f"{shape}, voxel {voxel}: centroid {voxels}, with physical=True {physical}; get_center_of_mass {mass} mm")
    found.append((voxels, physical, mass))
sys.exit(
    found
    != [([12, 4, 21], [12, 4, 21], [44, 54, 54]), ([4, 3, 2], [4, 3, 2], [14, 26, 38])]
)
PYTHON
