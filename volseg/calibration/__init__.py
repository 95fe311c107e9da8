"""Calibration: what out-of-fold predictions say about a network, and the bounds that it may promise."""

from __future__ import annotations

from volseg.calibration.choosing import AUTO_DEFINITION, choose_rules
from volseg.calibration.conformal import CONFORMAL_DEFINITION, attainable_level, patient_quantile
from volseg.calibration.features import REGION_FEATURES, region_features
from volseg.calibration.measured import MeasuredCase, MeasuredRegion, measure_region
from volseg.calibration.normaliser import NORMALISER_DEFINITION, Normaliser, choose_normaliser, set_apart
from volseg.calibration.ranges import COMPARABLE_DEFINITION, learn_ranges, outside
from volseg.calibration.reading import HeldOut, calibrate, choose_decisions, count_probabilities, measure_cases
from volseg.calibration.record import (
    CALIBRATION,
    CALIBRATION_SCHEMA,
    LEVEL,
    Calibration,
    find_calibration,
    fit_calibration,
    read_calibration,
)
from volseg.calibration.region import RegionCalibration, calibrate_region
from volseg.calibration.scan import SCAN_FEATURES, scan_features

__all__ = [
    "AUTO_DEFINITION",
    "CALIBRATION",
    "CALIBRATION_SCHEMA",
    "COMPARABLE_DEFINITION",
    "CONFORMAL_DEFINITION",
    "LEVEL",
    "NORMALISER_DEFINITION",
    "REGION_FEATURES",
    "SCAN_FEATURES",
    "Calibration",
    "HeldOut",
    "MeasuredCase",
    "MeasuredRegion",
    "Normaliser",
    "RegionCalibration",
    "attainable_level",
    "calibrate",
    "calibrate_region",
    "choose_decisions",
    "choose_normaliser",
    "choose_rules",
    "count_probabilities",
    "find_calibration",
    "fit_calibration",
    "learn_ranges",
    "measure_cases",
    "measure_region",
    "outside",
    "patient_quantile",
    "read_calibration",
    "region_features",
    "scan_features",
    "set_apart",
]
