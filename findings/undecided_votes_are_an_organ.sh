#!/bin/sh
# Two observers outline a liver (1), one of them 1 voxel further along. SimpleITK's LabelVoting gives the voxels on which they differ the
# value one above the largest that occurs in the case: 2. That is the spleen where spleens are 2 and this case holds none, and it is a
# region that nobody drew. With the spleen in the image the same voxels are 3, so one command codes one doubt differently from case to
# case. MultiLabelSTAPLE of the same outlines takes them for background.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet SimpleITK==2.5.7 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import numpy as np
import SimpleITK as sitk

print(*(f"{name} {version(name)}" for name in ("SimpleITK", "numpy")))


def outlines(with_spleen):
    found = []
    for begin in (3, 4):
        mask = np.zeros((10, 12, 20), np.uint8)
        mask[3:7, 3:7, begin : begin + 6] = 1
        if with_spleen:
            mask[3:7, 3:7, 14:18] = 2
        found.append(sitk.GetImageFromArray(mask))
    return found


def counted(image):
    values, counts = np.unique(sitk.GetArrayFromImage(image), return_counts=True)
    return dict(zip(values.tolist(), counts.tolist()))


results = {}
for fuse in (sitk.LabelVoting, sitk.MultiLabelSTAPLE):
    for with_spleen in (False, True):
        results[fuse.__name__, with_spleen] = counted(fuse(outlines(with_spleen)))
        print(f"{fuse.__name__}, {'with' if with_spleen else 'without'} a spleen: voxels by value {results[fuse.__name__, with_spleen]}")
alone, both = results["LabelVoting", False], results["LabelVoting", True]
sys.exit(not (alone[1] == 80 and alone[2] == 32 and both[3] == 32 and both[2] == 64 and results["MultiLabelSTAPLE", False] == {0: 2320, 1: 80}))
PYTHON
