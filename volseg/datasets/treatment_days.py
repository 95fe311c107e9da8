"""What changes in the phantom between the treatment days of one patient, and what stays: the real days.

The numbers are modelled on measurements of the UW-Madison contours of six patients: days lie up to 57 mm apart in
plane, a mask copied onto the next day has a Dice of 0.26 (large and small bowel) and 0.41 (stomach), after the best
translation 0.42, 0.36 and 0.54, and one patient's first day has 360 x 310 pixels where later ones have 266 x 266.
No patient's data went into them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MILD, REAL = "mild", "real"
DAYS = (MILD, REAL)
"""How days differ: by filling and some millimetres, as in all published figures before 0.4; or as on an MR-Linac."""
REAL_SIZES = ((106, 82, 3.75, 3.75), (112, 88, 3.5, 3.5))
"""Columns, rows and spacing in mm of the usual grids of real days, 266 x 266 pixels of 1.5 mm in wide pixels."""
OTHER_SIZE = (144, 124, 3.75, 3.75)
"""The grid of one patient's first day: 360 x 310 pixels of 1.5 mm."""
MAX_SHIFT_MM = 30.0
"""Distance in plane of a day from the middle; two days lie up to twice as far apart."""
_MAX_SHIFT_Z_MM, _MAX_TURN_RAD = 8.0, np.deg2rad(3)
# Standard deviation of the logarithm of the filling, and its greatest: two days differ by a factor of 1.4 at the median
# and of 2.2 at most.
_FILLING = {"stomach": 0.36, "large_bowel": 0.36, "small_bowel": 0.36}
_MAX_FILLING = 0.4


@dataclass(frozen=True)
class Day:
    """Changes of one day.

    Attributes:
        shift_mm: Shift of the patient in the field of view (x, y, z).
        turn_rad: Roll about the long axis.
        filling: Factor of each organ's volume.
        motion: Factor of the mild days' smooth motion of the organs.
        loops_mm: Standard deviation of the motion of the small bowel's loops.
        bends_mm: Standard deviation of the motion of the colon.
        stomach_mm: Standard deviation of the motion of the stomach.
        gas: Factor of the differences in gas along the colon.
    """

    shift_mm: tuple[float, float, float]
    turn_rad: float
    filling: dict[str, float]
    motion: float = 3.0
    loops_mm: float = 17.0
    bends_mm: float = 12.0
    stomach_mm: float = 8.0
    gas: float = 1.8

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Day:
        """A random day."""
        radius, angle = MAX_SHIFT_MM * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        shift = (
            float(radius * np.cos(angle)),
            float(radius * np.sin(angle)),
            float(rng.uniform(-_MAX_SHIFT_Z_MM, _MAX_SHIFT_Z_MM)),
        )
        filling = {
            name: float(np.exp(np.clip(rng.normal(0, sd), -_MAX_FILLING, _MAX_FILLING)))
            for name, sd in _FILLING.items()
        }
        return cls(shift, float(rng.uniform(-_MAX_TURN_RAD, _MAX_TURN_RAD)), filling)


@dataclass(frozen=True)
class Habits:
    """What persists of a patient from day to day beside the anatomy: contrast, and the hand of the annotator.

    Attributes:
        content: Factor of the signal of each organ's content, as by the agent that the patient drinks.
        margin_mm: Distance of the drawn contour from the outer wall, outwards, by organ.
        duodenum: Whether the duodenum is drawn as small bowel.
        colon_end_mm: Length at the colon's far end that is not drawn.
    """

    content: dict[str, float]
    margin_mm: dict[str, float]
    duodenum: bool
    colon_end_mm: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Habits:
        """Random habits."""
        organs = tuple(_FILLING)
        content = {name: float(rng.uniform(0.72, 1.22)) for name in organs}
        margin = {name: float(np.clip(rng.normal(0, 1.3), -2.0, 2.6)) for name in organs}
        return cls(content, margin, bool(rng.uniform() < 0.5), float(rng.choice([0.0, 45.0, 90.0])))

    def drawn_organ(self, name: str, distance: NDArray[np.float64], along: NDArray[np.float64]) -> NDArray[np.float64]:
        """The signed distance to the contour as this annotator draws it.

        Args:
            name: Name of the organ.
            distance: Signed distance (X, Y, Z) in mm to its outer wall.
            along: Length (X, Y, Z) in mm along its centre line.
        """
        drawn = distance - self.margin_mm[name]
        if name == "small_bowel" and not self.duodenum:
            drawn = np.where(along < _DUODENUM_MM, np.maximum(drawn, 1.0), drawn)
        if name == "large_bowel" and self.colon_end_mm:
            drawn = np.where(along > along.max() - self.colon_end_mm, np.maximum(drawn, 1.0), drawn)
        return drawn


_DUODENUM_MM = 85.0


def grid_of(patient: int, *, first_patient: int, day: int) -> tuple[int, int, float, float]:
    """Columns, rows and spacing in mm of a scan: each patient has one, but for the first day of the first patient.

    >>> grid_of(401, first_patient=401, day=0), grid_of(401, first_patient=401, day=4)
    ((144, 124, 3.75, 3.75), (112, 88, 3.5, 3.5))
    """
    if patient == first_patient and day == 0:
        return OTHER_SIZE
    return REAL_SIZES[patient % len(REAL_SIZES)]
