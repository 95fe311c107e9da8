"""The numbers that ImageJ shows for the stored ones: its calibration, by which it keeps signed 16-bit images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STRAIGHT_LINE = 0
_NONE = (20, 21)  # no function, and an optical density that nobody calibrated: ij.measure.Calibration


def calibrated(stored: NDArray[Any], metadata: Mapping[str, Any]) -> tuple[NDArray[Any], str]:
    """The calibrated numbers of a grey image, and a note; the stored ones and no note if there is no calibration.

    ImageJ stores -1000 of a signed image as 31768, with the line c0 + c1 * stored beside it. Other functions than a
    line are named in the note and not applied.

    Args:
        stored: Stored numbers.
        metadata: ImageJ's description as tifffile reads it, with `cf`, `c0`, `c1`.

    >>> found, note = calibrated(np.array([31768], np.uint16), {"cf": 0, "c0": -32768.0, "c1": 1.0})
    >>> found.dtype.name, found.tolist(), note
    ('int16', [-1000], "values as ImageJ's calibration gives them, -32768 + 1 * stored")
    """
    function = _number(metadata.get("cf"))
    if function is None or function in _NONE:
        return stored, ""
    offset, slope = _number(metadata.get("c0")), _number(metadata.get("c1"))
    if function != _STRAIGHT_LINE or offset is None or slope is None or slope == 0:
        return stored, f"ImageJ's calibration function {function:g} is not applied: values as stored"
    if (offset, slope) == (0, 1):
        return stored, ""
    note = f"values as ImageJ's calibration gives them, {offset:g} + {slope:g} * stored"
    if stored.dtype.kind in "iu" and offset.is_integer() and slope.is_integer():
        ends = sorted(int(offset + slope * int(end)) for end in (stored.min(), stored.max()))
        for kind in (np.int16, np.int32):
            if np.iinfo(kind).min <= ends[0] and ends[1] <= np.iinfo(kind).max:
                return (stored.astype(np.int64) * int(slope) + int(offset)).astype(kind), note
    return (stored.astype(np.float64) * slope + offset).astype(np.float32), note


def _number(value: object) -> float | None:
    try:
        found = float(value)  # type: ignore[arg-type]  # what is no number is refused by float
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
