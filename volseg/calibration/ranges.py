"""Comparable or not: whether the numbers of a scan lie within what the calibration has seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

Ranges = Mapping[str, tuple[float, float]]
"""Lowest and highest comparable value of each feature by its name."""

COMPARABLE_DEFINITION = (
    "Comparable = each number of the scan (spacing, field of view, intensities) and of the prediction (expected Dice, "
    "entropy at the surface, doubt, volume) lies within the range of the calibrated patients, widened on both sides by "
    "1.4826 times their median absolute deviation, and by a least amount where they are alike; a prediction that is "
    "surer than theirs is comparable. Otherwise no bound is given, and the reason is."
)
_MAD_TO_SIGMA = 1.4826
# Smallest widening, so that a cohort whose cases are all alike does not withhold every other.
_FLOORS = {"spacing": 0.1, "extent": 0.15, "range": 0.15, "rough": 0.1, "log_ml": 0.15}
_FLOOR = 0.02
# Features of which a low value is better than usual, not another kind of image.
_ONE_SIDED = ("expected_loss", "surface_entropy", "doubt")

_WORDS = {
    "spacing": "the spacing is {value:.3g} mm along {axis}, calibrated {low:.3g} to {high:.3g} mm",
    "extent": "the field of view is {value:.3g} mm along {axis}, calibrated {low:.3g} to {high:.3g} mm",
    "range": "the intensities span {value:.3g}, calibrated {low:.3g} to {high:.3g}",
    "log_ml": "the predicted volume is {value:.3g} ml, calibrated {low:.3g} to {high:.3g} ml",
    "rough": "the noise or blur along {axis} is {value:.3g} of the range, calibrated {low:.3g} to {high:.3g}",
    "middle": "the median intensity lies at {value:.2f} of the range, calibrated {low:.2f} to {high:.2f}",
    "lowest": "{value:.2f} of the voxels have the lowest value, calibrated {low:.2f} to {high:.2f}",
    "uneven": "the unevenness of the intensities is {value:.3f}, calibrated {low:.3f} to {high:.3f}",
    "tilt": "the intensities change by {value:.3f} along {axis}, calibrated {low:.3f} to {high:.3f}",
    "expected_loss": "the expected Dice is {left:.3f}, calibrated from {least:.3f} on",
    "surface_entropy": "the entropy at the surface is {value:.3f} bits, calibrated up to {high:.3f}",
    "doubt": "the doubtful share of the volume is {value:.3f}, calibrated up to {high:.3f}",
}
_LOGARITHMS = ("spacing", "extent", "range", "log_ml", "rough")


def learn_ranges(cases: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """The comparable range of each feature that some case has.

    It is a symmetric function of the cases, so that a scan of a patient that is exchangeable with theirs is withheld
    rarely, and a bound that is given and wrong is no more frequent than a bound that is wrong.

    Args:
        cases: Features of each case by name.

    >>> ranges = learn_ranges([{"middle": 0.4}, {"middle": 0.5}, {"middle": 0.6}])
    >>> [round(end, 3) for end in ranges["middle"]]
    [0.252, 0.748]
    """
    found = {}
    for name in dict.fromkeys(name for case in cases for name in case):
        values = np.array([case[name] for case in cases if name in case])
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        floor = _FLOORS.get(name.split()[0], _FLOOR)
        wider = max(_MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values)))), floor)
        found[name] = (float(values.min()) - wider, float(values.max()) + wider)
    return found


def outside(values: Mapping[str, float], ranges: Ranges) -> str:
    """The reason why a scan is not comparable, by the feature that is farthest outside; empty if it is.

    Args:
        values: Features by name.
        ranges: Ranges from `learn_ranges`.

    >>> outside({"spacing z": math.log(5.0)}, {"spacing z": (math.log(0.9), math.log(1.1))})
    'the spacing is 5 mm along z, calibrated 0.9 to 1.1 mm'
    """
    worst, reason = 0.0, ""
    for name, (low, high) in ranges.items():
        value = values.get(name)
        if value is None:
            continue
        above = value - high
        below = low - value if name.split()[0] not in _ONE_SIDED else -math.inf
        beyond = max(above, below) / max(high - low, 1e-12)
        if not beyond <= worst:  # a value that is no number counts as outside
            worst, reason = beyond, _told(name, value, low, high)
    return reason


def _told(name: str, value: float, low: float, high: float) -> str:
    feature, *more = name.split()
    axis = more[-1] if more and not more[-1].isdigit() else ""
    if feature in _LOGARITHMS:
        value, low, high = math.exp(value), math.exp(low), math.exp(high)
    told = _WORDS[feature].format(value=value, low=low, high=high, axis=axis, left=1 - value, least=1 - high)
    channel = next((word for word in more if word.isdigit()), "0")
    return told if channel == "0" else f"channel {channel}: {told}"
