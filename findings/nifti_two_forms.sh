#!/bin/sh
# One NIfTI file, two places: qform and sform differ, as a coregistration leaves them. nibabel takes the sform whatever its
# code; SimpleITK takes it with code 1 and the qform with codes 2 to 4. A mask that one of them saves on the image lies
# centimetres away in the other.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet nibabel==5.4.2 SimpleITK==2.5.7 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import nibabel, numpy as np, SimpleITK

print("nibabel", nibabel.__version__, "SimpleITK", SimpleITK.__version__, "numpy", np.__version__)
qform = np.diag([-1.5, -1.5, 3, 1.0])
sform = qform.copy()
sform[:3, 3] = 4, -6, 8
found = {}
for code in (1, 2, 3, 4):
    image = nibabel.Nifti1Image(np.zeros((8, 8, 8), np.uint8), sform)
    image.set_sform(sform, code)
    image.set_qform(qform, 1)
    nibabel.save(image, "a.nii")
    by_nibabel = nibabel.load("a.nii").affine[:3, 3].tolist()
    x, y, z = SimpleITK.ReadImage("a.nii").GetOrigin()
    by_itk = [round(-x) + 0.0, round(-y) + 0.0, round(z) + 0.0]
    found[code] = (by_nibabel == [4, -6, 8], by_itk == [4, -6, 8])
    print(f"sform code {code}: first voxel in RAS: nibabel {by_nibabel}, SimpleITK {by_itk}")
sys.exit(0 if found == {1: (True, True), 2: (True, False), 3: (True, False), 4: (True, False)} else 1)
PYTHON
