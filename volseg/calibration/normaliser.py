"""Normalisers: what is expected of an error from the numbers of a prediction, so that one quantile fits all cases.

A normaliser is chosen and fitted on some of the patients; the quantiles come from the others. Then the scores of the
others and that of a new patient are exchangeable whatever was chosen, and the bound keeps its probability.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.calibration.conformal import attainable_level, patient_quantile
from volseg.calibration.features import REGION_FEATURES, Features

FEWEST_TO_CHOOSE = 80
"""Patients of a region from which a quarter is set apart to choose the normaliser; with fewer the default is taken."""

NORMALISER_DEFINITION = (
    "Normaliser = what is expected of the error (1 - Dice, the logarithm of the volume ratio, the margin) from the "
    f"numbers of a prediction. With {FEWEST_TO_CHOOSE} patients of a region or more, a quarter of them, drawn by a "
    "hash of their names, fits all candidates: none, expected Dice, a line and a line with a scale in each number. The "
    "one with the lowest quantile (pinball) loss in five folds of that quarter is taken, if it gains more than one "
    "standard error over the default. The quantile comes from the other patients alone."
)
_SHARE_TO_CHOOSE = 4
_FOLDS = 5
_LEAST_SCALE = 0.25  # of the mean scale


@dataclass(frozen=True)
class Normaliser:
    """A line in the features for the centre of an error, and one for its scale.

    Attributes:
        name: Name of the candidate.
        centre: Coefficients by feature; the constant is named `1`.
        scale: The same for the scale; empty for a scale of 1.
        least_scale: Smallest scale.

    >>> Normaliser("expected_loss", {"expected_loss": 1.0}).bound({"expected_loss": 0.1}, 0.05)
    0.15000000000000002
    """

    name: str
    centre: Mapping[str, float] = field(default_factory=dict)
    scale: Mapping[str, float] = field(default_factory=dict)
    least_scale: float = 1.0

    def score(self, error: float, features: Features) -> float:
        """The normalised error."""
        return (error - _line(self.centre, features)) / self._scale(features)

    def bound(self, features: Features, quantile: float) -> float:
        """The error that a quantile of the scores stands for."""
        return _line(self.centre, features) + quantile * self._scale(features)

    def _scale(self, features: Features) -> float:
        return max(_line(self.scale, features), self.least_scale) if self.scale else 1.0

    def to_json(self) -> dict[str, Any]:
        """The attributes by name."""
        return {
            "name": self.name,
            "centre": dict(self.centre),
            "scale": dict(self.scale),
            "least_scale": self.least_scale,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Normaliser:
        """The inverse of `to_json`."""
        centre, scale = ({str(k): float(v) for k, v in content[part].items()} for part in ("centre", "scale"))
        return cls(str(content["name"]), centre, scale, float(content["least_scale"]))


EXPECTED = Normaliser("expected Dice", {"expected_loss": 1.0})
"""The default for 1 - Dice: the error that the network expects, and the same tolerance for all."""

NONE = Normaliser("none")
"""The default for volumes: one quantile for all."""

NEARLY_NONE = Normaliser("1 + expected loss", scale={"1": 1.0, "expected_loss": 1.0}, least_scale=1.0)
"""The default for margins: nearly one for all, but without the ties of distances that come in steps of the grid."""


def set_apart(patients: Sequence[str]) -> frozenset[str]:
    """The patients that choose the normaliser: a quarter by a hash of their names, none below `FEWEST_TO_CHOOSE`.

    >>> len(set_apart([f"p{number}" for number in range(80)])), len(set_apart(["a", "b"]))
    (20, 0)
    """
    names = sorted(set(patients), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return frozenset(names[: len(names) // _SHARE_TO_CHOOSE]) if len(names) >= FEWEST_TO_CHOOSE else frozenset()


def choose_normaliser(
    errors: Sequence[float], features: Sequence[Features], patients: Sequence[str], *, level: float, default: Normaliser
) -> Normaliser:
    """The normaliser of the lowest pinball loss in folds by patient, or the default unless that gains clearly.

    Args:
        errors: Error of each case; infinite ones are left out.
        features: Features of each case.
        patients: Patient of each case.
        level: Probability of the bound.
        default: Normaliser that others must beat by more than one standard error.
    """
    cases = [case for case in zip(errors, features, patients, strict=True) if np.isfinite(case[0])]
    names = sorted({patient for _, _, patient in cases}, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    if len(names) < 2 * _FOLDS:
        return default
    fold_of = {name: number % _FOLDS for number, name in enumerate(names)}
    losses = {}
    makers = _makers(default)
    for name, make in makers.items():
        by_patient: dict[str, list[float]] = {}
        for fold in range(_FOLDS):
            fitted = [case for case in cases if fold_of[case[2]] != fold]
            held = [case for case in cases if fold_of[case[2]] == fold]
            normaliser = make(fitted)
            scores = [normaliser.score(error, numbers) for error, numbers, _ in fitted]
            of_scores = [patient for *_, patient in fitted]
            quantile = patient_quantile(scores, of_scores, attainable_level(len(set(of_scores)), level))
            for error, numbers, patient in held:
                gap = error - normaliser.bound(numbers, quantile)
                by_patient.setdefault(patient, []).append(level * gap if gap > 0 else (level - 1) * gap)
        losses[name] = np.array([np.mean(by_patient[patient]) for patient in names])
    best = min(losses, key=lambda name: float(losses[name].mean()))
    gain = losses[default.name] - losses[best]
    if not gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
        return default
    return makers[best](cases)


_Cases = Sequence[tuple[float, Features, str]]


def _makers(default: Normaliser) -> dict[str, Callable[[_Cases], Normaliser]]:
    """The candidates by name: a function of the cases that they are fitted on."""
    makers: dict[str, Callable[[_Cases], Normaliser]] = {default.name: lambda _: default}
    makers |= {one.name: (lambda _, one=one: one) for one in (NONE, EXPECTED) if default is not NEARLY_NONE}  # type: ignore[misc]
    for name in REGION_FEATURES:
        makers[f"line in {name}"] = lambda cases, name=name: _fitted(cases, [name], scaled=False)  # type: ignore[misc]
        makers[f"line and scale in {name}"] = lambda cases, name=name: _fitted(  # type: ignore[misc]
            cases, [name], scaled=True
        )
    makers["line in all"] = lambda cases: _fitted(cases, list(REGION_FEATURES), scaled=False)
    return makers


def _fitted(cases: _Cases, names: Sequence[str], *, scaled: bool) -> Normaliser:
    """A line by least squares, slightly drawn to the mean; and one through the absolute residuals."""
    table = np.array([[numbers[name] for name in names] for _, numbers, _ in cases])
    errors = np.array([error for error, _, _ in cases])
    kind = "line and scale in" if scaled else "line in"
    label = f"{kind} {names[0] if len(names) == 1 else 'all'}"
    centre = _least_squares(table, errors, names)
    if not scaled:
        return Normaliser(label, centre)
    residuals = np.abs(errors - np.array([_line(centre, numbers) for _, numbers, _ in cases]))
    return Normaliser(
        label, centre, _least_squares(table, residuals, names), max(_LEAST_SCALE * float(residuals.mean()), 1e-6)
    )


def _least_squares(table: NDArray[np.float64], values: NDArray[np.float64], names: Sequence[str]) -> dict[str, float]:
    middle, width = table.mean(axis=0), np.maximum(table.std(axis=0), 1e-9)
    standard = (table - middle) / width
    ridge = np.eye(len(names))  # one case's worth of evidence that nothing matters
    slopes = np.linalg.solve(standard.T @ standard + ridge, standard.T @ (values - values.mean())) / width
    constant = float(values.mean() - slopes @ middle)
    return {"1": constant, **{name: float(slope) for name, slope in zip(names, slopes, strict=True)}}


def _line(coefficients: Mapping[str, float], features: Features) -> float:
    return sum(slope * (1.0 if name == "1" else features[name]) for name, slope in coefficients.items())
