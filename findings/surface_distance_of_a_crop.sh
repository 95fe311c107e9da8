#!/bin/sh
# A box of 20 x 20 x 10 voxels and the same one moved by 2 mm. No point is farther away than 2 mm, and yet platipy's mean surface
# distance is 17 mm, and its specificity 0. Both are computed in the smallest box that holds the two masks (auto_crop=True, the
# default), in which there is no true background; and what touches the border of an image has no contour there for SimpleITK's
# LabelContour. Of two balls, which touch their box in a few voxels, the mean distance is half too large.
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
from platipy.imaging.label.comparison import compute_metric_masd, compute_metric_specificity, compute_metric_hd

print(*(f"{name} {version(name)}" for name in ("platipy", "SimpleITK", "numpy")))
box = np.zeros((20, 40, 40), np.uint8)
box[5:15, 10:30, 10:30] = 1
z, y, x = np.mgrid[:40, :64, :64]
ball = (3 * (z - 20)) ** 2 + (y - 32) ** 2 + (x - 32) ** 2 < 15**2
found = {}
for name, mask, shift in (("boxes", box, 2), ("balls", ball.astype(np.uint8), 1)):
    pair = [sitk.GetImageFromArray(np.roll(mask, by, 2)) for by in (0, shift)]
    for image in pair:
        image.SetSpacing((1.0, 1.0, 3.0))
    numbers = [metric(*pair, auto_crop=crop) for metric in (compute_metric_masd, compute_metric_specificity) for crop in (True, False)]
    found[name] = numbers
    print(
        f"{name} {shift} mm apart: largest distance {compute_metric_hd(*pair):.2f} mm; mean {numbers[0]:.2f} mm, without the crop "
        f"{numbers[1]:.2f}; specificity {numbers[2]:.3f}, without the crop {numbers[3]:.3f}"
    )
filled = sitk.GetImageFromArray(np.ones((4, 4, 4), np.uint8))
contour = int(sitk.GetArrayFromImage(sitk.LabelContour(filled)).sum())
print(f"a mask that fills its image: {contour} of 64 voxels are contour for SimpleITK's LabelContour")
boxes, balls = found["boxes"], found["balls"]
sys.exit(not (boxes[0] > 8 * 2 > boxes[1] and boxes[2] == 0 < boxes[3] and balls[0] > 1.4 * balls[1] and contour == 0))
PYTHON
