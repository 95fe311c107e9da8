"""What turns windows into logits: PyTorch on any device, and on a CPU PyTorch compiled or OpenVINO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg import opened_at_first_use

if TYPE_CHECKING:
    from volseg.inference.engines.bfloat16 import check_precision, check_training, runs_bf16
    from volseg.inference.engines.choice import WORTH_A_TRIAL_S, WORTH_COMPILING_S, choose
    from volseg.inference.engines.convolutions import Convolutions
    from volseg.inference.engines.engine import Engine, difference, seconds_a_window
    from volseg.inference.engines.hardware import check_device, machine, peak_memory, worker_device
    from volseg.inference.engines.memory import (
        affordable_windows,
        available_bytes,
        peak_resident_bytes,
        release_freed_memory,
        resident_bytes,
    )
    from volseg.inference.engines.openvino import OpenVinoEngine
    from volseg.inference.engines.openvino_runtime import (
        ENGINES,
        EXPORTED,
        EXPORTED_INT8,
        PRECISIONS,
        installed,
        openvino_core,
    )
    from volseg.inference.engines.parallel_windows import ParallelWindows
    from volseg.inference.engines.precision import MixedPrecision
    from volseg.inference.engines.pytorch import CompiledEngine, TorchEngine

__all__ = [
    "ENGINES",
    "EXPORTED",
    "EXPORTED_INT8",
    "PRECISIONS",
    "WORTH_A_TRIAL_S",
    "WORTH_COMPILING_S",
    "CompiledEngine",
    "Convolutions",
    "Engine",
    "MixedPrecision",
    "OpenVinoEngine",
    "ParallelWindows",
    "TorchEngine",
    "affordable_windows",
    "available_bytes",
    "check_device",
    "check_precision",
    "check_training",
    "choose",
    "difference",
    "installed",
    "machine",
    "openvino_core",
    "peak_memory",
    "peak_resident_bytes",
    "release_freed_memory",
    "resident_bytes",
    "runs_bf16",
    "seconds_a_window",
    "worker_device",
]

__getattr__ = opened_at_first_use(
    {
        "volseg.inference.engines.choice": (
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
            "check_device",
            "machine",
            "peak_memory",
            "worker_device",
        ),
        "volseg.inference.engines.memory": (
            "affordable_windows",
            "available_bytes",
            "peak_resident_bytes",
            "release_freed_memory",
            "resident_bytes",
        ),
        "volseg.inference.engines.openvino": ("OpenVinoEngine",),
        "volseg.inference.engines.openvino_runtime": (
            "ENGINES",
            "EXPORTED",
            "EXPORTED_INT8",
            "PRECISIONS",
            "installed",
            "openvino_core",
        ),
        "volseg.inference.engines.parallel_windows": ("ParallelWindows",),
        "volseg.inference.engines.precision": ("MixedPrecision",),
        "volseg.inference.engines.bfloat16": (
            "check_precision",
            "check_training",
            "runs_bf16",
        ),
        "volseg.inference.engines.pytorch": (
            "CompiledEngine",
            "TorchEngine",
        ),
    }
)
