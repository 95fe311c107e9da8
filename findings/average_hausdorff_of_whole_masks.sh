#!/bin/sh
# Two balls of one radius lie 3 voxels apart. MedPy's average surface distance is 1.4 voxels whatever the radius, since the surfaces
# are as far apart in each. SimpleITK's GetAverageHausdorffDistance averages over all voxels of a mask, of which most lie in the
# other one and are 0 away: 0.89 for a radius of 4, 0.58 for 6, 0.29 for 12, so an organ twice as large has half the error.
# The largest distance, which the same filter gives, is that of MedPy.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet SimpleITK==2.5.7 MedPy==0.5.2 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import numpy as np, SimpleITK
from medpy.metric.binary import assd, hd

print(*(f"{name} {version(name)}" for name in ("SimpleITK", "MedPy", "scipy", "numpy")))
found = {}
for radius in (4, 6, 12):
    at = np.indices((40, 40, 40)) - 18
    one, other = ((at**2).sum(0) <= radius**2, ((at - np.array((3, 0, 0))[:, None, None, None]) ** 2).sum(0) <= radius**2)
    by_itk = SimpleITK.HausdorffDistanceImageFilter()
    by_itk.Execute(*(SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in (one, other)))
    found[radius] = (
        round(by_itk.GetAverageHausdorffDistance(), 2),
        round(float(assd(one, other)), 2),
        round(by_itk.GetHausdorffDistance(), 2),
        round(float(hd(one, other)), 2),
    )
    print(f"radius {radius}: average {found[radius][0]} by SimpleITK, {found[radius][1]} by MedPy; largest "
          f"{found[radius][2]} and {found[radius][3]}")
averages = {radius: values[:2] for radius, values in found.items()}
sys.exit(averages != {4: (0.89, 1.44), 6: (0.58, 1.44), 12: (0.29, 1.43)} or any(values[2:] != (3, 3) for values in found.values()))
PYTHON
