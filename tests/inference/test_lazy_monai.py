"""MONAI's packages opened at first use: the same objects, few modules; a process that has MONAI already keeps it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import monai

from volseg.inference.lazy_monai import is_open_at_first_use, name_modules, open_at_first_use

ASK = """
import json, sys
from volseg.inference.lazy_monai import name_modules, open_at_first_use
assert open_at_first_use() and open_at_first_use()
from monai.networks.nets import DynUNet
from monai.bundle import ConfigParser
import monai
part = name_modules({"network": {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2,
    "channels": [4, 8], "strides": [2]}, "inferer": {"_target_": "monai.inferers.SimpleInferer"}})
network = ConfigParser(part).get_parsed_content("network")
loaded = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps([DynUNet.__module__, type(network).__module__, monai.__version__, loaded]))
"""


def test_names_are_monais_own_and_little_else_is_loaded():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True, env=environment)
    dyn_unet, unet, version, loaded = json.loads(done.stdout)
    assert (dyn_unet, unet) == ("monai.networks.nets.dynunet", "monai.networks.nets.unet")
    assert version == monai.__version__
    assert not set(loaded) & {"transformers", "pandas", "skimage", "itk", "tensorboard"}


def test_a_process_that_has_monai_keeps_it():
    assert not open_at_first_use()
    assert not is_open_at_first_use()


def test_short_targets_get_their_module_and_others_stay():
    config = {"a": {"_target_": "DynUNet", "b": [{"_target_": "torch.nn.Conv3d"}, {"_target_": "$x"}]}, "c": "DynUNet"}
    named = name_modules(config)
    assert named["a"]["_target_"] == "monai.networks.nets.dynunet.DynUNet"
    assert named["a"]["b"] == config["a"]["b"]
    assert named["c"] == "DynUNet"
    assert name_modules({"_target_": "NoSuchName"}) == {"_target_": "NoSuchName"}
