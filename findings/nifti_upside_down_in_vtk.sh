#!/bin/sh
# PyVista's read and vedo's load give a NIfTI image without its origin and directions, though VTK has both for other formats. And its
# voxels are not in the order of the file: where the axes are left-handed, as in what dcm2niix and FSL write (LAS), VTK
# turns the order of the slices round, and the transform that undoes this stays with the reader. So an image of the head and the
# same image with its first axis flipped, which lie in the same place, are upside down to each other, each away from a mesh that was
# made in millimetres. The same image as MetaImage has its place. Nothing is said.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet vtk==9.7.2 pyvista==0.49.1 vedo==2026.6.3 nibabel==5.4.2 SimpleITK==2.5.7 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import nibabel, numpy as np, pyvista, SimpleITK, vedo

print(*(f"{name} {version(name)}" for name in ("vtk", "pyvista", "vedo", "nibabel", "SimpleITK")))
right_handed = np.zeros((20, 24, 28), np.int16)
right_handed[3, 5, 4] = 1  # low in the body, since the third axis runs to the head
affine = np.diag([2.0, 2, 3, 1])
affine[:3, 3] = -20, -24, 100
flipped = affine @ [[-1, 0, 0, 19], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
found = {}
for name, voxels, to_mm in (("RAS", right_handed, affine), ("LAS", right_handed[::-1], flipped)):
    image = nibabel.Nifti1Image(voxels, to_mm)
    nibabel.save(image, f"{name}.nii.gz")
    same = SimpleITK.GetImageFromArray(voxels.T)
    same.CopyInformation(SimpleITK.ReadImage(f"{name}.nii.gz"))
    SimpleITK.WriteImage(same, f"{name}.mha")
    true = to_mm @ [*np.argwhere(voxels)[0], 1]
    points = {}
    for ending in ("nii.gz", "mha"):
        grid = pyvista.read(f"{name}.{ending}")
        points[ending] = tuple(float(value) for value in grid.points[int(np.argmax(grid.active_scalars))])
    by_vedo = vedo.Volume(f"{name}.nii.gz")
    slice_of_vedo = int(np.argwhere(by_vedo.tonumpy())[0][2])
    found[name] = tuple(float(value) for value in true[:3]), points["nii.gz"], points["mha"], slice_of_vedo
    print(f"{name}: in truth {found[name][0]} (RAS); PyVista {found[name][1]}, from MetaImage {found[name][2]} (LPS); "
          f"slice {slice_of_vedo} of 28 by vedo, 4 in the file")
place, as_mha = (-14.0, -14.0, 112.0), (14.0, 14.0, 112.0)
sys.exit(found != {"RAS": (place, (6.0, 10.0, 12.0), as_mha, 4), "LAS": (place, (32.0, 10.0, 69.0), as_mha, 23)})
PYTHON
