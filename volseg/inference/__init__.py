"""From a checkpoint and volumes on disk to predictions on each volume's own grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg import opened_at_first_use

if TYPE_CHECKING:
    from volseg.bundle import find_checkpoints
    from volseg.cohort import PROBABILITIES, Prediction, write_labels, write_prediction
    from volseg.errors import root_error
    from volseg.inference.engines.choice import ENGINES, WORTH_A_TRIAL_S, WORTH_COMPILING_S, choose
    from volseg.inference.engines.convolutions import Convolutions
    from volseg.inference.engines.engine import Engine, difference, seconds_a_window
    from volseg.inference.engines.hardware import available_bytes, check_device, machine, peak_memory, worker_device
    from volseg.inference.engines.openvino import EXPORTED, OpenVinoEngine, installed, openvino_core
    from volseg.inference.engines.parallel_windows import Lanes
    from volseg.inference.engines.precision import MixedPrecision, check_precision, check_training, runs_bf16
    from volseg.inference.engines.pytorch import CompiledEngine, TorchEngine
    from volseg.inference.ensemble import flip_axes
    from volseg.inference.first_step import FirstStep
    from volseg.inference.inputs import (
        check_output,
        count_windows,
        find_inputs,
        input_cohort,
        read_grid,
        read_image,
        read_images,
    )
    from volseg.inference.predictor import Predictor
    from volseg.inference.sliding import SlidingWindow, sliding_window
    from volseg.inference.two_step import AnyPredictor, TwoStep, load_predictor

__all__ = [
    "ENGINES",
    "EXPORTED",
    "PROBABILITIES",
    "WORTH_A_TRIAL_S",
    "WORTH_COMPILING_S",
    "AnyPredictor",
    "CompiledEngine",
    "Convolutions",
    "Engine",
    "FirstStep",
    "Lanes",
    "MixedPrecision",
    "OpenVinoEngine",
    "Prediction",
    "Predictor",
    "SlidingWindow",
    "TorchEngine",
    "TwoStep",
    "available_bytes",
    "check_device",
    "check_output",
    "check_precision",
    "check_training",
    "choose",
    "count_windows",
    "difference",
    "find_checkpoints",
    "find_inputs",
    "flip_axes",
    "input_cohort",
    "installed",
    "load_predictor",
    "machine",
    "openvino_core",
    "peak_memory",
    "read_grid",
    "read_image",
    "read_images",
    "root_error",
    "runs_bf16",
    "seconds_a_window",
    "sliding_window",
    "worker_device",
    "write_labels",
    "write_prediction",
]

__getattr__ = opened_at_first_use(
    {
        "volseg.bundle": ("find_checkpoints",),
        "volseg.cohort": (
            "PROBABILITIES",
            "Prediction",
            "write_labels",
            "write_prediction",
        ),
        "volseg.errors": ("root_error",),
        "volseg.inference.engines.choice": (
            "ENGINES",
            "WORTH_A_TRIAL_S",
            "WORTH_COMPILING_S",
            "choose",
        ),
        "volseg.inference.engines.convolutions": ("Convolutions",),
        "volseg.inference.engines.engine": (
            "Engine",
            "difference",
            "seconds_a_window",
        ),
        "volseg.inference.engines.hardware": (
            "available_bytes",
            "check_device",
            "machine",
            "peak_memory",
            "worker_device",
        ),
        "volseg.inference.engines.openvino": (
            "EXPORTED",
            "OpenVinoEngine",
            "installed",
            "openvino_core",
        ),
        "volseg.inference.engines.parallel_windows": ("Lanes",),
        "volseg.inference.engines.precision": (
            "MixedPrecision",
            "check_precision",
            "check_training",
            "runs_bf16",
        ),
        "volseg.inference.engines.pytorch": (
            "CompiledEngine",
            "TorchEngine",
        ),
        "volseg.inference.ensemble": ("flip_axes",),
        "volseg.inference.first_step": ("FirstStep",),
        "volseg.inference.inputs": (
            "check_output",
            "count_windows",
            "find_inputs",
            "input_cohort",
            "read_grid",
            "read_image",
            "read_images",
        ),
        "volseg.inference.predictor": ("Predictor",),
        "volseg.inference.sliding": (
            "SlidingWindow",
            "sliding_window",
        ),
        "volseg.inference.two_step": (
            "AnyPredictor",
            "TwoStep",
            "load_predictor",
        ),
    }
)
