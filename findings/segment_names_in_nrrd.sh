#!/bin/sh
# A .seg.nrrd of two layers, whose segments have Chinese names, as 3D Slicer writes it in UTF-8. pynrrd, and slicerio with
# it, drops the letters in silence, so both names are empty; SimpleITK keeps them, but saves the file with another kind of
# first axis, which slicerio refuses.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pynrrd==1.1.3 slicerio==1.4.0 SimpleITK==2.5.7 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import nrrd, numpy as np, SimpleITK, slicerio

print(*(f"{name} {version(name)}" for name in ("pynrrd", "slicerio", "SimpleITK", "numpy")))
names = ["\u80dd", "\u813e"]  # liver, spleen
lines = ["NRRD0004", "type: uint8", "dimension: 4", "space: left-posterior-superior", "sizes: 2 4 4 4"]
lines += ["space directions: none (1,0,0) (0,1,0) (0,0,1)", "kinds: list domain domain domain", "encoding: raw"]
lines += ["space origin: (0,0,0)", "Segmentation_MasterRepresentation:=Binary labelmap"]
for place, name in enumerate(names):
    fields = {"ID": f"S{place}", "Name": name, "LabelValue": 1, "Layer": place, "Extent": "0 3 0 3 0 3", "Color": "1 0 0"}
    lines += [f"Segment{place}_{field}:={value}" for field, value in fields.items()]
with open("a.seg.nrrd", "wb") as file:
    file.write("\n".join([*lines, "", ""]).encode() + np.ones(128, np.uint8).tobytes())
header = nrrd.read_header("a.seg.nrrd")
by_pynrrd = [header[f"Segment{place}_Name"] for place in (0, 1)]
by_slicerio = [segment["name"] for segment in slicerio.read_segmentation("a.seg.nrrd")["segments"]]
image = SimpleITK.ReadImage("a.seg.nrrd")
by_itk = [image.GetMetaData(f"Segment{place}_Name") for place in (0, 1)]
print("names by pynrrd", by_pynrrd, "slicerio", by_slicerio, "SimpleITK", [ascii(name) for name in by_itk])
SimpleITK.WriteImage(image, "again.seg.nrrd")
kinds = nrrd.read_header("again.seg.nrrd")["kinds"]
try:
    slicerio.read_segmentation("again.seg.nrrd")
    refused = False
except OSError as error:
    refused = True
    print("slicerio:", error)
print("kinds after SimpleITK:", kinds)
sys.exit(not (by_pynrrd == by_slicerio == ["", ""] and by_itk == names and kinds[0] == "vector" and refused))
PYTHON
