#!/bin/sh
# The distance to the nearest voxel of a mask that has none, as for an empty reference: SciPy's distance_transform_edt gives
# finite numbers, those to a voxel before the first row, (-1, 0, 0), which is not in the image. So a Hausdorff distance by
# hand is a number of millimetres, and another one if the axes are turned. Its sisters give -1 and 1e154, edt gives infinity.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scipy==1.17.1 edt==3.1.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import edt, numpy as np, scipy
from scipy.ndimage import distance_transform_bf, distance_transform_cdt, distance_transform_edt

print("SciPy", scipy.__version__, "edt", version("edt"), "numpy", np.__version__)
predicted, reference = np.zeros((2, 40, 30, 20), bool)
predicted[10:20, 10:20, 5:10] = True
farthest = {}
for name, order in (("as stored", (0, 1, 2)), ("axes turned", (2, 1, 0))):
    spacing = np.array((1.0, 1.0, 3.0))[list(order)]
    to_reference = distance_transform_edt(~reference.transpose(order), sampling=spacing)
    farthest[name] = float(to_reference[predicted.transpose(order)].max())
    print(f"{name}: from the prediction to an empty reference {farthest[name]:.1f} mm")
whole = np.ones((2, 3), bool)
by = {
    "distance_transform_edt": distance_transform_edt(whole),
    "distance_transform_cdt": distance_transform_cdt(whole),
    "distance_transform_bf": distance_transform_bf(whole),
    "edt.edt": edt.edt(whole),
}
for name, found in by.items():
    print(f"{name} of two rows of three voxels: {found.tolist()}")
same = np.hypot(np.arange(1, 3)[:, None], np.arange(3))
sys.exit(
    0
    if abs(farthest["as stored"] - np.sqrt(20**2 + 19**2 + 27**2)) < 1e-6
    and abs(farthest["axes turned"] - np.sqrt(30**2 + 19**2 + 19**2)) < 1e-6
    and np.allclose(by["distance_transform_edt"], same)
    and (by["distance_transform_cdt"] == -1).all()
    and (by["distance_transform_bf"] > 1e150).all()
    and np.isinf(by["edt.edt"]).all()
    else 1
)
PYTHON
