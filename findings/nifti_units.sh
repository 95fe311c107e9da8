#!/bin/sh
# A NIfTI file in micrometres (xyzt_units 3): SimpleITK turns lengths into millimetres, nibabel's affine and zooms are in
# the file's unit. The same file has voxels of 0.01 mm in one and of 10 in the other, and volumes differ by 1e9.
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
image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.diag([10.0, 10, 10, 1]))
image.header.set_xyzt_units("micron")
nibabel.save(image, "a.nii")
zooms = nibabel.load("a.nii").header.get_zooms()
spacing = SimpleITK.ReadImage("a.nii").GetSpacing()
print(f"nibabel: {zooms[0]:g}; SimpleITK: {spacing[0]:g}")
sys.exit(0 if zooms[0] == 10 and abs(spacing[0] - 0.01) < 1e-6 else 1)
PYTHON
