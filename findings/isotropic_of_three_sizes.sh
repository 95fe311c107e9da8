#!/bin/sh
# platipy's smooth_and_resample is asked for isotropic voxels of 2 mm. Of an image of 10 slices of 1 mm it makes 5 of 2.25 mm, and of 5
# slices of 5 mm it makes 13 of 1.67 mm, in one and the same image: the centres of the first and the last voxel are kept, and the
# spacing is what comes of it. An image of one slice, or one that becomes one, has no spacing at all.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet platipy==0.7.2 SimpleITK==2.5.7 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import SimpleITK as sitk
from platipy.imaging.registration.utils import smooth_and_resample

print(*(f"{name} {version(name)}" for name in ("platipy", "SimpleITK", "numpy")))
found = {}
for size, spacing in (((10, 144, 5), (1.0, 1.5, 5.0)), ((40, 40, 40), (3.0, 3.0, 3.0))):
    image = sitk.Image(size, sitk.sitkFloat32)
    image.SetSpacing(spacing)
    made = smooth_and_resample(image, isotropic_voxel_size_mm=2)
    found[size] = [round(number, 3) for number in made.GetSpacing()]
    print(f"{size} voxels of {spacing} mm become {made.GetSize()} of {tuple(found[size])} mm")
slices = sitk.Image((64, 64, 1), sitk.sitkFloat32)
slices.SetSpacing((1.0, 1.0, 2.0))
try:
    smooth_and_resample(slices, isotropic_voxel_size_mm=2)
    refused = ""
except ZeroDivisionError as error:
    refused = type(error).__name__
print(f"an image of one slice: {refused or 'taken'}")
sys.exit(found[10, 144, 5] != [2.25, 2.005, 1.667] or found[40, 40, 40] != [1.983] * 3 or not refused)
PYTHON
