#!/bin/sh
# A label map is made twice as fine. By SimpleITK's interpolator for labels, sitkLabelGaussian, and ANTsPy's "multiLabel", a
# structure of one slice is gone: nothing of its 81 voxels is left. Of a tube of 2 by 2 voxels 58 % and nothing is left, of a ball
# of radius 2 half and a fifth. The nearest voxel, sitkLabelLinear and ANTsPy's "genericLabel" keep them.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet SimpleITK==2.5.7 antspyx==0.6.3 numpy==2.3.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import ants, numpy as np, SimpleITK

print(*(f"{name} {version(name)}" for name in ("SimpleITK", "antspyx", "numpy")))
at = np.indices((20, 20, 20)) - 10
shapes = {
    "plate of 1 slice": (at[0] == 0) & (abs(at[1]) < 5) & (abs(at[2]) < 5),
    "plate of 2 slices": (at[0] >= 0) & (at[0] < 2) & (abs(at[1]) < 5) & (abs(at[2]) < 5),
    "tube of 2 by 2": (at[0] >= 0) & (at[0] < 2) & (at[1] >= 0) & (at[1] < 2) & (abs(at[2]) < 5),
    "ball of radius 2": (at**2).sum(0) <= 4,
    "cube of 9": (abs(at) < 5).all(0),
}
fine = ants.from_numpy(np.zeros((40, 40, 40), np.float32), origin=(-0.25,) * 3, spacing=(0.5,) * 3)
found = {}
for name, mask in shapes.items():
    left = {}
    image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    for kind in ("sitkNearestNeighbor", "sitkLabelLinear", "sitkLabelGaussian"):
        made = SimpleITK.Resample(image, [40] * 3, SimpleITK.Transform(), getattr(SimpleITK, kind), (-0.25,) * 3, (0.5,) * 3)
        left[kind] = float(SimpleITK.GetArrayFromImage(made).sum() / 8)
    for kind in ("genericLabel", "multiLabel"):
        made = ants.resample_image_to_target(ants.from_numpy(mask.astype(np.float32)), fine, interp_type=kind)
        left[kind] = float((made.numpy() > 0).sum() / 8)
    found[name] = {kind: float(round(amount / mask.sum(), 2)) for kind, amount in left.items()}
    print(f"{name}, {int(mask.sum())} voxels; share of the volume that is left:", found[name])
by_gauss = {name: (shares["sitkLabelGaussian"], shares["multiLabel"]) for name, shares in found.items()}
kept = all(
    shares[kind] > 0.87 for shares in found.values() for kind in ("sitkNearestNeighbor", "sitkLabelLinear", "genericLabel")
)
sys.exit(not (kept and by_gauss["plate of 1 slice"] == (0, 0) and by_gauss["tube of 2 by 2"] == (0.58, 0)
              and by_gauss["ball of radius 2"] == (0.52, 0.21)))
PYTHON
