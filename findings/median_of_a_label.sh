#!/bin/sh
# The median of a liver in a CT, 60 HU, changes by voxels outside the liver: SimpleITK's LabelStatisticsImageFilter says 58.2, and
# 29.3 where one voxel elsewhere is metal of 30000; LabelIntensityStatisticsImageFilter says 60.4 and 89.8. Both take it from
# a histogram of few bins between the least and the largest value of the whole image. Means are right, and of
# 100,000 bins the median of the latter, which alone lets one set their number. ITK itself has taken a bin for each value
# of 8 and 16 bits since its issue 2482 of 2021; SimpleITK sets 128.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet SimpleITK==2.5.7 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import numpy as np, SimpleITK

print("SimpleITK", SimpleITK.__version__, "numpy", np.__version__)
ct = np.random.default_rng(0).normal(60, 12, (20, 20, 20)).round().astype(np.int16)
liver = np.zeros(ct.shape, np.uint8)
liver[5:15, 5:15, 5:15] = 1
ct[0] = -1000  # air, outside the liver
mean, median = float(ct[liver == 1].mean()), float(np.median(ct[liver == 1]))
found, means = [], []
for brightest in (None, 3071, 30000):  # one voxel of bone or metal, outside the liver
    if brightest:
        ct[0, 0, 0] = brightest
    image, label = SimpleITK.GetImageFromArray(ct), SimpleITK.GetImageFromArray(liver)
    plain, intensity = SimpleITK.LabelStatisticsImageFilter(), SimpleITK.LabelIntensityStatisticsImageFilter()
    plain.Execute(image, label)
    intensity.Execute(label, image)
    means += [plain.GetMean(1), intensity.GetMean(1)]
    found.append([plain.GetMedian(1), intensity.GetMedian(1)])
    intensity.SetNumberOfBins(100_000)
    intensity.Execute(label, image)
    found[-1].append(intensity.GetMedian(1))
    print(f"one voxel outside of {brightest}: LabelStatistics {found[-1][0]:.1f}, LabelIntensityStatistics {found[-1][1]:.1f}, "
          f"with 100,000 bins {found[-1][2]:.1f}; numpy {median}")
seen = [[58.2, 60.4, 60], [57.5, 65.5, 60], [29.3, 89.8, 60]]
sys.exit(median != 60 or not np.allclose(means, mean) or not np.allclose(found, seen, atol=0.2))
PYTHON
