#!/bin/sh
# Parts smaller than 8 voxels shall go. scikit-image 0.25 keeps a part of 8, as its page of then and MONAI's page of now say.
# In 0.26 a warning says that a new name of the setting takes such a part, too, and that the old one did not; with the old name it is
# gone as well, and a hole of 8 is filled. MONAI, which hands the number on, gives another result with another scikit-image.
# nilearn's connected_label_regions removes a region of just the size that it is to keep; SimpleITK and cc3d keep it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet monai==1.6.1 nilearn==0.14.1 nibabel==5.4.2 SimpleITK==2.5.7 connected-components-3d==4.1.1 \
    scipy==1.17.1 numpy==2.4.6
cat > "$folder/parts.py" <<'PYTHON'
import sys
import warnings
from importlib.metadata import version
import cc3d, nibabel, numpy as np, SimpleITK, torch
from monai.transforms import RemoveSmallObjects
from nilearn.regions import connected_label_regions
from skimage.morphology import remove_small_holes, remove_small_objects

warnings.simplefilter("ignore")
print(*(f"{name} {version(name)}" for name in ("scikit-image", "monai", "nilearn", "SimpleITK", "connected-components-3d")))
mask = np.zeros((20, 20, 20), np.uint8)
mask[2:4, 2:4, 2:4] = 1
mask[10:13, 10:13, 10:13] = 1
parts = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask))
image = nibabel.Nifti1Image(mask.astype(np.int32), np.eye(4))
found = {}
for size in (8, 9):
    kept = SimpleITK.GetArrayFromImage(SimpleITK.RelabelComponent(parts, minimumObjectSize=size))
    found[size] = {
        "remove_small_objects": int(remove_small_objects(mask > 0, size).sum()),
        "the same for holes": int(8000 - remove_small_holes(mask == 0, size).sum()),
        "MONAI": int(RemoveSmallObjects(min_size=size)(torch.from_numpy(mask[None])).sum()),
        "nilearn": int((connected_label_regions(image, min_size=size).get_fdata() > 0).sum()),
        "SimpleITK": int((kept > 0).sum()),
        "cc3d": int((cc3d.dust(mask, threshold=size) > 0).sum()),
    }
    print(f"smallest size {size}; voxels left of parts of 8 and 27:", found[size])
new = version("scikit-image").startswith("0.26")
old = 27 if new else 35
expected = dict(zip(found[8], (old, old, old, 27, 35, 35)))
sys.exit(found != {8: expected, 9: dict.fromkeys(expected, 27)})
PYTHON
for release in 0.25.2 0.26.0; do
    "$folder/venv/bin/pip" install --quiet scikit-image==$release numpy==2.4.6
    "$folder/venv/bin/python" "$folder/parts.py"
done
