#!/bin/sh
# Two label maps of 1 x 1 x 5 mm voxels, an organ and the same one slice higher, 5 mm. panoptica's HD95 is 5 mm if they are given as
# nibabel's images, and 1 mm as SimpleITK's, or as the paths of the same two files: it takes the spacings in SimpleITK's order, x, y, z, for
# an array that is z, y, x. An organ one pixel further to the side, 1 mm, is 5 mm away. If the reference is said to lie 100 mm further on
# than the prediction, nibabel's images are refused and SimpleITK's are scored: their difference is -100 mm, which is below the tolerance.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet panoptica==2.1.7 SimpleITK==2.5.7 nibabel==5.4.2 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys, warnings
from importlib.metadata import version
import nibabel, numpy as np, SimpleITK
from panoptica import ConnectedComponentsInstanceApproximator, InputType, Metric, NaiveThresholdMatching, Panoptica_Evaluator

warnings.simplefilter("ignore")
evaluator = Panoptica_Evaluator(
    expected_input=InputType.SEMANTIC, instance_approximator=ConnectedComponentsInstanceApproximator(),
    instance_matcher=NaiveThresholdMatching(), instance_metrics=[Metric.DSC, Metric.HD95], log_times=False)


def written(name, mask, origin=0.0):
    """The path of a label map of 1 x 1 x 5 mm voxels; `mask` has the axes z, y, x."""
    image = SimpleITK.GetImageFromArray(mask)
    image.SetSpacing((1, 1, 5))
    image.SetOrigin((origin, 0, 0))
    SimpleITK.WriteImage(image, name)
    return name


reference = np.zeros((20, 20, 20), np.uint8)
reference[5:10, 5:10, 5:10] = 1
written("reference.nii.gz", reference)
written("elsewhere.nii.gz", reference, origin=100.0)
readers = {"nibabel": nibabel.load, "SimpleITK": SimpleITK.ReadImage, "paths": str}
found = {}
for name, axis in (("one slice up", 0), ("one pixel to the side", 2)):
    written("prediction.nii.gz", np.roll(reference, 1, axis=axis))
    for reader, opened in readers.items():
        result = evaluator.evaluate(opened("prediction.nii.gz"), opened("reference.nii.gz"), verbose=False)["ungrouped"]
        found[name, reader] = float(result.to_dict()["sq_hd95"])
refused = []
for reader, opened in readers.items():
    try:
        evaluator.evaluate(opened("reference.nii.gz"), opened("elsewhere.nii.gz"), verbose=False)
    except ValueError:
        refused.append(reader)
print(*(f"{name} {version(name)}" for name in ("panoptica", "SimpleITK", "nibabel", "numpy")))
for (name, reader), value in found.items():
    print(f"{name}, as {reader}: HD95 {value:g} mm")
print("label maps 100 mm apart are refused as", *refused, "and scored as", *(reader for reader in readers if reader not in refused))
up, side = ({reader: found[name, reader] for reader in readers} for name in ("one slice up", "one pixel to the side"))
sys.exit(up != {"nibabel": 5, "SimpleITK": 1, "paths": 1} or side != {"nibabel": 1, "SimpleITK": 5, "paths": 5} or refused != ["nibabel"])
PYTHON
