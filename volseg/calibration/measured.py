"""What is measured of a case that has a reference: features, and what the prediction turned out to be worth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from volseg.calibration.features import Features
from volseg.metrics import Mask, dice, margin_to_contain


@dataclass(frozen=True)
class MeasuredRegion:
    """One region of a case.

    Attributes:
        features: Numbers of the prediction, see `REGION_FEATURES`; empty if nothing was predicted.
        dice: Dice with the reference; NaN if both are empty.
        predicted_ml: Volume of the prediction in ml.
        reference_ml: Volume of the reference in ml.
        margin_mm: Margin that contains the whole reference; infinite if nothing was predicted of it, or if the axes
            are not at right angles.
    """

    features: Features
    dice: float
    predicted_ml: float
    reference_ml: float
    margin_mm: float

    @property
    def found(self) -> bool:
        """Whether something was predicted."""
        return self.predicted_ml > 0

    @property
    def missed(self) -> bool:
        """Whether the reference has the region and the prediction no voxel of it."""
        return self.reference_ml > 0 and not self.dice > 0


@dataclass(frozen=True)
class MeasuredCase:
    """A case with all its regions.

    Attributes:
        key: Key of the case; it is in no file.
        patient: Patient of the case; it is in no file.
        scan: Numbers of the scan, see `SCAN_FEATURES`.
        regions: Measured regions by name.
    """

    key: str
    patient: str
    scan: Features = field(default_factory=dict)
    regions: Mapping[str, MeasuredRegion] = field(default_factory=dict)


def measure_region(
    prediction: Mask,
    reference: Mask,
    *,
    spacing_mm: tuple[float, float, float] | None,
    features: Features,
    voxel_ml: float | None = None,
) -> MeasuredRegion:
    """Compare the masks (X, Y, Z) of a region.

    Args:
        prediction: Mask of the prediction.
        reference: Mask of the reference, on the same grid.
        spacing_mm: Spacing in mm along X, Y, Z; None if the axes are not at right angles, where it gives no distance:
            the margin is infinite then, as one that nothing is known of.
        features: Numbers of the prediction.
        voxel_ml: Volume of a voxel in ml; None (the default) for that of the spacing.

    >>> mask = np.ones((2, 2, 2), bool)
    >>> measure_region(mask, mask, spacing_mm=None, features={}, voxel_ml=0.5)
    MeasuredRegion(features={}, dice=1.0, predicted_ml=4.0, reference_ml=4.0, margin_mm=inf)
    """
    if voxel_ml is None:
        voxel_ml = math.nan if spacing_mm is None else math.prod(spacing_mm) / 1000
    return MeasuredRegion(
        features,
        dice(prediction, reference),
        int(np.count_nonzero(prediction)) * voxel_ml,
        int(np.count_nonzero(reference)) * voxel_ml,
        math.inf if spacing_mm is None else margin_to_contain(prediction, reference, spacing_mm),
    )
