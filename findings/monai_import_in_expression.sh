#!/bin/sh
# An expression of a MONAI bundle that holds the letters "import" anywhere, in a folder or a setting's name, and a
# reference is refused as "invalid syntax": MONAI parses it as Python to look for an import before "@" is replaced.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0" "monai==1.6.1" "numpy<3"
cat > "$work/show.py" <<'PY'
import sys

import monai
from monai.bundle import ConfigParser

print("monai", monai.__version__)
seen = []
for expression in ("$@data_dir + '/runs'", "$@data_dir + '/imports'", "$@important + 1"):
    try:
        parser = ConfigParser({"data_dir": "/data", "important": 1, "value": expression})
        seen.append(parser.get_parsed_content("value"))
    except SyntaxError as error:
        seen.append(f"SyntaxError: {error.msg}")
    print(f"{expression:24} -> {seen[-1]}")
sys.exit(0 if seen == ["/data/runs", "SyntaxError: invalid syntax", "SyntaxError: invalid syntax"] else 1)
PY
"$work/venv/bin/python" -W ignore "$work/show.py"
