#!/bin/sh
# Slices that are written with TiffWriter.write one after the other are as many images of one file, so that `imread` gives the
# first slice alone, without a word; `imread(key=...)` or `contiguous=True` at writing give all of them.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check numpy==2.4.6 tifffile==2026.3.3 imageio==2.38.1
cat >"$folder/show.py" <<'PYTHON'
import sys

import imageio.v3 as imageio
import numpy as np
import tifffile

print("tifffile", tifffile.__version__, "imageio", sys.modules["imageio"].__version__)
slices = np.arange(5 * 30 * 40, dtype=np.uint16).reshape(5, 30, 40)
apart, joined = f"{sys.argv[1]}/apart.tif", f"{sys.argv[1]}/joined.tif"
for path, options in ((apart, {}), (joined, {"contiguous": True})):
    with tifffile.TiffWriter(path) as file:
        for one in slices:
            file.write(one, **options)
found = {
    "imread": tifffile.imread(apart).shape,
    "imread(key=range(5))": tifffile.imread(apart, key=range(5)).shape,
    "imread of a file written with contiguous=True": tifffile.imread(joined).shape,
    "imageio.v3.imread": imageio.imread(apart, plugin="tifffile").shape,
}
for way, shape in found.items():
    print(f"5 slices of 30 x 40, {way}: {shape}")
sys.exit(list(found.values()) != [(30, 40), (5, 30, 40), (5, 30, 40), (30, 40)])
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder"
