"""MONAI transforms between a case's files and a network: reading, resampling, targets, decision, native grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volseg import names_of_before, opened_at_first_use

if TYPE_CHECKING:
    from volseg.transforms.decision import MeasureRegion, with_decision, with_measure
    from volseg.transforms.file_header import affine_of_file
    from volseg.transforms.intensity import (
        CONSTANT,
        NormaliseIntensityd,
        constant_channels,
        normalise_,
        split_at_normalisation,
    )
    from volseg.transforms.label_grid import OnGridOfd
    from volseg.transforms.native_grid import NativeProbabilitiesd
    from volseg.transforms.noise import noise_case
    from volseg.transforms.pipelines import augmentation, grid_patches, postprocessing, preprocessing, region_masks
    from volseg.transforms.prior import CORRECTED, FOREIGN, PREDICTED, PriorFiles, prior_arrays, prior_distances
    from volseg.transforms.rules import DECISIONS, Decision, check_decision
    from volseg.transforms.targets import IGNORED, positions_of

__all__ = [
    "CONSTANT",
    "CORRECTED",
    "DECISIONS",
    "FOREIGN",
    "IGNORED",
    "PREDICTED",
    "Decision",
    "MeasureRegion",
    "NativeProbabilitiesd",
    "NormaliseIntensityd",
    "OnGridOfd",
    "PriorFiles",
    "affine_of_file",
    "augmentation",
    "check_decision",
    "constant_channels",
    "grid_patches",
    "noise_case",
    "normalise_",
    "positions_of",
    "postprocessing",
    "preprocessing",
    "prior_arrays",
    "prior_distances",
    "region_masks",
    "split_at_normalisation",
    "with_decision",
    "with_measure",
]

# A command line that only names a rule of the decision loads neither PyTorch nor MONAI.
_open = opened_at_first_use(
    {
        "volseg.transforms.decision": (
            "MeasureRegion",
            "with_decision",
            "with_measure",
        ),
        "volseg.transforms.file_header": ("affine_of_file",),
        "volseg.transforms.intensity": (
            "CONSTANT",
            "NormaliseIntensityd",
            "constant_channels",
            "normalise_",
            "split_at_normalisation",
        ),
        "volseg.transforms.label_grid": ("OnGridOfd",),
        "volseg.transforms.native_grid": ("NativeProbabilitiesd",),
        "volseg.transforms.noise": ("noise_case",),
        "volseg.transforms.pipelines": (
            "augmentation",
            "grid_patches",
            "postprocessing",
            "preprocessing",
            "region_masks",
        ),
        "volseg.transforms.prior": (
            "CORRECTED",
            "FOREIGN",
            "PREDICTED",
            "PriorFiles",
            "prior_arrays",
            "prior_distances",
        ),
        "volseg.transforms.targets": ("IGNORED", "positions_of"),
        "volseg.transforms.rules": (
            "DECISIONS",
            "Decision",
            "check_decision",
        ),
    }
)
_before = names_of_before(__name__)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any name of the room
    return _open(name) if name in __all__ else _before(name)
