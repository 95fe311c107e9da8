#!/bin/sh
# A patch of 8 x 10 x 12 voxels around a lesion, which SimpleITK wrote as NRRD with three axes of space (kinds: domain domain domain).
# VTK, and PyVista with it, reads an image of 10 x 12 pixels with 8 values each, its spacings those of the second and the third axis: it takes
# a first axis of up to 9 for components, whatever the header calls it. From 10 voxels on the image has three axes. As MetaImage the
# same patch has three.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet vtk==9.7.2 SimpleITK==2.5.7 pyvista==0.49.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path
import numpy as np, pyvista, SimpleITK

print(*(f"{name} {version(name)}" for name in ("vtk", "pyvista", "SimpleITK")))
found = {}
for length in (8, 9, 10):
    image = SimpleITK.GetImageFromArray(np.zeros((12, 10, length), np.int16))
    image.SetSpacing((2, 3, 4))
    for ending in ("nrrd", "mha"):
        SimpleITK.WriteImage(image, f"patch.{ending}")
        grid = pyvista.read(f"patch.{ending}")
        components = grid.active_scalars.shape[1] if grid.active_scalars.ndim > 1 else 1
        found[length, ending] = tuple(grid.dimensions), tuple(grid.spacing), components
        print(f"{length} x 10 x 12 as {ending}: {found[length, ending][0]} voxels of {found[length, ending][1]} mm with {components} values each")
print(*(line for line in Path("patch.nrrd").read_bytes().decode("latin-1").splitlines()[:12] if line.startswith(("sizes", "kinds"))), sep="\n")
whole = {length: ((length, 10, 12), (2, 3, 4), 1) for length in (8, 9, 10)}
sys.exit(any(found[length, "mha"] != whole[length] for length in whole) or found[10, "nrrd"] != whole[10]
         or any(found[length, "nrrd"] != ((10, 12, 1), (3, 4, 1), length) for length in (8, 9)))
PYTHON
