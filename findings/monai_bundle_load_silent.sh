#!/bin/sh
# monai.bundle.load gives back a network of random weights, without an error, where the checkpoint holds its tensors under
# a key ("model") as MONAI's own CheckpointSaver writes them: tensors are copied by name, and 0 of them is no failure, one line of the log at INFO aside.
#
# Seen with monai 1.6.1, torch 2.13.0, Python 3.11. Expected: an error, or a warning, that nothing was loaded.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
python="$work/venv/bin/python"
"$python" -m pip install --quiet torch==2.13.0 monai==1.6.1 fire==0.7.1 "numpy<3"
cat > "$work/run.py" <<'PY'
import json
import sys
import warnings
from pathlib import Path
import monai, torch
from monai.bundle import load
from monai.networks.nets import UNet

print("monai", monai.__version__, "torch", torch.__version__)
bundle = Path(sys.argv[1]) / "mine"
for folder in ("configs", "models"):
    (bundle / folder).mkdir(parents=True)
sizes = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
config = {"network_def": {"_target_": "UNet", **sizes}, "run": []}
(bundle / "configs" / "train.json").write_text(json.dumps(config))
(bundle / "configs" / "metadata.json").write_text(json.dumps({"version": "0.1.0"}))
trained = UNet(**sizes).state_dict()
torch.save({"model": trained}, bundle / "models" / "model.pt")
found = {}
for key in (None, "model"):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        network = load(name="mine", bundle_dir=str(bundle.parent), key_in_ckpt=key, device="cpu")
    own = network.state_dict()
    found[key] = sum(torch.equal(own[name], trained[name]) for name in own if own[name].ndim > 1)
    about = [str(one.message) for one in said if "load" in str(one.message).lower()]
    print(f"key_in_ckpt={key!r}: {found[key]} convolution weights are those of the checkpoint; warnings of it: {about}")
sys.exit(0 if found[None] == 0 and found["model"] > 0 else 1)
PY
"$python" "$work/run.py" "$work"
