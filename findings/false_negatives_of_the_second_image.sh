#!/bin/sh
# A prediction finds 30 of the 40 voxels of an organ, and 50 others. Given the reference first, as other functions take it,
# SimpleITK's LabelOverlapMeasures has a false negative error of 0.625 where a quarter is missed: the truth is the second
# image. For an empty prediction it is 1.8e308, and the volume similarity has the other sign.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet SimpleITK==2.5.7 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import numpy as np
import SimpleITK as sitk

print("SimpleITK", sitk.__version__)
reference = np.zeros((1, 10, 20), np.uint8)
prediction = reference.copy()
reference[0, :4, :10] = 1  # 40 voxels
prediction[0, 1:9, :10] = 1  # 80 voxels, 30 of them within the organ
empty = np.zeros_like(reference)


def errors(first, second):
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*map(sitk.GetImageFromArray, (first, second)))
    return overlap.GetFalseNegativeError(1), overlap.GetVolumeSimilarity(1), overlap.GetDiceCoefficient(1)


found = {
    "the reference first": errors(reference, prediction),
    "the prediction first": errors(prediction, reference),
    "the reference first, of an empty prediction": errors(reference, empty),
    "the empty prediction first": errors(empty, reference),
}
for name, (missed, similarity, dice) in found.items():
    print(f"{name}: false negative error {missed:.4g}, volume similarity {similarity:.4f}, Dice {dice:.4f}")
missed = [values[0] for values in found.values()]
sys.exit(not (np.allclose(missed[:2], [0.625, 0.25]) and missed[2] > 1e308 and missed[3] == 1.0))
PYTHON
