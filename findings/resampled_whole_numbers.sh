#!/bin/sh
# An image of whole numbers that SimpleITK resamples linearly stays one of whole numbers, and what lies between two is cut
# towards zero, not rounded: soft tissue in Hounsfield units is half a unit darker in the mean, fat half a unit brighter, and
# of a map of 0 and 1 those voxels are left whose neighbours are both 1. SciPy rounds; as float32 nothing is lost.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet SimpleITK==2.5.7 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import numpy as np, scipy, SimpleITK
from scipy.ndimage import shift

print("SimpleITK", SimpleITK.__version__, "SciPy", scipy.__version__, "numpy", np.__version__)
aside = 0.37


def moved(voxels):
    """A row of voxels, 0.37 of a voxel aside; the last one has no neighbour."""
    image = SimpleITK.GetImageFromArray(voxels[None, :])
    there = SimpleITK.TranslationTransform(2, [aside, 0.0])
    return SimpleITK.GetArrayFromImage(SimpleITK.Resample(image, image, there, SimpleITK.sitkLinear))[0, :-1]


random = np.random.default_rng(0)
off = {}
for name, low, high in (("soft tissue", 40, 61), ("fat", -120, -79)):
    voxels = random.integers(low, high, 100_000).astype(np.int16)
    exact = (1 - aside) * voxels[:-1] + aside * voxels[1:]
    for way, found in (
        ("SimpleITK, int16", moved(voxels)),
        ("SimpleITK, float32", moved(voxels.astype(np.float32))),
        ("SciPy, int16", shift(voxels, -aside, order=1)[:-1]),
    ):
        off[name, way] = float((found - exact).mean())
        print(f"{name}, {way}: {found.dtype}, {off[name, way]:+.2f} HU in the mean, {np.abs(found - exact).max():.2f} at most")
mask = np.array([0, 0, 1, 1, 1, 0, 0], np.uint8)
marked, rounded = moved(mask).tolist(), shift(mask, -aside, order=1)[:-1].tolist()
print(f"0, 0, 1, 1, 1, 0, 0 becomes {marked} by SimpleITK and {rounded} by SciPy")
sys.exit(
    0
    if -0.5 < off["soft tissue", "SimpleITK, int16"] < -0.45
    and 0.45 < off["fat", "SimpleITK, int16"] < 0.5
    and all(abs(off[name, way]) < 0.01 for name, way in off if way != "SimpleITK, int16")
    and (marked, rounded) == ([0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 0])
    else 1
)
PYTHON
