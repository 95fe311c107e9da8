#!/bin/sh
# MONAI's ConfigParser replaces "#" by "::" in every string of a config, also in a path, and says nothing.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0" "monai==1.6.1" "numpy<3"
cat > "$work/show.py" <<'PY'
import sys
from pathlib import Path

import monai
import torch
from monai.bundle import ConfigParser

print("monai", monai.__version__, "torch", torch.__version__)
folder = Path(sys.argv[1]) / "Study #3"
folder.mkdir()
seen = {}
for name, text in {
    "plain string": str(folder),
    "expression": f"$str({str(folder)!r})",
    "escaped": "$'" + str(folder).replace("#", "\\x23") + "'",
}.items():
    path = Path(ConfigParser({"output_dir": text}).get_parsed_content("output_dir"))
    seen[name] = (path.name, path.is_dir())
    print(f"{name:13} -> {seen[name]}")
expected = {
    "plain string": ("Study ::3", False),
    "expression": ("Study ::3", False),
    "escaped": ("Study #3", True),
}
sys.exit(0 if seen == expected else 1)
PY
"$work/venv/bin/python" -W ignore "$work/show.py" "$work"
