#!/bin/sh
# The HD95 of one pair of masks is 5 mm in medpy and 9 mm in surface-distance: one percentile of the distances of both
# directions together, against the larger of the two directions' percentiles. Both are called the 95 % Hausdorff distance.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet MedPy==0.5.2 surface-distance==0.1 scipy==1.17.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import numpy as np
import surface_distance
from medpy.metric.binary import hd, hd95

print("medpy", version("MedPy"), "surface-distance", version("surface-distance"), "numpy", np.__version__)
one = np.zeros((40, 40, 40), bool)
one[5:20, 5:20, 5:20] = True
other = one.copy()
other[20:32, 5:10, 5:10] = True  # a finger of 12 mm on the cube
distances = surface_distance.compute_surface_distances(one, other, (1, 1, 1))
found = []
for percentile, by_medpy in ((95, hd95(one, other)), (100, hd(one, other))):
    by_surface = surface_distance.compute_robust_hausdorff(distances, percentile)
    found.append((float(by_medpy), float(by_surface)))
    print(f"percentile {percentile}: medpy {by_medpy} mm, surface-distance {by_surface} mm")
sys.exit(found != [(5, 9), (12, 12)])
PYTHON
