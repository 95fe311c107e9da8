#!/bin/sh
# safetensors writes the entries of `metadata` in an order of chance: the same tensors and the same text give other bytes at
# each call, so the digest of a file says nothing about its content. With one entry the bytes are the same.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check numpy==2.4.6 safetensors==0.8.0
cat >"$folder/show.py" <<'PYTHON'
import sys

import numpy as np
import safetensors
from safetensors.numpy import save

print("safetensors", safetensors.__version__)
tensors = {"weight": np.zeros(4, np.float32)}
entries = {f"key{number}": str(number) for number in range(8)}
found = {
    "eight entries": {save(tensors, entries) for _ in range(20)},
    "one entry": {save(tensors, {"all": str(entries)}) for _ in range(20)},
}
for what, files in found.items():
    print(f"metadata of {what}, saved 20 times: {len(files)} different files, expected 1")
sys.exit(not (len(found["eight entries"]) > 1 and len(found["one entry"]) == 1))
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
