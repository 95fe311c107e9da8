#!/bin/sh
# Twelve organs of a radiotherapy plan, of which two share one voxel. platipy's correct_volume_overlap gives what is shared to the larger
# of the two: so it does for the largest organs. The voxel of the seventh and the eighth (by volume) goes to none, and that of the
# fifth and the eleventh to the third, which is nowhere near: an overlap is coded as the product of two primes, of which 8 bits are
# kept, and 17 x 19 is 323.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet platipy==0.7.2 SimpleITK==2.5.7 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import numpy as np
import SimpleITK as sitk
from platipy.imaging.label.utils import correct_volume_overlap

print(*(f"{name} {version(name)}" for name in ("platipy", "SimpleITK", "numpy")))
organs = {}
for number in range(12):  # cubes of 13, 12 ... 2 voxels, one beside the other
    mask, size = np.zeros((14, 14, 168), np.uint8), 13 - number
    mask[:size, :size, 14 * number : 14 * number + size] = 1
    organs[number + 1] = mask
shared, found = (13, 13, 0), {}  # a voxel that no cube holds
for larger, smaller in ((1, 2), (2, 9), (3, 11), (5, 11), (7, 8), (8, 10), (10, 11)):
    masks = {number: mask.copy() for number, mask in organs.items()}
    masks[larger][shared] = masks[smaller][shared] = 1
    parted = correct_volume_overlap({number: sitk.GetImageFromArray(mask) for number, mask in masks.items()})
    owners = [int(number) for number, mask in parted.items() if sitk.GetArrayFromImage(mask)[shared]]
    found[larger, smaller] = owners
    print(f"a voxel of organs {larger} and {smaller} goes to {owners[0] if owners else 'none'}")
right = {pair for pair, owners in found.items() if owners == [pair[0]]}
lost = {pair for pair, owners in found.items() if not owners}
third = {pair for pair, owners in found.items() if owners and not set(owners) & set(pair)}
sys.exit(not (right >= {(1, 2), (2, 9)} and lost and third))
PYTHON
