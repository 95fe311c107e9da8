"""Promises checked: how often the bounds of a calibrated network held, where references exist."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from volseg.cohort import Bounds
from volseg.evaluation.scores import RegionScores
from volseg.metrics import Interval, share_interval

PROMISE_DEFINITION = (
    "Coverage = share of the patients for whom a bound held, a patient with several cases by the share of them; in "
    "brackets its 95 % interval (Clopper and Pearson 1934). It should not lie below the promised probability. Slack = "
    "mean of the true Dice less its bound. Cases with voxels of the label 'ignore' are left out, since a promise is of "
    "the whole region."
)

_ROUNDING_MM = 1e-4  # uncertainty.csv holds six digits


@dataclass(frozen=True)
class PromiseCheck:
    """How the bounds of one region held.

    Attributes:
        region: Name of the region.
        level: Promised probability, the lowest of the cases.
        answered: Number of cases with a bound.
        withheld: Number of cases whose bound was withheld.
        dice: Coverage of the lower bound of Dice.
        volume: Coverage of the interval of the volume.
        margin: Coverage of the margin: shares of cases in which it contained the whole reference.
        slack: Mean of the true Dice less its bound.
        median_margin_mm: Median of the margins given, in mm; NaN without one.
    """

    region: str
    level: float
    answered: int
    withheld: int
    dice: Interval
    volume: Interval
    margin: Interval
    slack: float
    median_margin_mm: float

    @property
    def broken(self) -> tuple[str, ...]:
        """What was promised and held less often, by more than chance: of `Dice`, `volume` and `margin`."""
        found = {"Dice": self.dice, "volume": self.volume, "margin": self.margin}
        return tuple(name for name, one in found.items() if one.cases and one.high < self.level)


def with_bounds(
    rows: Sequence[RegionScores], bounds: Mapping[str, Bounds], *, pairs: Mapping[str, str]
) -> list[RegionScores]:
    """The rows with the bounds that the predictions came with, but for those of which nobody knows the whole truth.

    Args:
        rows: Rows of one evaluation.
        bounds: Bounds by key and region of the predictions.
        pairs: Name that the predictions have for each region of the cohort.
    """
    return [
        replace(row, bounds=bounds.get(row.key, {}).get(pairs.get(row.region, row.region)))
        if row.error is None and not row.ignored
        else row
        for row in rows
    ]


def check_promises(rows: Sequence[RegionScores]) -> list[PromiseCheck]:
    """How the bounds of each region held; nothing if no case has bounds.

    A case in which both masks are empty has no Dice, and counts for the volume alone.

    Args:
        rows: Rows of one evaluation, see `with_bounds`.
    """
    checks = []
    for region in dict.fromkeys(row.region for row in rows if row.bounds is not None):
        own = [row for row in rows if row.region == region and row.bounds is not None and row.error is None]
        given = [row for row in own if row.bounds is not None and not row.bounds.withheld]
        scored = [row for row in given if row.dice is not None]
        gaps = [(row.dice or 0.0) - (row.dice_at_least or 0.0) for row in scored]
        margins = [row for row in given if row.bounds is not None and row.bounds.margin_mm is not None]
        measured = [row for row in margins if row.margin_mm is not None or not row.predicted_ml]
        levels = [row.bounds.level for row in given if row.bounds is not None and row.bounds.level is not None]
        checks.append(
            PromiseCheck(
                region,
                min(levels, default=math.nan),
                len(given),
                len(own) - len(given),
                share_interval([gap >= 0 for gap in gaps], [row.patient for row in scored]),
                share_interval([_holds(row) for row in given], [row.patient for row in given]),
                share_interval([_contains(row) for row in measured], [row.patient for row in measured]),
                float(np.mean(gaps)) if gaps else math.nan,
                _median_margin_mm(margins),
            )
        )
    return checks


def review_curve(rows: Sequence[RegionScores]) -> list[tuple[float, float]]:
    """What is left when the cases of the lowest bounds are reviewed first: (share reviewed, mean 1 - Dice of the rest).

    A case counts once per region that has a Dice and a bound; a withheld one is reviewed before all others.

    Args:
        rows: Rows of one evaluation, see `with_bounds`.
    """
    scored = [row for row in rows if row.bounds is not None and row.dice is not None]
    order = sorted(scored, key=lambda row: (-1.0 if row.dice_at_least is None else row.dice_at_least, row.key))
    losses = np.array([1 - (row.dice or 0.0) for row in order])
    count = len(order)
    left = np.cumsum(losses[::-1])[::-1] / np.arange(count, 0, -1)  # the mean from each place on
    return [(place / count, loss) for place, loss in enumerate(left.tolist())]


def _median_margin_mm(rows: Sequence[RegionScores]) -> float:
    """The median of the margins in mm that the rows came with; NaN without one."""
    given = [row.bounds.margin_mm for row in rows if row.bounds is not None and row.bounds.margin_mm is not None]
    return float(np.median(given)) if given else math.nan


def _contains(row: RegionScores) -> bool:
    """Whether the prediction grown by its margin contained the whole reference."""
    if row.bounds is None or row.bounds.margin_mm is None:
        return False
    if row.margin_mm is None:  # nothing was predicted
        return not row.reference_ml
    return row.margin_mm <= row.bounds.margin_mm + _ROUNDING_MM


def _holds(row: RegionScores) -> bool:
    if row.bounds is None or row.reference_ml is None:
        return False
    low = 0.0 if row.bounds.ml_low is None else row.bounds.ml_low
    high = math.inf if row.bounds.ml_high is None else row.bounds.ml_high
    rounding = 1e-6 * max(1.0, row.reference_ml)
    return low - rounding <= row.reference_ml <= high + rounding
