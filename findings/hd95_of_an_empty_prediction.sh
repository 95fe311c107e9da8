#!/bin/sh
# Four cases; of the last the network finds nothing, and each of the others is one voxel off. By MONAI the Hausdorff distance
# of the empty prediction is infinite and so is the mean, but its HD95 is NaN, which is left out: the mean is 1, as if all four had
# been found. seg-metrics gives the empty prediction an HD95, a Hausdorff and a mean distance of 0 mm, those of a perfect one, so
# that the mean is 0.75: the more a network misses, the better it is. A line of the log tells that the prediction is empty.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 monai==1.6.1 seg-metrics==1.2.8 SimpleITK==2.5.7 scipy==1.17.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys, warnings
from importlib.metadata import version
import numpy as np, torch
from monai.metrics import HausdorffDistanceMetric
from seg_metrics.seg_metrics import write_metrics

warnings.filterwarnings("ignore", category=UserWarning)
print(*(f"{name} {version(name)}" for name in ("monai", "torch", "seg-metrics", "SimpleITK")))
reference = np.zeros((16, 16, 16), np.uint8)
reference[5:10, 5:10, 5:10] = 1
near, nothing = np.roll(reference, 1, axis=0), np.zeros_like(reference)
found = {}
for name, percentile in (("Hausdorff", None), ("HD95", 95)):
    metric = HausdorffDistanceMetric(include_background=True, percentile=percentile)
    for prediction in (near, near, near, nothing):
        metric(*(torch.from_numpy(mask)[None, None].float() for mask in (prediction, reference)))
    found["MONAI", name] = str(metric.get_buffer()[3].item()), str(metric.aggregate().item())
rows = [
    write_metrics(labels=[1], gdth_img=reference, pred_img=prediction, csv_file=None, spacing=(1.0, 1.0, 1.0))[0]
    for prediction in (near, near, near, nothing)
]
for name, key in (("Hausdorff", "hd"), ("HD95", "hd95"), ("mean distance", "msd")):
    values = [float(np.squeeze(row[key])) for row in rows]
    found["seg-metrics", name] = str(values[3]), str(round(float(np.mean(values)), 3))
for (library, name), (alone, mean) in found.items():
    print(f"{library}, {name}: {alone} for the empty prediction, {mean} in the mean of four cases")
expected = {
    ("MONAI", "Hausdorff"): ("inf", "inf"),
    ("MONAI", "HD95"): ("nan", "1.0"),
    ("seg-metrics", "Hausdorff"): ("0.0", "0.75"),
    ("seg-metrics", "HD95"): ("0.0", "0.75"),
}
sys.exit({key: found[key] for key in expected} != expected or found["seg-metrics", "mean distance"][0] != "0.0")
PYTHON
