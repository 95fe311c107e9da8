#!/bin/sh
# zmesh, which makes meshes of label maps, moves a mesh by a whole voxel along each axis if it is asked to close it at the border of
# the image: a cube of which the mesh runs from 3.5 to 9.5 voxels runs from 4.5 to 10.5 with close=True, though it does not
# touch the border. With voxels of 1, 2 and 5 mm the mesh lies 1, 2 and 5 mm away. Parts of one body meshed with and without
# no longer fit.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet zmesh==1.15.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import numpy as np, zmesh

print("zmesh", version("zmesh"), "numpy", np.__version__)
label = np.zeros((16, 16, 16), np.uint8)
label[4:10, 4:10, 4:10] = 1
found = {}
for spacing in ((1, 1, 1), (1, 2, 5)):
    for close in (False, True):
        mesher = zmesh.Mesher(spacing)
        mesher.mesh(label, close=close)
        points = mesher.get(1, normals=False).vertices
        found[spacing, close] = points.min(0).tolist(), points.max(0).tolist()
        print(f"voxels of {spacing} mm, close={close}: from {found[spacing, close][0]} to {found[spacing, close][1]} mm")
sys.exit(
    found
    != {
        ((1, 1, 1), False): ([3.5, 3.5, 3.5], [9.5, 9.5, 9.5]),
        ((1, 1, 1), True): ([4.5, 4.5, 4.5], [10.5, 10.5, 10.5]),
        ((1, 2, 5), False): ([3.5, 7, 17.5], [9.5, 19, 47.5]),
        ((1, 2, 5), True): ([4.5, 9, 22.5], [10.5, 21, 52.5]),
    }
)
PYTHON
