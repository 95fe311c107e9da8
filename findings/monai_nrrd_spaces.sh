#!/bin/sh
# MONAI 1.6.1's NrrdReader knows one name of a space: "LPS" and "left-anterior-superior" are taken for right-anterior-superior.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet monai==1.6.1 pynrrd==1.1.3 SimpleITK==2.5.7 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON' 2>/dev/null
import sys
from importlib.metadata import version

import nrrd
import numpy as np
import SimpleITK as sitk
from monai.data import NrrdReader

seen = {}
for space in ("left-posterior-superior", "LPS", "left-anterior-superior", "right-anterior-superior"):
    path = f"{sys.argv[1]}/{space}.nrrd"
    header = {"space": space, "space directions": np.diag([1.0, 2.0, 3.0]), "space origin": [10, 20, 30]}
    nrrd.write(path, np.zeros((4, 5, 6), np.int16), {**header, "kinds": ["domain"] * 3})
    reader = NrrdReader()
    _, meta = reader.get_data(reader.read(path))
    x, y, z = sitk.ReadImage(path).GetOrigin()  # in the directions of DICOM, LPS
    monai = np.asarray(meta["affine"])[:3, 3].tolist()
    seen[space] = [-x, -y, z], monai
    print(f"{space}: first voxel in RAS, SimpleITK {[-x, -y, z]}, MONAI's NrrdReader {monai}")
print("MONAI", version("monai"), "pynrrd", version("pynrrd"), "SimpleITK", version("SimpleITK"))
expected = {
    "left-posterior-superior": ([-10, -20, 30], [-10, -20, 30]),
    "LPS": ([-10, -20, 30], [10, 20, 30]),
    "left-anterior-superior": ([-10, 20, 30], [10, 20, 30]),
    "right-anterior-superior": ([10, 20, 30], [10, 20, 30]),
}
sys.exit(0 if seen == expected else 1)
PYTHON
