"""Whether networks have a calibration, without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from volseg.calibration import find_calibration


def is_calibrated(checkpoints: Sequence[Path]) -> bool:
    """Whether a calibration lies beside the checkpoints of an ensemble, or of one network."""
    return find_calibration(checkpoints) is not None
