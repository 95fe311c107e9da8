#!/bin/sh
# Two CTs of a ball of soft tissue in air, the second with the ball 5 mm further on. The usual first step of an alignment, by the centres
# of mass (MOMENTS), moves by 1.15 mm in the opposite direction: air is -1000 HU, so that the image weighs less where the patient is, and
# the centre is that of a hole. With the same numbers less their smallest, air 0, it moves by 5 mm.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet SimpleITK==2.5.7 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import numpy as np, SimpleITK

print("SimpleITK", version("SimpleITK"))
z, y, x = np.mgrid[:40, :40, :40]


def ct(middle, air):
    """A ball of radius 14 mm of 40 HU; its centre along x."""
    ball = (x - middle) ** 2 + (y - 20) ** 2 + (z - 20) ** 2 <= 14**2
    return SimpleITK.GetImageFromArray(np.where(ball, np.float32(air + 1040), np.float32(air)))


found = {}
for air in (-1000, 0):
    step = SimpleITK.CenteredTransformInitializer(
        ct(20, air), ct(25, air), SimpleITK.Euler3DTransform(), SimpleITK.CenteredTransformInitializerFilter.MOMENTS)
    found[air] = [round(value, 2) for value in step.GetParameters()[3:]]
    print(f"the ball moves by 5 mm; with air {air} the alignment is {found[air]} mm")
sys.exit(found != {-1000: [-1.15, 0.0, 0.0], 0: [5.0, 0.0, 0.0]})
PYTHON
