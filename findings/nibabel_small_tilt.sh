#!/bin/sh
# A qform within 0.07 degrees of half a turn: nibabel rounds the tilt away, SimpleITK keeps it. Both read one file; the
# corner of a slice of 256 pixels of 0.7 mm lies 0.12 mm apart.
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
image = nibabel.Nifti1Image(np.zeros((256, 256, 4), np.uint8), np.eye(4))
image.header.set_sform(None, code=0)
image.header["pixdim"][:4] = 1, 0.7, 0.7, 4
image.header["qform_code"] = 1
image.header["quatern_b"] = image.header["quatern_c"] = 0
image.header["quatern_d"] = np.sin(np.radians(180 - 0.035) / 2)
with open("a.nii", "wb") as file:
    file.write(image.header.binaryblock[:108] + np.float32(352).tobytes() + image.header.binaryblock[112:] + bytes(4))
    file.write(bytes(256 * 256 * 4))
by_nibabel = nibabel.load("a.nii").affine
itk = SimpleITK.ReadImage("a.nii")
by_itk = np.diag([-1, -1, 1]) @ np.array(itk.GetDirection()).reshape(3, 3) * np.array(itk.GetSpacing())
tilts = [np.degrees(np.arctan2(abs(m[1, 0]), abs(m[0, 0]))) for m in (by_nibabel, by_itk)]
apart = np.abs((by_nibabel[:3, :3] - by_itk) @ [255, 0, 0]).max()
print(f"stored: 0.035 degrees; nibabel: {tilts[0]:.4f}; SimpleITK: {tilts[1]:.4f}; far corner {apart:.3f} mm apart")
sys.exit(0 if tilts[0] == 0 and 0.03 < tilts[1] < 0.045 and 0.1 < apart < 0.15 else 1)
PYTHON
