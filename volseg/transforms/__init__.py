"""MONAI transforms between a case's files and a network: reading, resampling, targets, decision, native grid."""

from __future__ import annotations

from volseg import names_of_before
from volseg.transforms.decision import DECISIONS, Decision, MeasureRegion, check_decision, with_decision, with_measure
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
from volseg.transforms.targets import IGNORED

__all__ = [
    "CONSTANT",
    "DECISIONS",
    "IGNORED",
    "Decision",
    "MeasureRegion",
    "NativeProbabilitiesd",
    "NormaliseIntensityd",
    "OnGridOfd",
    "affine_of_file",
    "augmentation",
    "check_decision",
    "constant_channels",
    "grid_patches",
    "noise_case",
    "normalise_",
    "postprocessing",
    "preprocessing",
    "region_masks",
    "split_at_normalisation",
    "with_decision",
    "with_measure",
]

__getattr__ = names_of_before(__name__)
