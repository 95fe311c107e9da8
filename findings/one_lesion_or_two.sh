#!/bin/sh
# Two squares that touch at a corner are one object to panoptica in a volume and two in a picture: without a choice of backend it
# takes cc3d for three axes, which joins over corners, and SciPy for two, which joins over faces. The same pixels with a third axis
# of length 1 count otherwise than without, so counts of lesions, panoptic quality and detection by slice do not compare with
# those by volume. Naming one backend for both makes them equal.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet panoptica==2.1.7 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings
from importlib.metadata import version
import numpy as np
from panoptica import CCABackend, ConnectedComponentsInstanceApproximator, InputType, NaiveThresholdMatching
from panoptica import Panoptica_Evaluator

warnings.simplefilter("ignore")
print(*(f"{name} {version(name)}" for name in ("panoptica", "connected-components-3d", "scipy", "numpy")))
picture = np.zeros((20, 20), np.uint8)
picture[2:5, 2:5] = 1
picture[5:8, 5:8] = 1
found = {}
for name, options in {
    "no backend named": {},
    "cc3d": {"cca_backend": CCABackend.cc3d},
    "scipy": {"cca_backend": CCABackend.scipy},
}.items():
    evaluator = Panoptica_Evaluator(
        expected_input=InputType.SEMANTIC,
        instance_approximator=ConnectedComponentsInstanceApproximator(**options),
        instance_matcher=NaiveThresholdMatching(),
    )
    counts = []
    for mask in (picture, picture[:, :, None]):
        (result,) = evaluator.evaluate(mask, mask, verbose=False).values()
        counts.append(int(result.to_dict()["n_ref_instances"]))
    found[name] = counts
    print(f"{name}: {counts[0]} objects in 20 x 20 pixels, {counts[1]} in 20 x 20 x 1 voxels")
sys.exit(found != {"no backend named": [2, 1], "cc3d": [1, 1], "scipy": [2, 2]})
PYTHON
