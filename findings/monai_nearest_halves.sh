#!/bin/sh
# MONAI's Spacingd(mode="nearest") rounds halves to the even voxel: a label map whose slices are made exactly twice as fine
# has slices 1 and 3 voxels thick in turn, where SimpleITK and SciPy give 2 each.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-cache-dir monai==1.6.1 torch==2.13.0 SimpleITK==2.5.7 scipy==1.17.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
import monai, numpy as np, scipy, SimpleITK, torch
from monai.data import MetaTensor
from monai.transforms import Spacingd

print("MONAI", monai.__version__, "torch", torch.__version__, "SimpleITK", SimpleITK.__version__, "SciPy", scipy.__version__)
label = np.broadcast_to(np.arange(8, dtype=np.float32), (4, 4, 8)).copy()  # slice z holds z; slices of 5 mm


def thickness(line):
    return [int((np.asarray(line) == value).sum()) for value in range(1, 7)]


item = {"label": MetaTensor(torch.from_numpy(label)[None], affine=torch.diag(torch.tensor([1.0, 1, 5, 1])))}
by_monai = Spacingd("label", pixdim=(1, 1, 2.5), mode="nearest", padding_mode="border")(item)["label"][0, 0, 0].numpy()
image = SimpleITK.GetImageFromArray(label.T.copy())
image.SetSpacing((1, 1, 5))
transform, size = SimpleITK.Transform(), (4, 4, len(by_monai))
by_itk = SimpleITK.GetArrayFromImage(
    SimpleITK.Resample(image, size, transform, SimpleITK.sitkNearestNeighbor, (0, 0, 0), (1, 1, 2.5))
)[:, 0, 0]
by_scipy = scipy.ndimage.affine_transform(label[0, 0], [0.5], output_shape=(len(by_monai),), order=0, mode="nearest")
found = [thickness(line) for line in (by_monai, by_itk, by_scipy)]
for name, sizes in zip(("MONAI", "SimpleITK", "SciPy"), found, strict=True):
    print(f"{name}: slices 1 to 6 are {sizes} voxels thick")
sys.exit(0 if found == [[1, 3, 1, 3, 1, 3], [2] * 6, [2] * 6] else 1)
PYTHON
