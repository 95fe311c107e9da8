"""What a calibrated network promises of one region of a case, in `uncertainty.csv` beside the expected Dice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from volseg.cohort.spreadsheet import decimal


@dataclass(frozen=True)
class RegionBounds:
    """The bounds of one region of one case; every number is None where it is withheld.

    Attributes:
        dice_at_least: Dice that the prediction reaches or passes with probability `level`, 0 to 1.
        ml_low, ml_high: Ends of the interval that holds the true volume in ml with probability `level`.
        margin_mm: Margin in mm around the prediction that contains the whole true region with probability `level`.
        missed: Probability that the prediction misses the region altogether, 0 to 1.
        level: Probability of each bound: what was asked for, or what the number of calibrated patients can give.
        not_comparable: Reason why the bounds are withheld; empty if they are not.

    >>> RegionBounds(0.8, 1.0, 2.0, 3.0, 0.01, 0.9).withheld
    False
    """

    dice_at_least: float | None = None
    ml_low: float | None = None
    ml_high: float | None = None
    margin_mm: float | None = None
    missed: float | None = None
    level: float | None = None
    not_comparable: str = ""

    @property
    def withheld(self) -> bool:
        """Whether no bound is given."""
        return bool(self.not_comparable)

    def to_json(self) -> dict[str, Any]:
        """The attributes by name, for a journal."""
        return asdict(self)


Bounds = Mapping[str, RegionBounds]
"""The bounds of one case by region."""

BOUND_COLUMNS = ("dice_at_least", "ml_low", "ml_high", "margin_mm", "missed", "level", "not_comparable")
"""Columns per region of `uncertainty.csv`, each followed by a space and the name of the region."""


def order_of_bounds(bounds: Bounds) -> float | None:
    """The number by which a list of cases is ordered, the lowest first: the mean bound over the regions.

    A region of which nothing was predicted counts by the probability that it is not there either. It is no bound.

    >>> order_of_bounds({"a": RegionBounds(dice_at_least=0.75), "b": RegionBounds(dice_at_least=0.0, missed=0.5)})
    0.625
    >>> order_of_bounds({"a": RegionBounds(not_comparable="spacing")}) is None
    True
    """
    values = []
    for one in bounds.values():
        if one.dice_at_least is None:
            continue
        values.append(1 - one.missed if one.dice_at_least == 0 and one.missed is not None else one.dice_at_least)
    return math.fsum(values) / len(values) if values else None


def bounds_as_text(bounds: RegionBounds) -> str:
    """The bounds of a region in a sentence, in ASCII, for people and for the objects of an archive.

    >>> bounds_as_text(RegionBounds(0.8, 1.0, 2.5, 3.25, 0.01, 0.9))
    'Dice at least 0.80, volume 1 to 2.5 ml, the whole region within 3.2 mm of the outline: each with 90 % probability.'
    >>> bounds_as_text(RegionBounds(not_comparable="the spacing is 5 mm along z, calibrated 0.9 to 1.1 mm"))
    'No bound of Dice: not comparable with the calibration, the spacing is 5 mm along z, calibrated 0.9 to 1.1 mm.'
    """
    if bounds.withheld:
        return f"No bound of Dice: not comparable with the calibration, {bounds.not_comparable}."
    told = [] if bounds.dice_at_least is None else [f"Dice at least {math.floor(100 * bounds.dice_at_least) / 100:.2f}"]
    if bounds.ml_low is not None and bounds.ml_high is not None:
        told.append(f"volume {bounds.ml_low:.3g} to {bounds.ml_high:.3g} ml".replace("e+0", "e"))
    if bounds.margin_mm is not None:
        told.append(f"the whole region within {bounds.margin_mm:.1f} mm of the outline")
    level = "" if bounds.level is None else f": each with {100 * bounds.level:.0f} % probability"
    return f"{', '.join(told)}{level}."


def bound_cells(bounds: RegionBounds | None) -> list[str]:
    """The cells of the columns `BOUND_COLUMNS`; empty ones without bounds."""
    if bounds is None:
        return [""] * len(BOUND_COLUMNS)
    values = (getattr(bounds, name) for name in BOUND_COLUMNS)
    return ["" if value is None else value if isinstance(value, str) else f"{value:.6g}" for value in values]


def bounds_of_cells(cells: Mapping[str, str]) -> RegionBounds | None:
    """The inverse of `bound_cells`; None if all cells are empty.

    Raises:
        ValueError: A number cannot be read.
    """
    if not any(cells.values()):
        return None
    numbers = {name: decimal(cells[name]) if cells.get(name) else None for name in BOUND_COLUMNS[:-1]}
    return RegionBounds(**numbers, not_comparable=cells.get("not_comparable") or "")
