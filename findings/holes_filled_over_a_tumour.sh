#!/bin/sh
# MONAI's FillHoles fills holes of background, as its page says, and also whatever other label lies within: a tumour (2) inside a
# liver (1) becomes liver, all of its 27 voxels, whether labels are named or not. With one channel per label the liver's channel
# then covers the tumour's. No hole was there. A tumour that touches the liver's outside stays.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet monai==1.6.1 scipy==1.17.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import monai, numpy as np, scipy, torch
from monai.transforms import FillHoles

print("MONAI", monai.__version__, "PyTorch", torch.__version__, "SciPy", scipy.__version__, "numpy", np.__version__)
inside = torch.zeros(1, 12, 12, 12)
inside[0, 1:10, 1:10, 1:10] = 1
outside = inside.clone()
inside[0, 4:7, 4:7, 4:7] = 2
outside[0, 4:7, 4:7, 7:10] = 2
layers = torch.stack([(inside[0] == value).float() for value in range(3)])


def voxels(labels):
    return {value: int((np.asarray(labels) == value).sum()) for value in (1, 2)}


found = {
    "inside": voxels(FillHoles()(inside.clone())),
    "inside, applied_labels=[1]": voxels(FillHoles(applied_labels=[1])(inside.clone())),
    "outside": voxels(FillHoles()(outside.clone())),
}
print("before: inside", voxels(inside), "outside", voxels(outside))
for name, count in found.items():
    print(f"{name}: {count}")
filled = np.asarray(FillHoles()(layers.clone())) > 0
both = int((filled[1] & filled[2]).sum())
print(f"one channel per label: {both} voxels are liver and tumour")
gone, stays = {1: 729, 2: 0}, {1: 702, 2: 27}
sys.exit(list(found.values()) != [gone, gone, stays] or both != 27)
PYTHON
