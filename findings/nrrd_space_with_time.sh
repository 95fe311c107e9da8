#!/bin/sh
# SimpleITK 2.5.7 turns a NRRD volume in right-anterior-superior into the directions of DICOM, and a series of volumes in
# right-anterior-superior-time not: left and right, and front and back, are exchanged between a volume and its series.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pynrrd==1.1.3 SimpleITK==2.5.7 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from importlib.metadata import version

import nrrd
import numpy as np
import SimpleITK as sitk

seen = {}
for space, axes in (("right-anterior-superior", 3), ("right-anterior-superior-time", 4)):
    path = f"{sys.argv[1]}/{axes}.nrrd"
    header = {"space": space, "space directions": np.diag([1.0, 2.0, 3.0, 0.5][:axes])}
    header |= {"space origin": [10, 20, 30, 0][:axes], "kinds": ["domain"] * axes}
    nrrd.write(path, np.zeros((4, 5, 6, 2)[:axes], np.int16), header)
    x, y, z = sitk.ReadImage(path).GetOrigin()[:3]  # in the directions of DICOM, LPS
    seen[space] = [-x, -y, z]
    print(f"{space}: first voxel at 10, 20, 30 in RAS by its header, at {seen[space]} by SimpleITK")
print("SimpleITK", version("SimpleITK"), "pynrrd", version("pynrrd"))
expected = {"right-anterior-superior": [10, 20, 30], "right-anterior-superior-time": [-10, -20, 30]}
sys.exit(0 if seen == expected else 1)
PYTHON
