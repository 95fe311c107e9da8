#!/bin/sh
# ANTsPy's multi_label_morphology dilates or closes each label of a label map and, as its page says, keeps the labels that are
# there. Of a liver (1) and a spleen (2) far apart, closing leaves a liver of 0 voxels: all 144 of them are 2, the spleen's
# number. After dilation the liver is a shell of 1 around a core of 2. Erosion and opening give no wrong label.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet antspyx==0.6.3 numpy==2.3.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import ants, numpy as np

print("antspyx", version("antspyx"), "numpy", np.__version__)
labels = np.zeros((20, 24, 16), np.float32)
labels[2:6, 3:9, 4:10] = 1
labels[12:15, 12:16, 6:9] = 2
found = {}
for name, operation in (("dilation", "MD"), ("closing", "MC"), ("erosion", "ME"), ("opening", "MO")):
    result = ants.multi_label_morphology(ants.from_numpy(labels), operation, radius=1).numpy()
    liver = {int(value): int((result[labels == 1] == value).sum()) for value in np.unique(result[labels == 1])}
    found[name] = liver, int((result == 1).sum()), int((result == 2).sum())
    print(f"{name}: the 144 voxels of label 1 become {liver}; in all {found[name][1]} of 1 and {found[name][2]} of 2")
sys.exit(
    found
    != {
        "dilation": ({2: 144}, 232, 286),
        "closing": ({2: 144}, 0, 180),
        "erosion": ({0: 112, 1: 32}, 32, 2),
        "opening": ({0: 8, 1: 136}, 136, 28),
    }
)
PYTHON
