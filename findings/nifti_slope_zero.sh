#!/bin/sh
# A NIfTI header with scl_slope 0 and scl_inter 5. The standard has no scaling then; nibabel keeps to it, SimpleITK adds the 5.
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
found = []
for slope, intercept in ((0, 0), (0, 5), (1, 5)):
    header = nibabel.Nifti1Header()
    header.set_data_shape((4, 4, 4))
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["scl_slope"], header["scl_inter"] = 352, slope, intercept
    with open("a.nii", "wb") as file:
        file.write(header.binaryblock + bytes(4) + np.full(64, 7, np.int16).tobytes())
    by_nibabel = float(nibabel.load("a.nii").get_fdata()[0, 0, 0])
    by_itk = float(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage("a.nii"))[0, 0, 0])
    found.append((by_nibabel, by_itk))
    print(f"stored 7, slope {slope}, intercept {intercept}: nibabel {by_nibabel}, SimpleITK {by_itk}")
sys.exit(found != [(7, 7), (7, 12), (12, 12)])
PYTHON
