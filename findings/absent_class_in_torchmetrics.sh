#!/bin/sh
# A class that is neither in the prediction nor in the reference of a case: of three metrics of one library
# DiceScore gives NaN, MeanIoU -1, and GeneralizedDiceScore 0, which counts: a perfect prediction of two cases, of which
# one lacks the class, has 0.5 for it with per_class=True, and 1 by both others.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torchmetrics==1.9.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import torch, torchmetrics
from torchmetrics.segmentation import DiceScore, GeneralizedDiceScore, MeanIoU

print("torch", torch.__version__, "torchmetrics", torchmetrics.__version__)
lacking = torch.zeros(1, 3, 8, 8, dtype=torch.long)  # one-hot: background left out, class 1 above, class 2 nowhere
lacking[:, 1, :4] = 1
holding = lacking.clone()
holding[:, 2, 6:] = 1
found = {}
for name, metric in (
    ("DiceScore", DiceScore(3, average="none")),
    ("MeanIoU", MeanIoU(3, per_class=True)),
    ("GeneralizedDiceScore", GeneralizedDiceScore(3, per_class=True)),
):
    metric.update(lacking, lacking)
    alone = metric.compute()[2].item()
    metric.update(holding, holding)
    found[name] = str(alone), metric.compute()[2].item()
    print(f"{name}, class 2 of a perfect prediction: absent {found[name][0]}, with a case that has it {found[name][1]}")
expected = {"DiceScore": ("nan", 1.0), "MeanIoU": ("-1.0", 1.0), "GeneralizedDiceScore": ("0.0", 0.5)}
sys.exit(found != expected)
PYTHON
