"""From a checkpoint and volumes on disk to predictions on each volume's own grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg import opened_at_first_use

if TYPE_CHECKING:
    from volseg.bundle import find_checkpoints
    from volseg.cohort import PROBABILITIES, Prediction, write_labels, write_prediction
    from volseg.errors import root_error
    from volseg.inference.arrays import (
        AUTO_PRECISION,
        ArrayPredictor,
        PackedWindows,
        array_predictor,
        compared_precision,
        parse_bytes,
    )
    from volseg.inference.calibrated import is_calibrated
    from volseg.inference.cascade import (
        AnyPredictor,
        CascadePredictor,
        load_predictor,
        own_calibration,
        with_own_calibration,
    )
    from volseg.inference.cores import device_name, instructions, processor, usable_cores
    from volseg.inference.engines import (
        ENGINES,
        EXPORTED,
        EXPORTED_INT8,
        PRECISIONS,
        WORTH_A_TRIAL_S,
        WORTH_COMPILING_S,
        CompiledEngine,
        Convolutions,
        Engine,
        MixedPrecision,
        OpenVinoEngine,
        ParallelWindows,
        TorchEngine,
        available_bytes,
        check_device,
        check_precision,
        check_training,
        choose,
        difference,
        installed,
        machine,
        openvino_core,
        peak_memory,
        runs_bf16,
        seconds_a_window,
        worker_device,
    )
    from volseg.inference.ensemble import check_members, flip_axes
    from volseg.inference.file_names import (
        NIFTI,
        channel_number,
        group_files,
        image_stem,
        is_segmentation,
        lone_key,
    )
    from volseg.inference.inputs import find_inputs, input_cohort
    from volseg.inference.lazy_monai import is_open_at_first_use, open_at_first_use
    from volseg.inference.modality import other_modality
    from volseg.inference.outputs import check_apart, check_output
    from volseg.inference.predictor import Predictor
    from volseg.inference.priors import PRIORS, PriorRow, PriorSource, find_priors, unlike_own_days, write_priors
    from volseg.inference.reading import count_windows, read_grid, read_image, read_images
    from volseg.inference.region_of_interest import RegionOfInterest
    from volseg.inference.sizes import tell_sizes
    from volseg.inference.sliding import SlidingWindow, sliding_window
    from volseg.inference.words import check_words
    from volseg.labels import channel_order, fold_channel
    from volseg.transforms import PriorFiles

__all__ = [
    "AUTO_PRECISION",
    "ENGINES",
    "EXPORTED",
    "EXPORTED_INT8",
    "NIFTI",
    "PRECISIONS",
    "PRIORS",
    "PROBABILITIES",
    "WORTH_A_TRIAL_S",
    "WORTH_COMPILING_S",
    "AnyPredictor",
    "ArrayPredictor",
    "CascadePredictor",
    "CompiledEngine",
    "Convolutions",
    "Engine",
    "MixedPrecision",
    "OpenVinoEngine",
    "PackedWindows",
    "ParallelWindows",
    "Prediction",
    "Predictor",
    "PriorFiles",
    "PriorRow",
    "PriorSource",
    "RegionOfInterest",
    "SlidingWindow",
    "TorchEngine",
    "array_predictor",
    "available_bytes",
    "channel_number",
    "channel_order",
    "check_apart",
    "check_device",
    "check_members",
    "check_output",
    "check_precision",
    "check_training",
    "check_words",
    "choose",
    "compared_precision",
    "count_windows",
    "device_name",
    "difference",
    "find_checkpoints",
    "find_inputs",
    "find_priors",
    "flip_axes",
    "fold_channel",
    "group_files",
    "image_stem",
    "input_cohort",
    "installed",
    "instructions",
    "is_calibrated",
    "is_open_at_first_use",
    "is_segmentation",
    "load_predictor",
    "lone_key",
    "machine",
    "open_at_first_use",
    "openvino_core",
    "other_modality",
    "own_calibration",
    "parse_bytes",
    "peak_memory",
    "processor",
    "read_grid",
    "read_image",
    "read_images",
    "root_error",
    "runs_bf16",
    "seconds_a_window",
    "sliding_window",
    "tell_sizes",
    "unlike_own_days",
    "usable_cores",
    "with_own_calibration",
    "worker_device",
    "write_labels",
    "write_prediction",
    "write_priors",
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
        "volseg.inference.arrays": (
            "AUTO_PRECISION",
            "ArrayPredictor",
            "PackedWindows",
            "array_predictor",
            "compared_precision",
            "parse_bytes",
        ),
        "volseg.inference.cores": (
            "device_name",
            "instructions",
            "processor",
            "usable_cores",
        ),
        "volseg.inference.engines": (
            "CompiledEngine",
            "Convolutions",
            "ENGINES",
            "EXPORTED",
            "EXPORTED_INT8",
            "Engine",
            "PRECISIONS",
            "ParallelWindows",
            "MixedPrecision",
            "OpenVinoEngine",
            "TorchEngine",
            "WORTH_A_TRIAL_S",
            "WORTH_COMPILING_S",
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
            "runs_bf16",
            "seconds_a_window",
            "worker_device",
        ),
        "volseg.inference.ensemble": (
            "check_members",
            "flip_axes",
        ),
        "volseg.inference.words": ("check_words",),
        "volseg.inference.region_of_interest": ("RegionOfInterest",),
        "volseg.labels": (
            "channel_order",
            "fold_channel",
        ),
        "volseg.transforms": ("PriorFiles",),
        "volseg.inference.file_names": (
            "NIFTI",
            "channel_number",
            "group_files",
            "image_stem",
            "is_segmentation",
            "lone_key",
        ),
        "volseg.inference.inputs": (
            "find_inputs",
            "input_cohort",
        ),
        "volseg.inference.outputs": (
            "check_apart",
            "check_output",
        ),
        "volseg.inference.reading": (
            "count_windows",
            "read_grid",
            "read_image",
            "read_images",
        ),
        "volseg.inference.lazy_monai": ("is_open_at_first_use", "open_at_first_use"),
        "volseg.inference.modality": ("other_modality",),
        "volseg.inference.predictor": ("Predictor",),
        "volseg.inference.priors": (
            "PRIORS",
            "PriorRow",
            "PriorSource",
            "find_priors",
            "unlike_own_days",
            "write_priors",
        ),
        "volseg.inference.sizes": ("tell_sizes",),
        "volseg.inference.sliding": (
            "SlidingWindow",
            "sliding_window",
        ),
        "volseg.inference.calibrated": ("is_calibrated",),
        "volseg.inference.cascade": (
            "AnyPredictor",
            "CascadePredictor",
            "load_predictor",
            "own_calibration",
            "with_own_calibration",
        ),
    }
)
