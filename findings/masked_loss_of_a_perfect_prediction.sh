#!/bin/sh
# MONAI's losses for partly labelled images, of which a mask says what counts: a network that is right wherever the mask is 1 has a
# loss of 0.57 by MaskedLoss with DiceLoss, for logits are multiplied by the mask, and a logit of 0 is a probability of one half.
# MaskedDiceLoss gives 0, but 0.19 with to_onehot_y, where what is masked out becomes background that was missed. The more is
# masked out the higher the figure, so losses of two cases do not compare, and no training comes near 0.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet monai==1.6.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import monai, torch
from monai.losses import DiceLoss, MaskedDiceLoss, MaskedLoss

print("MONAI", monai.__version__, "PyTorch", torch.__version__)
label = torch.zeros(1, 1, 8, 8)
label[..., 2:5, 2:5] = 1
classes = torch.cat([1 - label, label], 1)
one, two = label * 40 - 20, classes * 40 - 20  # logits that are right everywhere
expected = {
    "MaskedLoss(DiceLoss), a quarter masked out": (0.31, 0.75),
    "MaskedLoss(DiceLoss), half masked out": (0.57, 0.5),
    "MaskedDiceLoss(to_onehot_y), half masked out": (0.19, 0.5),
    "MaskedDiceLoss, one-hot label, half masked out": (0, 0.5),
    "MaskedLoss(DiceLoss), nothing masked out": (0, 1),
}
right = True
for name, (value, share) in expected.items():
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., : int(8 * share)] = 1
    if "to_onehot_y" in name:
        found = MaskedDiceLoss(softmax=True, to_onehot_y=True)(two, label, mask)
    elif "one-hot" in name:
        found = MaskedDiceLoss(softmax=True)(two, classes, mask)
    else:
        found = MaskedLoss(DiceLoss, sigmoid=True)(one, label, mask)
    print(f"{name}: loss {found.item():.3f}")
    right &= abs(found.item() - value) < 0.01
sys.exit(not right)
PYTHON
