#!/bin/sh
# Two filters of SimpleITK that take a mask disagree on what marks a voxel in it, and neither says that none is marked. The correction
# of a bias field takes 1: with a mask of 255, as image tools write them, the image comes back as it went in. Otsu's threshold
# takes 255: with a mask of 1, as label maps have it, the threshold is 32254 HU where the brightest voxel has 1099, and the soft
# tissue that should be told from bone is the whole mask. Li's threshold and ten others raise "Histogram is empty" then.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet SimpleITK==2.5.7 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import numpy as np, SimpleITK

print("SimpleITK", SimpleITK.__version__, "numpy", np.__version__)
generator = np.random.default_rng(0)
one = np.zeros((24, 24, 24), np.uint8)
one[4:20, 4:20, 4:20] = 1
field = 100 * (1 + 0.3 * np.linspace(-1, 1, 24)[:, None, None]) + generator.normal(0, 1, (24, 24, 24))
biased = SimpleITK.GetImageFromArray(field.astype(np.float32))
ct = np.full((24, 24, 24), -1000, np.int16)
ct[4:20, 4:20, 4:20] = generator.integers(30, 60, (16, 16, 16))
ct[9:15, 9:15, 9:15] = generator.integers(900, 1100, (6, 6, 6))
scan = SimpleITK.GetImageFromArray(ct)
found = {}
for value in (1, 255):
    mask = SimpleITK.GetImageFromArray(one * np.uint8(value))
    correction = SimpleITK.N4BiasFieldCorrectionImageFilter()
    correction.SetMaximumNumberOfIterations([20, 20])
    corrected = SimpleITK.GetArrayFromImage(correction.Execute(biased, mask))
    left = float(corrected[one == 1].std() / field[one == 1].std())
    otsu = SimpleITK.OtsuThresholdImageFilter()
    soft = int(SimpleITK.GetArrayFromImage(otsu.Execute(scan, mask)).sum())
    found[value] = round(left, 2), round(otsu.GetThreshold()), soft
    try:
        others = f"{SimpleITK.LiThresholdImageFilter().Execute(scan, mask).GetPixelIDTypeAsString()}"
    except RuntimeError as error:
        others = str(error).strip().rsplit(": ", 1)[-1]
    print(f"mask of {value}: {left:.0%} of the spread is left by the correction; Otsu's threshold {found[value][1]} HU, "
          f"{soft} voxels below it; Li's: {others}")
print(f"in the mask {int(one.sum())} voxels, {int((one.astype(bool) & (ct < 500)).sum())} of soft tissue; brightest {ct.max()} HU")
sys.exit(not (found[255][0] > 0.99 and found[1][0] < 0.2 and found[1][1:] == (32254, 4096) and found[255][2] == 3880))
PYTHON
