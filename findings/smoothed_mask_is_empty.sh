#!/bin/sh
# nibabel's smooth_image keeps the type of its image while it smooths along one axis after the other. A mask of 0 and 1 as 8 or 16
# bits is empty afterwards: every value below 1 is cut to 0, three times. A CT of 16 bits with a lesion of 100 HU in soft tissue of 0
# keeps whole numbers, each cut towards zero. The same mask as float32, and nilearn's smooth_img of any type, keep its sum.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet nibabel==5.4.2 nilearn==0.14.1 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings
from importlib.metadata import version
import nibabel, nibabel.processing, nilearn.image, numpy as np

warnings.simplefilter("ignore")
print(*(f"{name} {version(name)}" for name in ("nibabel", "nilearn", "scipy", "numpy")))
ball = (np.indices((21, 21, 21)) - 10.0).transpose(1, 2, 3, 0)
ball = (ball**2).sum(-1) <= 16
print(f"a ball of {int(ball.sum())} voxels of 2 mm, smoothed with a full width of 4 mm at half of the height")
found = {}
for kind in (np.uint8, np.int16, np.float32):
    mask = nibabel.Nifti1Image(ball.astype(kind), np.diag([2.0, 2, 2, 1]))
    lesion = nibabel.Nifti1Image((100 * ball).astype(kind), np.diag([2.0, 2, 2, 1]))
    by_nibabel = nibabel.processing.smooth_image(mask, 4).get_fdata()
    by_nilearn = nilearn.image.smooth_img(mask, 4).get_fdata()
    mean = nibabel.processing.smooth_image(lesion, 4).get_fdata().sum() / ball.sum()
    found[kind.__name__] = round(by_nibabel.sum()), round(by_nilearn.sum()), round(mean, 1)
    print(f"{kind.__name__}: sum of the smoothed mask {found[kind.__name__][0]} by nibabel, {found[kind.__name__][1]} by nilearn; "
          f"the lesion of 100 HU sums to {found[kind.__name__][2]} per voxel by nibabel")
print("nibabel's own type of the smoothed CT:", nibabel.processing.smooth_image(lesion, 4).get_data_dtype())
sys.exit(not (found["uint8"] == found["int16"] and found["int16"][:2] == (0, 257) and found["int16"][2] < 98
              and found["float32"] == (257, 257, 100)))
PYTHON
