#!/bin/sh
# A label map of floats that nibabel saves under the header of an image, whose voxels are whole numbers of 8 or 16 bits: the
# labels 0, 1, 2 are whole and fit, and yet they are stored in equal steps of their range. 1 comes back as 1.00002 or
# 0.99608, so no voxel equals it; astype(int) makes 1 of the former's 2 and 0 of the latter. Saved as whole numbers they stay.
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
labels = np.zeros((6, 6, 6))
labels[2:4], labels[4:] = 1, 2
right = True
for kind, most in ((np.int16, 2), (np.uint8, 2), (np.uint8, 117)):
    image = nibabel.Nifti1Image(np.zeros((6, 6, 6), kind), np.eye(4))
    drawn = np.where(labels == 2, most, labels)
    for form, saved in (("floats", drawn), ("whole numbers", drawn.astype(kind))):
        nibabel.save(nibabel.Nifti1Image(saved, image.affine, image.header), "a.nii")
        read = nibabel.load("a.nii").get_fdata()
        other = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage("a.nii")).T
        kept = int((read.astype(int) == 1).sum())
        print(f"0, 1, {most} as {form} under a header of {kind.__name__}: 1 is {read[2, 0, 0]:.6f}, in SimpleITK "
              f"{other[2, 0, 0]:.6f}; {int((read == 1).sum())} of 72 voxels equal 1, {kept} do after astype(int)")
        if form == "whole numbers":
            right &= bool((read == drawn).all() and kept == 72)
        else:
            wanted = {(np.int16, 2): 1.00002, (np.uint8, 2): 0.99608, (np.uint8, 117): 0.91765}[kind, most]
            right &= bool(abs(read[2, 0, 0] - wanted) < 1e-5 and abs(other[2, 0, 0] - wanted) < 1e-5)
            right &= not (read == 1).any() and kept == (144 if wanted > 1 else 0)
sys.exit(0 if right else 1)
PYTHON
