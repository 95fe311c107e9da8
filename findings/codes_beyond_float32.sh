#!/bin/sh
# Numbers of atlas structures may be larger than 16,777,216, as in the Allen mouse brain: MONAI's LoadImage and ANTsPy read
# label maps as float32 unless told otherwise, and 312782546 and 312782550 are one structure then. TorchIO and SimpleITK
# keep them apart.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet monai==1.6.1 nibabel==5.4.2 antspyx==0.6.3 torchio==1.2.1 SimpleITK==2.5.7 numpy==2.3.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import ants, monai, nibabel, numpy as np, SimpleITK, torchio
from monai.transforms import LoadImage

print("MONAI", monai.__version__, "antspyx 0.6.3 torchio", torchio.__version__, "SimpleITK", SimpleITK.__version__)
codes = np.zeros((4, 4, 4), np.uint32)
codes[0], codes[1], codes[2] = 312782546, 312782550, 16777217
nibabel.save(nibabel.Nifti1Image(codes, np.eye(4)), "atlas.nii.gz")
read = {
    "MONAI": np.asarray(LoadImage(image_only=True)("atlas.nii.gz")),
    "ANTsPy": ants.image_read("atlas.nii.gz").numpy(),
    "TorchIO": torchio.LabelMap("atlas.nii.gz").data.numpy(),
    "SimpleITK": SimpleITK.GetArrayFromImage(SimpleITK.ReadImage("atlas.nii.gz")),
}
found = {name: np.unique(values).astype(np.int64).tolist() for name, values in read.items()}
for name, values in found.items():
    print(name, values)
cut, kept = [0, 16777216, 312782560], [0, 16777217, 312782546, 312782550]
sys.exit(found != {"MONAI": cut, "ANTsPy": cut, "TorchIO": kept, "SimpleITK": kept})
PYTHON
