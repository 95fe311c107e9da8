#!/bin/sh
# A mask of True and False that tifffile, imageio or scikit-image's readers write and read comes back inverted from Pillow
# and OpenCV: bool arrays are stored with PhotometricInterpretation 0 (white is zero), but their bits are not turned round.
# A grey image of 16 bits with the same tag is turned round by none of them.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check \
    numpy==2.4.6 tifffile==2026.3.3 imagecodecs==2026.3.6 imageio==2.38.1 pillow==12.3.0 opencv-python-headless==5.0.0.93
cat >"$folder/show.py" <<'PYTHON'
import sys

import cv2
import imageio.v3 as iio
import numpy as np
import tifffile
from PIL import Image, __version__

print("tifffile", tifffile.__version__, "Pillow", __version__, "OpenCV", cv2.__version__)
mask = np.zeros((40, 50), bool)
mask[10:20, 10:25] = True
readers = {
    "tifffile": tifffile.imread,
    "imageio": iio.imread,
    "Pillow": lambda path: np.asarray(Image.open(path)),
    "OpenCV": lambda path: cv2.imread(path, cv2.IMREAD_UNCHANGED),
}
expected = {"tifffile": 150, "imageio": 150, "Pillow": 1850, "OpenCV": 1850}
changed = False
for writer, write in {"tifffile": tifffile.imwrite, "imageio": iio.imwrite}.items():
    path = f"{sys.argv[1]}/{writer}.tif"
    write(path, mask)
    found = {name: int(np.count_nonzero(read(path))) for name, read in readers.items()}
    print(f"bool mask of 150 marked pixels of 2000, written by {writer}:", found)
    changed |= found != expected
path = f"{sys.argv[1]}/deep.tif"
tifffile.imwrite(path, np.full((4, 4), 1000, np.uint16), photometric="miniswhite")
found = {name: int(read(path)[0, 0]) for name, read in readers.items()}
print("16 bits, white is zero, stored 1000:", found)
changed |= set(found.values()) != {1000}
sys.exit(changed)
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder"
