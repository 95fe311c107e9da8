#!/bin/sh
# Four regions are compared, and one has no p-value, since no patient differs there. statsmodels' Holm and Bonferroni
# correct the other three as if there were four tests; its Benjamini-Hochberg has no p-value for any of them, without a
# word. SciPy's false_discovery_control refuses.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet statsmodels==0.15.0 scipy==1.17.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import numpy as np, scipy, statsmodels
from scipy.stats import false_discovery_control
from statsmodels.stats.multitest import multipletests

print("statsmodels", statsmodels.__version__, "SciPy", scipy.__version__)
p = np.array([0.015, np.nan, 0.03, 0.04])
found = {}
for method in ("holm", "bonferroni", "fdr_bh"):
    corrected, alone = (multipletests(one, method=method)[1] for one in (p, p[~np.isnan(p)]))
    found[method] = corrected[0].round(4).item(), alone[0].round(4).item()
    print(f"{method}: {corrected.round(4).tolist()}, of the three alone {alone.round(4).tolist()}")
try:
    refused = f"no: {false_discovery_control(p).tolist()}"
except ValueError as error:
    refused = "yes"
    print("SciPy refuses:", error)
expected = {"holm": (0.06, 0.045), "bonferroni": (0.06, 0.045)}
seen = all(found[name] == pair for name, pair in expected.items()) and np.isnan(found["fdr_bh"][0])
sys.exit(not (seen and found["fdr_bh"][1] == 0.04 and refused == "yes"))
PYTHON
