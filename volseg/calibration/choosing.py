"""The decision that each region deserves: the largest expected Dice where that gains on out-of-fold predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from volseg.metrics import holm, mean_interval, signed_rank_p

SIGNIFICANT = 0.05

AUTO_DEFINITION = (
    "Auto = a region is decided for the largest expected Dice of its probabilities after their scaling (a temperature "
    "and a shift), if the Dice of out-of-fold predictions gains by it: mean gain by patient above 0, p below "
    f"{SIGNIFICANT} in a signed-rank test by patient, corrected over the regions (Holm). Every other region keeps "
    "exactly the voxels of the threshold."
)

DicePairs = Sequence[tuple[str, float, float]]
"""Patient, Dice of the threshold, and Dice of the other decision, of each case; NaN where both masks are empty."""


def choose_rules(pairs: Mapping[str, DicePairs]) -> dict[str, dict[str, Any]]:
    """The facts of the choice by region; `rule` is `threshold` or `dice`.

    Args:
        pairs: Cases of each region.

    >>> gains = [(f"p{number}", 0.5, 0.6) for number in range(8)]
    >>> choose_rules({"a": gains, "b": [(patient, dice, plain) for patient, plain, dice in gains]})["a"]["rule"]
    'dice'
    """
    facts: dict[str, dict[str, Any]] = {}
    for name, cases in pairs.items():
        held = [case for case in cases if math.isfinite(case[1]) and math.isfinite(case[2])]
        by_patient: dict[str, list[float]] = {}
        for patient, plain, other in sorted(held):
            by_patient.setdefault(patient, []).append(other - plain)
        gains = [float(np.mean(values)) for values in by_patient.values()]
        interval = mean_interval(gains, list(by_patient))
        facts[name] = {
            "rule": "threshold",
            "patients": len(gains),
            "dice_of_threshold": _number(np.mean([plain for _, plain, _ in held]) if held else math.nan),
            "dice_of_dice": _number(np.mean([other for *_, other in held]) if held else math.nan),
            "gain": _number(interval.mean),
            "gain_interval": [_number(interval.low), _number(interval.high)],
            "p": signed_rank_p(gains) if gains else math.nan,
        }
    for one, p in zip(facts.values(), holm([one["p"] for one in facts.values()]), strict=True):
        one["p"] = _number(p)
        if one["gain"] is not None and one["gain"] > 0 and p < SIGNIFICANT:
            one["rule"] = "dice"
    return facts


def _number(value: float | np.floating[Any]) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None
