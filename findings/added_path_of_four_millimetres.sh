#!/bin/sh
# The added path length is the contour that has to be drawn anew, of what differs by more than a tolerance: 3 mm in platipy. A square
# moved by 4 mm costs 72 mm on pixels of 1 mm, and nothing on pixels of 2 mm; on pixels of 5 mm one moved by 5 mm costs nothing.
# The tolerance is rounded up to whole pixels, so that the same two outlines are dear on a fine grid and free on a coarse one.
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
from platipy.imaging.label.comparison import compute_metric_total_apl

print(*(f"{name} {version(name)}" for name in ("platipy", "SimpleITK", "numpy")))
found = {}
for pixel, moved in ((1, 3), (1, 4), (2, 4), (2, 6), (5, 5)):
    masks = []
    for shift in (0, moved // pixel):
        mask = np.zeros((3, 80 // pixel, 80 // pixel), np.uint8)
        mask[1, 20 // pixel : 60 // pixel, 20 // pixel + shift : 60 // pixel + shift] = 1
        masks.append(sitk.GetImageFromArray(mask))
        masks[-1].SetSpacing((pixel, pixel, 3.0))
    found[pixel, moved] = float(compute_metric_total_apl(*masks, distance_threshold_mm=3))
    print(f"pixels of {pixel} mm, moved by {moved} mm: {found[pixel, moved]:.0f} mm of added path beyond 3 mm")
sys.exit(not (found[1, 3] == found[2, 4] == found[5, 5] == 0 < min(found[1, 4], found[2, 6])))
PYTHON
