"""What turns windows into logits: PyTorch on any device, and on a CPU PyTorch compiled or OpenVINO."""

from volseg.engines.choice import ENGINES, WORTH_A_TRIAL_S, WORTH_COMPILING_S, choose
from volseg.engines.engine import Engine, difference, seconds_a_window
from volseg.engines.lanes import Lanes
from volseg.engines.openvino import EXPORTED, OpenVinoEngine, installed, openvino_core
from volseg.engines.precision import check_precision, check_training, runs_bf16
from volseg.engines.pytorch import CompiledEngine, TorchEngine

__all__ = [
    "ENGINES",
    "EXPORTED",
    "WORTH_A_TRIAL_S",
    "WORTH_COMPILING_S",
    "CompiledEngine",
    "Engine",
    "Lanes",
    "OpenVinoEngine",
    "TorchEngine",
    "check_precision",
    "check_training",
    "choose",
    "difference",
    "installed",
    "openvino_core",
    "runs_bf16",
    "seconds_a_window",
]
