#!/bin/sh
# MONAI's augmentation of a low resolution, RandSimulateLowResolutiond, moves the image against its label: it is made coarser
# by PyTorch's "nearest", which takes the first voxel of each block, and finer again by "trilinear", which goes by centres. A ball
# at the centre lies 0.5, 1.1 and 1.35 voxels further along every axis for zooms of 1/2, 1/3 and 1/4, always the same way.
# Resized and Zoomd with mode ("trilinear", "nearest"), for image and label, move the label likewise. The affine that they give
# is the image's. With "nearest-exact" and an odd factor the label stays.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet monai==1.6.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import monai, numpy as np, torch
from monai.data import MetaTensor
from monai.transforms import RandSimulateLowResolutiond, Resized, Zoomd

print("MONAI", monai.__version__, "PyTorch", torch.__version__, "numpy", np.__version__)
ball = (((np.indices((48, 48, 48)) - 23.5) ** 2).sum(0) < 12**2).astype(np.float32)[None]


def centre(image):
    """The centre of mass in the voxels of the original, by the image's own affine."""
    values = np.asarray(image)[0]
    index = [float((along * values).sum() / values.sum()) for along in np.indices(values.shape)]
    return np.asarray(image.affine)[:3, :3] @ index + np.asarray(image.affine)[:3, 3]


def moved(name, transform, expected):
    """Whether the label or the image moves against the other by what is expected along each axis."""
    case = transform({key: MetaTensor(torch.tensor(ball), affine=torch.eye(4)) for key in ("image", "label")})
    image, label = centre(case["image"]), centre(case["label"])
    print(f"{name}: image at {image.round(2)}, label at {label.round(2)}, true 23.5")
    return bool(np.allclose(image - label, expected, atol=0.02))


found = [
    moved(f"RandSimulateLowResolutiond, zoom {zoom}", RandSimulateLowResolutiond("image", 1, zoom_range=(zoom, zoom)), by)
    for zoom, by in ((1 / 2, 0.52), (1 / 3, 1.12), (1 / 4, 1.35))
]
both = ["image", "label"]
found += [
    moved("Resized to a third", Resized(both, (16, 16, 16), mode=("trilinear", "nearest")), -1.12),
    moved("Resized to a third, nearest-exact", Resized(both, (16, 16, 16), mode=("trilinear", "nearest-exact")), 0),
    moved("Zoomd by 1.3", Zoomd(both, 1.3, mode=("trilinear", "nearest")), -0.39),
]
sys.exit(not all(found))
PYTHON
