"""Prediction on plain arrays: the steps of volseg's own bundles without MONAI, and with OpenVINO without PyTorch."""

from __future__ import annotations

from volseg.inference.arrays.choice import array_predictor
from volseg.inference.arrays.memory import parse_bytes
from volseg.inference.arrays.network import PackedWindows
from volseg.inference.arrays.packed import AUTO_PRECISION, compared_precision
from volseg.inference.arrays.predictor import ArrayPredictor

__all__ = [
    "AUTO_PRECISION",
    "ArrayPredictor",
    "PackedWindows",
    "array_predictor",
    "compared_precision",
    "parse_bytes",
]
