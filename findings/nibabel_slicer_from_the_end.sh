#!/bin/sh
# nibabel's slicer, which crops an image and its affine together, takes the affine wrongly where a slice counts from the end or
# runs backwards without a start. img.slicer[:, :, -3:] of ten slices 2 mm apart is said to begin at -6 mm instead of 14 mm, so a
# crop of the head lies below the feet; img.slicer[::-1] lies wholly beside the image. With starts written out, as in
# img.slicer[:, :, 7:], voxels and affine go together. Nothing is raised.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet nibabel==5.4.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import nibabel, numpy as np

print("nibabel", nibabel.__version__, "numpy", np.__version__)
affine = np.diag([2.0, 2, 2, 1])
image = nibabel.Nifti1Image(np.arange(1000, dtype=np.int16).reshape(10, 10, 10), affine)
away = {}
for said, part in {
    ":, :, -3:": image.slicer[:, :, -3:],
    ":, :, 7:": image.slicer[:, :, 7:],
    ":, :, -3::2": image.slicer[:, :, -3::2],
    "::-1": image.slicer[::-1],
    "9::-1": image.slicer[9::-1],
    ":, ::-1": image.slicer[:, ::-1],
}.items():
    first = np.unravel_index(int(np.asarray(part.dataobj)[0, 0, 0]), image.shape)  # its voxel in the whole image
    true, stated = (affine @ [*first, 1])[:3], part.affine[:3, 3]
    away[said] = (stated - true).tolist()
    print(f"slicer[{said}]: the first voxel lies at {true}, its affine says {stated}")
sys.exit(
    away
    != {
        ":, :, -3:": [0, 0, -20],
        ":, :, 7:": [0, 0, 0],
        ":, :, -3::2": [0, 0, -20],
        "::-1": [-18, 0, 0],
        "9::-1": [0, 0, 0],
        ":, ::-1": [0, -18, 0],
    }
)
PYTHON
