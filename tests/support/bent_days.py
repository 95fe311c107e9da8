"""A stand-in for elastix, which is not installed where the tests run: everything moves along the first axis."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.volume import Deformation


def bending(mm, failure=""):
    """A function in place of `volseg.volume.deform`, which moves all by some mm, or fails."""

    def deform(fixed, moving, registration):
        motion = np.zeros((3, *fixed.shape), np.float32)
        motion[0] = mm
        return Deformation(registration, fixed.grid, motion, (0.5, 0.6), (3.0, 2.0), 0.1, failure)

    return deform


def bend_all(monkeypatch: pytest.MonkeyPatch, mm: float, failure: str = "") -> None:
    """Put the stand-in in place of elastix."""
    monkeypatch.setattr("volseg.volume.deformation.elastix_is_installed", lambda: True)
    monkeypatch.setattr("volseg.cohort.alignments.deform", bending(mm, failure))


def without_elastix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it look as if the package were absent."""
    monkeypatch.setattr("volseg.volume.deformation.elastix_is_installed", lambda: False)
