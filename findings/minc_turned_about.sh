#!/bin/sh
# The axes of MINC, the MNI's format, run to the patient's right and front; ITK's run to the left and back. SimpleITK writes and
# reads the numbers of MINC without turning them: a voxel 12 mm to the left, 26 mm to the back is 12 mm to the right, 26 mm to
# the front for nibabel. It agrees with itself, and through NIfTI the two programs agree, so only mixed programs show it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet nibabel==5.4.2 SimpleITK==2.5.7 h5py==3.16.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import h5py, nibabel, numpy as np, SimpleITK

print("nibabel", nibabel.__version__, "SimpleITK", SimpleITK.__version__, "h5py", h5py.__version__, "numpy", np.__version__)
mask = np.zeros((4, 5, 6), np.int16)
mask[1, 3, 2] = 1  # z, y, x
image = SimpleITK.GetImageFromArray(mask)
image.SetOrigin((10, 20, 30))
image.SetSpacing((1, 2, 3))
found = {}
for name in ("mask.nii", "mask.mnc"):
    SimpleITK.WriteImage(image, name)
    read = SimpleITK.ReadImage(name)
    voxel = [int(along[0]) for along in np.nonzero(SimpleITK.GetArrayFromImage(read))][::-1]
    left, back, up = read.TransformIndexToPhysicalPoint(voxel)
    volume = nibabel.load(name)
    voxel = [int(along[0]) for along in np.nonzero(volume.get_fdata())]
    right, front, high = (volume.affine @ [*voxel, 1])[:3]
    found[name] = [left, back, up], [-right, -front, high]
    print(f"{name}: mm to the left, to the back and up: SimpleITK {found[name][0]}, nibabel {[float(v) for v in found[name][1]]}")
with h5py.File("mask.mnc") as file:
    start = float(np.ravel(file["minc-2.0/dimensions/xspace"].attrs["start"])[0])
print(f"the file itself: xspace starts at {start}, counted to the right")
same, turned = [12, 26, 33], [-12, -26, 33]
sys.exit(found != {"mask.nii": (same, same), "mask.mnc": (same, turned)} or start != 10)
PYTHON
