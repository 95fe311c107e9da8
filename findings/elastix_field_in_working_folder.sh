#!/bin/sh
# A deformation field that is asked for in memory is written as deformationField.nii into the working folder too, although
# no folder is named and WriteResultImage is false; a second call writes over the first's.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet itk-elastix==0.25.4 itk==5.4.7 numpy==2.4.6
mkdir "$folder/work"
cd "$folder/work"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import itk, numpy as np

print("itk-elastix", version("itk-elastix"), "itk", version("itk"), "numpy", np.__version__)
z, y, x = np.indices((24, 24, 24)) - 11.5
images = [itk.image_from_array(np.exp(-((x - shift) ** 2 + y**2 + z**2) / 40).astype(np.float32)) for shift in (0, 2)]
settings = itk.ParameterObject.New()
chosen = settings.GetDefaultParameterMap("translation", 1)
chosen["WriteResultImage"] = ["false"]
chosen["MaximumNumberOfIterations"] = ["20"]
settings.AddParameterMap(chosen)
_, found = itk.elastix_registration_method(*images, parameter_object=settings, log_to_console=False)
after_registration = sorted(path.name for path in Path.cwd().iterdir())
field = itk.transformix_deformation_field(images[1], found)
after_field = sorted(path.name for path in Path.cwd().iterdir())
print("array", itk.array_from_image(field).shape, "files after the registration", after_registration, "after the field", after_field)
sys.exit(0 if after_registration == [] and after_field == ["deformationField.nii"] else 1)
PYTHON
