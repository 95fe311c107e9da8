#!/bin/sh
# A stack of slices that tifffile writes is something else for its readers: three slices become one colour image, any
# number of slices written for ImageJ without axes become channels, and of a stack behind one header (what ImageJ writes
# beyond 4 GB) Pillow and OpenCV give the first slice, without a word.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check \
    numpy==2.4.6 tifffile==2026.3.3 imagecodecs==2026.3.6 pillow==12.3.0 opencv-python-headless==5.0.0.93
cat >"$folder/show.py" <<'PYTHON'
import sys
import warnings

import cv2
import numpy as np
import tifffile
from PIL import Image, __version__

warnings.simplefilter("ignore")  # a DeprecationWarning of tifffile about the first
print("tifffile", tifffile.__version__, "Pillow", __version__, "OpenCV", cv2.__version__)
stack = np.arange(5 * 30 * 40, dtype=np.uint16).reshape(5, 30, 40)
found = []


def show(what, slices, **options):
    path = f"{sys.argv[1]}/a.tif"
    tifffile.imwrite(path, slices, **options)
    with tifffile.TiffFile(path) as file:
        axes, photometric = file.series[0].axes, file.pages[0].photometric.name
    with Image.open(path) as image:
        pillow = (image.n_frames, image.mode)
    opened, pages = cv2.imreadmulti(path, flags=cv2.IMREAD_UNCHANGED)
    found.append((axes, photometric, pillow, [page.shape for page in pages]))
    print(f"{what}: tifffile {axes} {photometric}, Pillow {pillow}, OpenCV {found[-1][3]}")


show("three slices", stack[:3])
show("five slices for ImageJ", stack, imagej=True)
show("five slices behind one header", stack, imagej=True, truncate=True, metadata={"axes": "ZYX"})
expected = [
    ("SYX", "RGB", (1, "RGB"), [(30, 40, 3)]),
    ("CYX", "MINISBLACK", (5, "I;16"), [(30, 40)] * 5),
    ("ZYX", "MINISBLACK", (1, "I;16"), [(30, 40)]),
]
sys.exit(found != expected)
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder"
