#!/bin/sh
# One bright pixel, smoothed by SimpleITK's DiscreteGaussian with a standard deviation of 20 mm, comes out with one of 15.8 mm, and on
# pixels of half a millimetre with 7.9 mm instead of 10: the kernel has at most 32 pixels to each side, and the rest is cut off without
# a word. So a finer image of the same patient is smoothed less. SmoothingRecursiveGaussian and SciPy come within 5 % of what was asked
# for, and so does DiscreteGaussian with a larger maximumKernelWidth.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet SimpleITK==2.5.7 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import numpy as np, SimpleITK
from scipy.ndimage import gaussian_filter

print(*(f"{name} {version(name)}" for name in ("SimpleITK", "scipy")))
dot = np.zeros((301, 301), np.float32)
dot[150, 150] = 1
found = {}
for spacing, sigma in ((1.0, 5.0), (1.0, 20.0), (0.5, 10.0)):
    image = SimpleITK.GetImageFromArray(dot)
    image.SetSpacing((spacing, spacing))
    images = {
        "DiscreteGaussian": SimpleITK.GetArrayFromImage(SimpleITK.DiscreteGaussian(image, sigma**2)),
        "DiscreteGaussian, wider": SimpleITK.GetArrayFromImage(
            SimpleITK.DiscreteGaussian(image, sigma**2, maximumKernelWidth=512, maximumError=1e-4)),
        "SmoothingRecursiveGaussian": SimpleITK.GetArrayFromImage(SimpleITK.SmoothingRecursiveGaussian(image, sigma)),
        "SciPy": gaussian_filter(dot, sigma / spacing),
    }
    rows = (np.arange(301) - 150) * spacing
    row = {name: round(float(np.sqrt(values.sum(1) @ rows**2 / values.sum())), 1) for name, values in images.items()}
    print(f"{sigma:g} mm on pixels of {spacing:g} mm:", row)
    found[spacing, sigma] = row["DiscreteGaussian"], [abs(value - sigma) <= 0.05 * sigma for name, value in row.items() if name != "DiscreteGaussian"]
sys.exit(found != {(1.0, 5.0): (4.8, [True] * 3), (1.0, 20.0): (15.8, [True] * 3), (0.5, 10.0): (7.9, [True] * 3)})
PYTHON
