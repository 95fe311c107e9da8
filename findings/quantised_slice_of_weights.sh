#!/bin/sh
# NNCF quantises a convolution whose weights are constants, and one whose weights are a slice of constants, as OpenVINO's
# converter writes it where a network for volumes computes images by the middle plane of its kernels, ends with a KeyError
# before a window is seen. OpenVINO computes both, and folding the constants first gives the very model that NNCF takes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openvino==2026.4.1 nncf==3.4.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import sys
from importlib.metadata import version

import numpy as np, openvino
from openvino import opset13 as ops
from openvino.passes import ConstantFolding, Manager

print("openvino", version("openvino"), "nncf", version("nncf"), "numpy", np.__version__)
import nncf

nncf.set_log_level(logging.ERROR)
random = np.random.default_rng(0)
kernels = random.normal(size=(4, 2, 3, 3, 3)).astype(np.float32)
windows = [random.normal(size=(1, 2, 16, 16)).astype(np.float32) for _ in range(3)]


def model(sliced):
    """One convolution by the middle planes of the kernels, sliced in the model or beforehand."""
    image = ops.parameter([1, 2, 16, 16], np.float32)
    planes = kernels[:, :, :, :, 1].copy()
    weights = ops.gather(ops.constant(kernels), np.array(1), np.array(4)) if sliced else ops.constant(planes)
    return openvino.Model([ops.relu(ops.convolution(image, weights, [1, 1], [1, 1], [1, 1], [1, 1]))], [image])


def folded():
    """The sliced one after OpenVINO's own folding of constants."""
    found = model(True)
    steps = Manager()
    steps.register_pass(ConstantFolding())
    steps.run_passes(found)
    return found


computed = [openvino.Core().compile_model(model(sliced), "CPU")(windows[0])[0] for sliced in (True, False)]
print("OpenVINO computes both alike:", bool(np.allclose(*computed, rtol=1e-4, atol=1e-4)))
results = {}
for name, made in (("plain weights", model(False)), ("a slice of weights", model(True)), ("the slice, folded", folded())):
    try:
        quantised = nncf.quantize(made, nncf.Dataset(windows))
        results[name] = f"{sum(op.get_type_name() == 'FakeQuantize' for op in quantised.get_ops())} FakeQuantize"
    except Exception as error:
        results[name] = type(error).__name__
    print(f"{name}: {results[name]}")
right = np.allclose(*computed, rtol=1e-4, atol=1e-4) and results["a slice of weights"] == "KeyError"
sys.exit(0 if right and "KeyError" not in (results["plain weights"], results["the slice, folded"]) else 1)
PYTHON
