#!/bin/sh
# NNCF's quantisation with accuracy control fails where the metric of the original network is 0 and an ABSOLUTE drop is asked
# for, as with the negative distance from its own output: the relative drop is computed as well, and divides by that 0. With
# 1 added to the metric, which changes no difference, it ends.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check numpy==2.4.6 openvino==2026.4.1 nncf==3.4.0
cat >"$folder/show.py" <<'PYTHON'
import contextlib
import io
import logging
import sys
import traceback

import nncf
import numpy as np
import openvino
from openvino import opset13 as layers

print("nncf", nncf.__version__, "openvino", openvino.__version__.split("-")[0])
logging.getLogger("nncf").setLevel(logging.ERROR)
generator = np.random.default_rng(0)
begin = made = layers.parameter([1, 8, 16, 16], np.float32, name="image")
for _ in range(2):
    weights = layers.constant(generator.normal(size=(8, 8, 3, 3)).astype(np.float32))
    made = layers.relu(layers.convolution(made, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
model = openvino.Model([made], [begin], "two_convolutions")
images = [generator.normal(size=(1, 8, 16, 16)).astype(np.float32) for _ in range(4)]
original = openvino.compile_model(model.clone(), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
expected = [original(image)[0] for image in images]


def ended(of_original):
    def validate(compiled, numbers):
        far = [float(np.abs(compiled(images[int(n)])[0] - expected[int(n)]).max()) for n in numbers]
        return of_original - float(np.mean(far)), [of_original - one for one in far]

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            nncf.quantize_with_accuracy_control(
                model.clone(),
                nncf.Dataset(images),
                nncf.Dataset(list(range(4))),
                validate,
                max_drop=0.001,
                drop_type=nncf.DropType.ABSOLUTE,
            )
    except ZeroDivisionError as error:
        return f"ZeroDivisionError at: {traceback.extract_tb(error.__traceback__)[-1].line}"
    return "a quantised network"


found = {metric: ended(metric) for metric in (1.0, 0.0)}
for metric, end in found.items():
    print(f"metric of the original {metric:g}, largest drop 0.001: {end}")
sys.exit(not (found[1.0] == "a quantised network" and found[0.0].startswith("ZeroDivisionError")))
PYTHON
NNCF_CI=1 "$folder/venv/bin/python" "$folder/show.py"
