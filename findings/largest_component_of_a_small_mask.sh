#!/bin/sh
# The largest component of a mask of 48 voxels is, by ANTsPy, the whole image: every voxel is 1. Components of fewer than 50 voxels
# are left out, which is the default of min_size, and if none is left the result is not empty but full. A mask of 60 voxels
# comes back as it is; an empty mask, as of a network that found nothing, is full too. So a lesion becomes a whole head.
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
found = {}
for thick in (0, 3, 4, 5):
    mask = np.zeros((20, 24, 16), np.float32)
    mask[4 : 4 + thick, 8:12, 6:10] = 1
    image = ants.from_numpy(mask)
    marked = int(mask.sum())
    found[marked] = tuple(
        int(result.numpy().sum())
        for result in (ants.iMath(image, "GetLargestComponent"), ants.iMath_get_largest_component(image, min_size=1))
    )
    print(f"mask of {marked} voxels: {found[marked][0]} of {mask.size} by default, {found[marked][1]} with min_size=1")
sys.exit(found != {0: (7680, 7680), 48: (7680, 48), 64: (64, 64), 80: (80, 80)})
PYTHON
