#!/bin/sh
# A mask beside the same mask two voxels of 5 mm away is 10 mm off. MONAI's distances with spacing=(5, 1, 1) say so for
# distance_metric="euclidean"; with "chessboard" or "taxicab" the spacing has no effect, without a word, and the result is 2: voxels in a
# column of millimetres. That holds for the Hausdorff distance, the average distance and the surface Dice, where 3 mm count as enough.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet monai==1.6.1 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings
import monai, numpy as np, torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

print("MONAI", monai.__version__, "PyTorch", torch.__version__)
mask = np.zeros((20, 20, 20), np.float32)
mask[5:10, 5:10, 5:10] = 1
reference, prediction = (torch.from_numpy(values)[None, None] for values in (mask, np.roll(mask, 2, 0)))
found = {}
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    for metric in ("euclidean", "chessboard", "taxicab"):
        options = {"include_background": True, "distance_metric": metric, "spacing": (5, 1, 1)}
        found[metric] = (
            float(compute_hausdorff_distance(prediction, reference, **options)),
            round(float(compute_average_surface_distance(prediction, reference, **options)), 2),
            round(float(compute_surface_dice(prediction, reference, class_thresholds=[3], **options)), 2),
        )
        print(f"{metric}: Hausdorff {found[metric][0]}, average {found[metric][1]}, surface Dice at 3 mm {found[metric][2]}")
words = [str(one.message) for one in told if "spacing" in str(one.message)]
print("warnings of the spacing:", words)
sys.exit(not (found["euclidean"][0] == 10 and found["euclidean"][2] < 1 and not words
              and found["chessboard"] == found["taxicab"] == (2.0, 0.78, 1.0)))
PYTHON
