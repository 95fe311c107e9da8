#!/bin/sh
# The HD95 of two masks is there so that a stray voxel does not count. A ball of radius 12 mm and the same ball with one voxel 17 mm
# beside it: MedPy says 0 mm. platipy's "hausdorffDistance95" says 16.15: it takes the 95th percentile of two numbers, the largest
# distances of the two directions. Its "sigmaSurfaceDistance", which is to be the spread of the distances, is 17 mm, since it grows
# with the root of the number of voxels: of the same masks at half the pixel size it is the larger.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet platipy==0.7.2 SimpleITK==2.5.7 numpy==2.4.6 scipy==1.17.1 MedPy==0.5.2
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import numpy as np
import SimpleITK as sitk
from medpy.metric.binary import hd95
from platipy.imaging.label.comparison import compute_surface_metrics

print(*(f"{name} {version(name)}" for name in ("platipy", "SimpleITK", "MedPy", "numpy")))
z, y, x = np.mgrid[:40, :64, :64]
ball = (z - 20) ** 2 + (y - 32) ** 2 + (x - 32) ** 2 < 12**2
stray = ball.copy()
stray[20, 32, 60] = True
shifted = np.roll(ball, 2, axis=2)


def measure(one, other, times):
    images = [sitk.GetImageFromArray(mask.repeat(times, 0).repeat(times, 1).repeat(times, 2).astype(np.uint8)) for mask in (one, other)]
    for image in images:
        image.SetSpacing((1 / times,) * 3)
    return compute_surface_metrics(*images)


found = measure(ball, stray, 1)
peer = hd95(ball, stray)
print(f"one voxel astray: HD95 {found['hausdorffDistance95']:.2f} mm, largest {found['hausdorffDistance']:.2f}; MedPy's HD95 {peer:.2f}")
coarse, fine = measure(ball, shifted, 1), measure(ball, shifted, 2)
print("moved by 2 mm, spread of the distances and the largest one:")
for name, numbers in (("voxels of 1 mm", coarse), ("voxels of 0.5 mm", fine)):
    print(f"  {name}: {numbers['sigmaSurfaceDistance']:.1f} mm, {numbers['maximumSurfaceDistance']:.1f} mm")
same = abs(found["hausdorffDistance95"] - 0.95 * found["hausdorffDistance"]) < 1e-6 and peer == 0
wide = coarse["sigmaSurfaceDistance"] > 5 * coarse["maximumSurfaceDistance"]
sys.exit(not (same and wide and fine["sigmaSurfaceDistance"] > 1.5 * coarse["sigmaSurfaceDistance"]))
PYTHON
