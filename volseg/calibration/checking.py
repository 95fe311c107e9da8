"""The promise checked within a calibration: patients left out by turns, and how often their bounds held."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from volseg.calibration.region import Case, calibrate_region

_FOLDS = 5
_FEWEST = 20  # patients below which nothing can be said about coverage


def check_region(cases: Sequence[Case], *, level: float) -> dict[str, Any]:
    """The coverage of the bounds of patients that are left out, a fifth at a time; empty below 20 patients.

    Every choice is made again without them. Each patient has the same weight.

    Args:
        cases: Patient and measured region of each case.
        level: Probability that is asked for.

    Returns:
        `answered`, the share of cases whose bound is not withheld; of these `dice`, `volume` and `margin`, the share of
        cases whose bound holds; `slack`, the mean of the true Dice less its bound; and the medians of the bound of Dice
        and of the margin in mm.
    """
    found = [case for case in cases if case[1].found]
    names = sorted({patient for patient, _ in found}, key=lambda name: hashlib.sha256(f"{name} ".encode()).hexdigest())
    if len(names) < _FEWEST:
        return {}
    fold_of = {name: number % _FOLDS for number, name in enumerate(names)}
    cases_of = Counter(patient for patient, _ in found)
    told: dict[str, list[tuple[float, float]]] = {}
    bounds, margins = [], []
    for fold in range(_FOLDS):
        calibration = calibrate_region([case for case in found if fold_of[case[0]] != fold], level=level)
        for patient, one in found:
            if fold_of[patient] != fold:
                continue
            weight = 1 / cases_of[patient]
            given = calibration.bounds(one.features)
            told.setdefault("answered", []).append((weight, float(not given.withheld)))
            if given.withheld or given.dice_at_least is None:
                continue
            low, high = given.ml_low or 0.0, math.inf if given.ml_high is None else given.ml_high
            bounds.append(given.dice_at_least)
            for name, value in (
                ("dice", float(one.dice >= given.dice_at_least)),
                ("volume", float(low <= one.reference_ml <= high)),
                ("slack", one.dice - given.dice_at_least),
            ):
                told.setdefault(name, []).append((weight, value))
            if given.margin_mm is not None:  # else nothing is promised that could hold
                margins.append(given.margin_mm)
                told.setdefault("margin", []).append((weight, float(one.margin_mm <= given.margin_mm)))
    facts: dict[str, Any] = {}
    for name, pairs in told.items():
        weights, values = np.array(pairs).T
        facts[name] = round(float(np.average(values, weights=weights)), 4)
    if bounds:
        facts["median_bound"] = round(float(np.median(bounds)), 4)
        facts["median_margin_mm"] = round(float(np.median(margins)), 2) if margins else None
    return facts
