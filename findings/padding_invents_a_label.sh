#!/bin/sh
# A CT is made larger with air around it, by TorchIO's Pad or CropOrPad with padding_mode=-1000. The label map of the subject is
# padded with -1000 too, which is 24 in 8 bits: a liver (5) is surrounded by a label that nobody drew. With padding_mode="mean" its
# numbers are averaged: 5 in 60 % of the map makes label 3. RandomAffine with default_pad_value=-1000 surrounds the liver with 0.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet torchio==1.2.1 SimpleITK==2.5.7 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings
from importlib.metadata import version
import torch, torchio

warnings.simplefilter("ignore")
print("TorchIO", version("torchio"), "PyTorch", torch.__version__)
labels = torch.zeros(1, 10, 10, 10, dtype=torch.uint8)
labels[0, :6] = 5
image = torch.where(labels > 0, 60.0, -1000.0)
subject = torchio.Subject(ct=torchio.ScalarImage(tensor=image), organs=torchio.LabelMap(tensor=labels))
found = {}
for name, transform in {
    "Pad, mean": torchio.Pad(2, padding_mode="mean"),
    "CropOrPad, mean": torchio.CropOrPad(14, padding_mode="mean"),
    "Pad, -1000": torchio.Pad(2, padding_mode=-1000),
    "CropOrPad, -1000": torchio.CropOrPad(14, padding_mode=-1000),
    "Pad, 0": torchio.Pad(2),
    "RandomAffine, -1000": torchio.RandomAffine(scales=(0.7, 0.7), degrees=0, default_pad_value=-1000),
}.items():
    after = transform(subject)
    found[name] = {int(value): int(count) for value, count in zip(*after.organs.data.unique(return_counts=True))}
    print(f"{name}: voxels of each label {found[name]}; lowest of the image {float(after.ct.data.min()):.0f}")
averaged, wrapped = {0: 400, 3: 1744, 5: 600}, {0: 400, 5: 600, 24: 1744}
sys.exit(not (found["Pad, mean"] == found["CropOrPad, mean"] == averaged
              and found["Pad, -1000"] == found["CropOrPad, -1000"] == wrapped
              and set(found["Pad, 0"]) == set(found["RandomAffine, -1000"]) == {0, 5}))
PYTHON
