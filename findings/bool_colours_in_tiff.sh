#!/bin/sh
# A colour image of True and False whose samples lie side by side is not what it was when tifffile has written it and reads it
# again: bits are packed along the width of each sample and read as one run per row. With one plane per sample, or with
# 8 bits, it comes back as it was.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check numpy==2.4.6 tifffile==2026.3.3
cat >"$folder/show.py" <<'PYTHON'
import sys

import numpy as np
import tifffile

print("tifffile", tifffile.__version__)
pixels = np.random.default_rng(0).random((5, 6, 3)) > 0.5
ways = {
    "1 bit, samples side by side": (pixels, "contig"),
    "1 bit, a plane per sample": (np.moveaxis(pixels, -1, 0), "separate"),
    "8 bits, samples side by side": (pixels.astype(np.uint8), "contig"),
}
found = {}
for number, (way, (stored, planar)) in enumerate(ways.items()):
    path = f"{sys.argv[1]}/{number}.tif"
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar)
    found[way] = bool(np.array_equal(tifffile.imread(path), stored))
    print(f"{way}: comes back as it was: {found[way]}")
sys.exit(list(found.values()) != [False, True, True])
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder"
