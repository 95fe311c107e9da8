"""How the numbers of an evaluation are made, as far as that is a choice."""

from __future__ import annotations

import math
from dataclasses import dataclass

from volseg.errors import UsageError
from volseg.metrics.effort import MINUTES_PER_METRE
from volseg.metrics.surface import READING_NOTES, READINGS, TOLERANCE_MM, Reading


@dataclass(frozen=True)
class Method:
    """How the numbers of an evaluation were made, as far as that is a choice; it travels with them into the report.

    Attributes:
        tolerance_mm: of surface Dice and of the slices to correct.
        reading: of HD95, surface Dice and the mean surface distance.
        minutes_per_metre: of contour drawn by hand.
        objects: whether objects and holes are counted, which takes longer.
        instances: whether the objects of the reference are those of the cohort's maps; else they are connected parts.

    Raises:
        UsageError: a number that cannot be, or no such reading.
    """

    tolerance_mm: float = TOLERANCE_MM
    reading: Reading = "directed"
    minutes_per_metre: float = MINUTES_PER_METRE
    objects: bool = False
    instances: bool = False

    def __post_init__(self) -> None:
        for name, value in (("tolerance", self.tolerance_mm), ("minutes per metre", self.minutes_per_metre)):
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"the {name} is {value}, expected a number of 0 or more")
        if self.reading not in READINGS:
            raise UsageError(f"the reading of HD95 is {self.reading!r}, expected one of {', '.join(READINGS)}")

    @property
    def details(self) -> dict[str, str]:
        """What the reader of a report must know, by name.

        >>> Method(tolerance_mm=2).details["Tolerance"]
        '2 mm, of surface Dice and slices to correct'
        """
        objects = "parts of the reference" if not self.instances else "the cohort's maps of objects"
        return {
            "HD95 reading": READING_NOTES[self.reading],
            "Tolerance": f"{self.tolerance_mm:g} mm, of surface Dice and slices to correct",
            "Time to correct": f"{self.minutes_per_metre:g} minutes a metre of added path length (an assumption)",
            **({"Objects": f"connected parts of the prediction, against {objects}"} if self.objects else {}),
        }


STANDARD = Method()
