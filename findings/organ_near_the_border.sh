#!/bin/sh
# TotalSegmentator's statistics of a label map give an organ a volume of 0.0 and an intensity of 0.0 where it comes within three voxels
# of the image's border along any axis, by default and without a word: as if the organ were absent, or of water. A spleen of 20 ml that
# ends 10 mm below the last slice counts as 0 in a mean over patients. Intensities are cut to whole numbers first, towards zero: 2.7 of a
# PET or a map of diffusion is 2.0.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet nibabel==5.4.2 numpy==2.4.6 tqdm==4.69.0
"$folder/venv/bin/pip" install --quiet --no-deps TotalSegmentator==2.18.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import nibabel
import numpy as np
from totalsegmentator.map_to_binary import class_map
from totalsegmentator.statistics import get_basic_statistics

print(*(f"{name} {version(name)}" for name in ("TotalSegmentator", "nibabel", "numpy")))
values = {name: value for value, name in class_map["total"].items()}
labels = np.zeros((60, 60, 40), np.uint8)
labels[20:30, 20:30, 20:30] = values["stomach"]
labels[40:50, 40:50, 28:38] = values["spleen"]  # two free slices of 5 mm above it
image = nibabel.Nifti1Image(np.full(labels.shape, 2.7, np.float32), np.diag([2.0, 2.0, 5.0, 1.0]))
found = get_basic_statistics(labels, image, quiet=True, roi_subset=["stomach", "spleen"])
for organ in ("stomach", "spleen"):
    voxels = int((labels == values[organ]).sum())
    told = {name: float(value) for name, value in found[organ].items()}
    print(f"{organ}: {voxels} voxels of 20 mm3 with the value 2.7; statistics {told}")
stomach, spleen = found["stomach"], found["spleen"]
sys.exit(not (stomach == {"volume": 20000, "intensity": 2} and spleen == {"volume": 0, "intensity": 0}))
PYTHON
