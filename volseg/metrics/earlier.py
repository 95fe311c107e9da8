"""Functions of version 0.1 that nothing uses any more; for one minor version they can still be imported."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from volseg.metrics.lattice import Distances
from volseg.metrics.overlap import Mask, check_masks
from volseg.metrics.surface import surface_distances


def earlier_function(module: str, name: str) -> Callable[..., Any]:
    """A function that the module had in version 0.1, with a DeprecationWarning that names what takes its place.

    Args:
        module: Full name of the module.
        name: Name of the function.

    Raises:
        AttributeError: The module had no such function.
    """
    moved: dict[str, tuple[Callable[..., Any], str]] = {
        "relative_volume_difference": (relative_volume_difference, "volseg.evaluation's volume_error_percent"),
        "directed_distances_mm": (directed_distances_mm, "volseg.metrics.surface_distances"),
    }
    if name not in moved:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    function, now = moved[name]
    warnings.warn(f"{module}.{name} is now {now}", DeprecationWarning, stacklevel=3)
    return function


def relative_volume_difference(prediction: Mask, reference: Mask) -> float:
    """Predicted minus reference volume, divided by the reference volume; NaN if the reference is empty."""
    check_masks(prediction, reference)
    expected = int(np.count_nonzero(reference))
    return (int(np.count_nonzero(prediction)) - expected) / expected if expected else math.nan


def directed_distances_mm(
    prediction: Mask, reference: Mask, spacing_mm: Sequence[float]
) -> tuple[Distances, Distances]:
    """Distances from the prediction's boundary to the reference's, and back, see `surface_distances`."""
    found = surface_distances(prediction, reference, spacing_mm)
    return found.from_prediction, found.from_reference
