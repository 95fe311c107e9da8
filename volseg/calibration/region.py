"""The calibration of one region: quantiles of the errors of patients out of fold, and the bounds that they give."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from volseg.calibration.conformal import attainable_level, patient_quantile
from volseg.calibration.features import Features
from volseg.calibration.measured import MeasuredRegion
from volseg.calibration.normaliser import EXPECTED, NEARLY_NONE, NONE, Normaliser, choose_normaliser, set_apart
from volseg.calibration.ranges import learn_ranges, outside
from volseg.cohort import RegionBounds
from volseg.metrics import Scaling

MISSED_DEFINITION = (
    "Missed = probability that the reference has the region and the prediction no voxel of it: the share of calibrated "
    "patients, with half a patient added (Jeffreys), apart for predictions that hold the region and those that do not."
)
VOLUME_DEFINITION = (
    "Interval of the volume = the predicted volume times a factor: the quantile of the absolute logarithm of "
    "(reference + 5 % of the prediction) over 105 % of the prediction, so that an empty reference has a place too."
)
_SHIFT = 0.05  # of the predicted volume

Case = tuple[str, MeasuredRegion]
"""A patient and a measured region."""

Error = Callable[[MeasuredRegion], float]
"""An error of a measured region, which a bound is of."""


@dataclass(frozen=True)
class Quantile:
    """The quantile of one error.

    Attributes:
        normaliser: Normaliser of the errors.
        value: Quantile of the normalised errors; infinite if the patients cannot give the level.
        centre: Middle of the errors before their absolute value is taken; of volumes.
    """

    normaliser: Normaliser
    value: float
    centre: float = 0.0

    def bound(self, features: Features) -> float:
        """The error that is not exceeded; infinite without a quantile."""
        return self.normaliser.bound(features, self.value) if math.isfinite(self.value) else math.inf

    def to_json(self) -> dict[str, Any]:
        """The attributes by name; null for an infinite value."""
        value = self.value if math.isfinite(self.value) else None
        return {"normaliser": self.normaliser.to_json(), "quantile": value, "centre": self.centre}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Quantile:
        """The inverse of `to_json`."""
        value = math.inf if content["quantile"] is None else float(content["quantile"])
        return cls(Normaliser.from_json(content["normaliser"]), value, float(content["centre"]))


@dataclass(frozen=True)
class RegionCalibration:
    """The calibration of a region.

    Attributes:
        level: Probability of the bounds.
        patients: Patients behind the quantiles, whose prediction holds the region.
        cases: Their cases.
        set_apart: Patients that chose the normalisers.
        dice, volume, margin: Quantiles.
        missed_found, missed_empty: Missed and all patients, where something and where nothing was predicted.
        ranges: Comparable ranges of the features.
        temperature: Temperature of the probabilities, for the features.
        scaling: Correction of the probabilities for the decision.
        decision: Facts of the choice between a threshold and the largest expected Dice; `rule` is what was chosen.
        checked: Facts of a cross-validation of the bounds within the calibration.
    """

    level: float
    patients: int
    cases: int
    set_apart: int
    dice: Quantile
    volume: Quantile
    margin: Quantile
    missed_found: tuple[float, int]
    missed_empty: tuple[float, int]
    ranges: Mapping[str, tuple[float, float]]
    temperature: float = 1.0
    scaling: Scaling = field(default_factory=Scaling)
    decision: Mapping[str, Any] = field(default_factory=lambda: {"rule": "threshold"})
    checked: Mapping[str, Any] = field(default_factory=dict)

    def bounds(self, features: Features) -> RegionBounds:
        """The bounds of a prediction, or the reason why they are withheld.

        Args:
            features: Numbers of the prediction; empty if nothing was predicted.
        """
        if not self.patients:
            return RegionBounds(not_comparable="no calibrated patient has a prediction of this region")
        if not features:
            return RegionBounds(dice_at_least=0.0, missed=_share(self.missed_empty), level=self.level)
        if reason := outside(features, self.ranges):
            return RegionBounds(not_comparable=reason)
        ml, spread = math.exp(features["log_ml"]), self.volume.bound(features)
        ends: list[float | None] = [0.0, None]
        if math.isfinite(spread):
            low, high = sorted(math.exp(self.volume.centre + side * max(spread, 0.0)) for side in (-1, 1))
            ends = [max(0.0, ml * ((1 + _SHIFT) * end - _SHIFT)) for end in (low, high)]
        margin = self.margin.bound(features)
        return RegionBounds(
            dice_at_least=float(min(1.0, max(0.0, 1 - self.dice.bound(features)))),
            ml_low=ends[0],
            ml_high=ends[1],
            margin_mm=float(max(0.0, margin)) if math.isfinite(margin) else None,
            missed=_share(self.missed_found),
            level=self.level,
        )


def calibrate_region(cases: Sequence[Case], *, level: float) -> RegionCalibration:
    """Calibrate one region by its measured cases; the order of the cases does not matter.

    Args:
        cases: Patient and measured region of each case.
        level: Probability that is asked for, between 0 and 1.
    """
    found = sorted(((patient, one) for patient, one in cases if one.found), key=_order)
    apart = set_apart([patient for patient, _ in found])
    choosing = [case for case in found if case[0] in apart]
    counted = [case for case in found if case[0] not in apart]
    patients = len({patient for patient, _ in counted})
    attained = attainable_level(patients, level) if patients else level
    centre = float(np.median([_log_ratio(one) for _, one in choosing])) if choosing else 0.0

    def quantile(error: Error, default: Normaliser) -> Quantile:
        return _quantile(choosing, counted, error, level=attained, default=default)

    return RegionCalibration(
        level=attained,
        patients=patients,
        cases=len(counted),
        set_apart=len(apart),
        dice=quantile(dice_loss, EXPECTED),
        volume=replace(quantile(lambda one: abs(_log_ratio(one) - centre), NONE), centre=centre),
        margin=quantile(lambda one: one.margin_mm, NEARLY_NONE),
        missed_found=_missed([case for case in cases if case[1].found]),
        missed_empty=_missed([case for case in cases if not case[1].found]),
        ranges=learn_ranges([one.features for _, one in found]),
    )


def dice_loss(one: MeasuredRegion) -> float:
    """1 - Dice, the error that the bound of Dice is of."""
    return 1 - one.dice


def _log_ratio(one: MeasuredRegion) -> float:
    return math.log((one.reference_ml + _SHIFT * one.predicted_ml) / ((1 + _SHIFT) * one.predicted_ml))


def _quantile(
    choosing: Sequence[Case], counted: Sequence[Case], error: Error, *, level: float, default: Normaliser
) -> Quantile:
    normaliser = default
    if choosing:
        normaliser = choose_normaliser(
            [error(one) for _, one in choosing],
            [one.features for _, one in choosing],
            [patient for patient, _ in choosing],
            level=level,
            default=default,
        )
    if not counted:
        return Quantile(normaliser, math.inf)
    scores = [normaliser.score(error(one), one.features) for _, one in counted]
    return Quantile(normaliser, patient_quantile(scores, [patient for patient, _ in counted], level))


def _missed(cases: Sequence[Case]) -> tuple[float, int]:
    """Missed patients, of which one with several cases may count in part, and all."""
    counts = Counter(patient for patient, _ in cases)
    return math.fsum(one.missed / counts[patient] for patient, one in cases), len(counts)


def _share(counts: tuple[float, int]) -> float:
    missed, patients = counts
    return (missed + 0.5) / (patients + 1)


def _order(case: Case) -> tuple[Any, ...]:
    """An order that does not depend on that of the files."""
    patient, one = case
    return patient, one.predicted_ml, one.reference_ml, one.dice, one.margin_mm, *sorted(one.features.items())
