"""From a checkpoint and volumes on disk to predictions on each volume's own grid."""

from volseg.engines import Lanes
from volseg.inference.device import check_device, worker_device
from volseg.inference.ensemble import flip_axes
from volseg.inference.failure import root_error
from volseg.inference.precision import MixedPrecision
from volseg.inference.prediction import PROBABILITIES, Prediction, write_labels, write_prediction
from volseg.inference.predictor import Predictor
from volseg.inference.sliding import SlidingWindow, sliding_window
from volseg.inference.two_step import AnyPredictor, TwoStep, load_predictor
from volseg.members import find_checkpoints
from volseg.worklist import check_output, count_windows, find_inputs

__all__ = [
    "PROBABILITIES",
    "AnyPredictor",
    "Lanes",
    "MixedPrecision",
    "Prediction",
    "Predictor",
    "SlidingWindow",
    "TwoStep",
    "check_device",
    "check_output",
    "count_windows",
    "find_checkpoints",
    "find_inputs",
    "flip_axes",
    "load_predictor",
    "root_error",
    "sliding_window",
    "worker_device",
    "write_labels",
    "write_prediction",
]
