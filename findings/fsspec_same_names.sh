#!/bin/sh
# fsspec's simplecache with same_names=True keeps a copy under the last part of the path alone. Of two files with one name in
# two folders, as the image and the label of a case, the second is then given the bytes of the first, without a word.
# filecache with the same option replaces the first copy by the second: a path that was handed out before holds other bytes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check fsspec==2026.9.0
cat >"$folder/show.py" <<'PYTHON'
import sys
from pathlib import Path

import fsspec

print("fsspec", fsspec.__version__)
root = Path(sys.argv[1])
for name in ("imagesTr", "labelsTr"):
    (root / name).mkdir()
    (root / name / "case1.nii.gz").write_bytes(name.encode())
found = {}
for cache in ("simplecache", "filecache"):
    options = {"cache_storage": str(root / cache), "same_names": True}
    paths = [
        fsspec.open_local(f"{cache}::file://{root}/{name}/case1.nii.gz", **{cache: options})
        for name in ("imagesTr", "labelsTr")
    ]
    found[cache] = [Path(path).read_text() for path in paths]
    print(f"{cache}: image and label hold {found[cache]}, expected ['imagesTr', 'labelsTr']")
sys.exit(found != {"simplecache": ["imagesTr", "imagesTr"], "filecache": ["labelsTr", "labelsTr"]})
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder"
