#!/bin/sh
# MISeval, a library of metrics for medical segmentation. Its "HD", the simple Hausdorff distance of two masks, is not of the places of
# their pixels but of the rows of the arrays: each row of 0 and 1 is taken for a point. A square moved down by 20 pixels has distance 0,
# one moved sideways by 20 pixels 3.16, the root of the 10 pixels by which its rows differ from an empty one. What it calls "AHD",
# the average Hausdorff distance, is the largest one, 20 in both cases. Of volumes "HD" is refused.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet miseval==1.3.0 MedPy==0.5.2 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import numpy as np
from medpy.metric.binary import assd, hd
from miseval import evaluate

print(*(f"{name} {version(name)}" for name in ("miseval", "MedPy", "numpy")))
reference = np.zeros((64, 64), int)
reference[10:20, 10:20] = 1
smaller = reference.copy()
smaller[10:12] = smaller[:, 10:12] = 0
found = {}
for name, other in (("20 down", np.roll(reference, 20, 0)), ("20 sideways", np.roll(reference, 20, 1)), ("two pixels smaller", smaller)):
    numbers = [evaluate(reference, other, metric=metric) for metric in ("HD", "AHD")]
    numbers += [hd(reference, other), assd(reference, other)]
    found[name] = tuple(round(float(number), 2) for number in numbers)
    print(f"{name}: MISeval HD {found[name][0]}, AHD {found[name][1]}; MedPy largest {found[name][2]}, average {found[name][3]}")
expected = {"20 down": (0.0, 20.0, 20.0), "20 sideways": (3.16, 20.0, 20.0), "two pixels smaller": (1.41, 2.83, 2.83)}
sys.exit(any(found[name][:3] != values or found[name][3] >= values[2] for name, values in expected.items()))
PYTHON
