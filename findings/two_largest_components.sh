#!/bin/sh
# A prediction has one organ twice, in two parts of 8 voxels each, as a mirrored kidney. nnU-Net's post-processing calls
# remove_all_but_largest_component of acvl_utils, which keeps each part of the largest size, so both stay; a third of 8 stays as well.
# One voxel more in one of them, and the other is gone. cc3d's largest_k and SimpleITK's sorted components keep one part of two.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet connected-components-3d==4.1.1 scikit-image==0.26.0 SimpleITK==2.5.7 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/pip" install --quiet --no-deps acvl_utils==0.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import cc3d, numpy as np, SimpleITK
from acvl_utils.morphology.morphology_helper import remove_all_but_largest_component

print(*(f"{name} {version(name)}" for name in ("acvl_utils", "connected-components-3d", "SimpleITK", "numpy")))


def left(mask):
    """The number of parts that three libraries leave of a mask, where its largest part alone is asked for."""
    parts = SimpleITK.RelabelComponent(SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask.astype(np.uint8))))
    kept = {
        "acvl_utils": remove_all_but_largest_component(mask),
        "cc3d": cc3d.largest_k(mask, k=1),
        "SimpleITK": SimpleITK.GetArrayFromImage(parts) == 1,
    }
    return {name: int(cc3d.connected_components(np.asarray(values) > 0).max()) for name, values in kept.items()}


two = np.zeros((20, 20, 20), bool)
two[2:4, 2:4, 2:4] = two[10:12, 10:12, 10:12] = True
three = two.copy()
three[16:18, 2:4, 2:4] = True
uneven = two.copy()
uneven[4, 2, 2] = True
found = {name: left(mask) for name, mask in (("two of 8", two), ("three of 8", three), ("9 and 8", uneven))}
for name, parts in found.items():
    print(f"{name} voxels: parts that are left {parts}")
sys.exit([parts["acvl_utils"] for parts in found.values()] != [2, 3, 1]
         or any(parts[name] != 1 for parts in found.values() for name in ("cc3d", "SimpleITK")))
PYTHON
