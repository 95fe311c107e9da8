"""Measured cases made by code: errors and features of patients whose distribution is known."""

from __future__ import annotations

import numpy as np

from volseg.calibration import MeasuredCase, MeasuredRegion

REGION = "organ"


def measured_case(generator: np.random.Generator, patient: str, *, day: int = 0, bad: float = 0.0) -> MeasuredCase:
    """One case: an error that the features partly tell; `bad` is what all days of a patient share."""
    expected = float(np.clip(generator.normal(0.1, 0.02), 0.01, 0.9))
    loss = float(np.clip(expected + generator.gamma(2, 0.02) + bad, 0, 1))
    ml = float(np.exp(generator.normal(1, 0.2)))
    features = {
        "expected_loss": expected,
        "surface_entropy": 5 * expected + float(generator.normal(0, 0.02)),
        "doubt": 2 * expected,
        "log_ml": float(np.log(ml)),
    }
    reference = ml * float(np.exp(generator.normal(0.02, 0.1)))
    region = MeasuredRegion(features, 1 - loss, ml, reference, float(generator.gamma(3, 0.8)))
    return MeasuredCase(
        f"{patient}_day{day}", patient, {"middle 0": float(generator.normal(0.5, 0.05))}, {REGION: region}
    )


def measured_cases(count: int, *, seed: int = 0) -> list[MeasuredCase]:
    """Cases of as many patients."""
    generator = np.random.default_rng(seed)
    return [measured_case(generator, f"patient{number:04d}") for number in range(count)]
