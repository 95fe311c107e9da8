#!/bin/sh
# Filters of SimpleITK that take a mask disagree on what marks a voxel in it. The correction of a bias field takes 1: with a mask of
# 255, as image tools write them, the image comes back uncorrected. Otsu's threshold, and those like it, take 255: with a mask of 1,
# as label maps have it, the threshold of a CT is 32254 HU instead of one between soft tissue and bone, and what they mark is the
# mask. Neither raises or warns that no voxel is in the mask.
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
spread, threshold, marked = {}, {}, {}
for value in (1, 255):
    mask = SimpleITK.GetImageFromArray(one * np.uint8(value))
    correction = SimpleITK.N4BiasFieldCorrectionImageFilter()
    correction.SetMaximumNumberOfIterations([20, 20])
    corrected = SimpleITK.GetArrayFromImage(correction.Execute(biased, mask))
    spread[value] = round(float((corrected[one == 1].std() / field[one == 1].std())), 3)
    filters = {"Otsu": SimpleITK.OtsuThresholdImageFilter(), "Li": SimpleITK.LiThresholdImageFilter()}
    for name, one_filter in filters.items():
        result = SimpleITK.GetArrayFromImage(one_filter.Execute(scan, mask))
        threshold[name, value], marked[name, value] = round(one_filter.GetThreshold()), int(result.sum())
        print(f"mask of {value}: {name}'s threshold {threshold[name, value]} HU, {marked[name, value]} voxels marked")
    print(f"mask of {value}: of the bias field's spread is left {spread[value]}")
print(f"voxels in the mask {int(one.sum())}, voxels of bone {int((ct > 500).sum())}")
sys.exit(0)
PYTHON
