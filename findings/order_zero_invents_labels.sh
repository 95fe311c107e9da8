#!/bin/sh
# scikit-image's resize with order=0, the nearest voxel, makes a label map of 0, 2 and 5 coarser. As whole numbers it stays one. As
# floats, which nibabel's get_fdata gives, the labels are blurred first, so that half of the voxels have values that no label
# has, and rounding finds organs 1 and 4 along the borders. anti_aliasing=False is right.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-image==0.26.0 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import numpy as np
from skimage.transform import resize

print(*(f"{name} {version(name)}" for name in ("scikit-image", "scipy", "numpy")))
labels = np.zeros((20, 20, 20))
labels[5:12, 5:12, 5:12] = 2
labels[12:16] = 5
found = {}
for name, kind, options in (
    ("uint8", np.uint8, {}),
    ("float32", np.float32, {}),
    ("float64", np.float64, {}),
    ("float64, anti_aliasing=False", np.float64, {"anti_aliasing": False}),
):
    small = resize(labels.astype(kind), (10, 10, 10), order=0, preserve_range=True, **options)
    rounded = [int(value) for value in np.unique(np.round(small))]
    found[name] = float((~np.isin(small, (0, 2, 5))).mean()), rounded
    print(f"{name}: {found[name][0]:.0%} of the voxels are none of 0, 2 and 5; rounded {rounded}")
right = 0, [0, 2, 5]
wrong = [found[name] for name in ("float32", "float64")]
sys.exit(not (found["uint8"] == found["float64, anti_aliasing=False"] == right
              and all(share > 0.3 and values == [0, 1, 2, 4, 5] for share, values in wrong)))
PYTHON
