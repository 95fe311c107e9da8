"""Grids whose axes are not at right angles, as of a CT with a tilted gantry: volumes are those in space."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scored_cohort import AFFINE, REFERENCE, TABLE, make_cohort, write

from volseg.calibration import HeldOut, measure_cases
from volseg.cohort import Cohort, Predictions
from volseg.deploy.corrections.counting import correction_rows
from volseg.evaluation import rank
from volseg.volume import Volume, voxel_ml, write_probabilities

TILT = math.radians(20)
TILTED = AFFINE.copy()
TILTED[1:3, 2] = 3 * math.sin(TILT), 3 * math.cos(TILT)
"""Slices of the grid of `scored_cohort`, each moved to the front against the one below."""
ML = 1.5 * 1.5 * 3 * math.cos(TILT) / 1000


@pytest.fixture
def cohort(tmp_path) -> Cohort:
    keys = [f"p{number}" for number in range(6)]
    made = make_cohort(tmp_path / "cohort", dict.fromkeys(keys, REFERENCE))
    for key in keys:
        write(made.image_paths(key)[0], np.zeros(REFERENCE.shape, np.uint16), TILTED)
        write(made.folder / "labelsTr" / f"{key}.nii.gz", REFERENCE, TILTED)
    return made


def test_the_volume_of_a_voxel_is_that_of_a_leaning_box():
    assert voxel_ml(TILTED) == pytest.approx(abs(np.linalg.det(TILTED[:3, :3])) / 1000) == pytest.approx(ML)
    assert voxel_ml(AFFINE) == 1.5 * 1.5 * 3 / 1000


def test_a_calibration_measures_the_volumes_that_predictions_have(cohort, tmp_path):
    """Its volumes were 6 % larger at 20 degrees than those of predictions, and a margin was told of wrong distances."""
    masks = TABLE.masks(REFERENCE)
    for key in cohort.keys:
        write_probabilities(tmp_path / "predictions" / "probabilities" / f"{key}.nii.gz", masks * 0.9, TILTED)
    held_out = HeldOut(Predictions(tmp_path / "predictions"), cohort, list(cohort.keys))
    found = measure_cases(held_out, [None] * 3, {})
    for mask, name in zip(masks, TABLE.names, strict=True):
        if mask.any():
            of_region = found[0].regions[name]
            expected = np.count_nonzero(mask) * ML
            volumes = (of_region.predicted_ml, of_region.reference_ml, math.exp(of_region.features["log_ml"]))
            assert volumes == pytest.approx((expected,) * 3)
            assert of_region.margin_mm == math.inf


def test_the_other_volumes_of_a_case_are_those_in_space(cohort, tmp_path):
    for key in cohort.keys:
        write(tmp_path / "predictions" / f"{key}.nii.gz", REFERENCE, TILTED)
    ranked = rank(tmp_path / "predictions", TABLE)
    rows = correction_rows(Volume(REFERENCE, TILTED), TABLE, ("", None), key="a", number=1, minutes=None)
    for mask, name, row in zip(TABLE.masks(REFERENCE), TABLE.names, rows, strict=True):
        expected = np.count_nonzero(mask) * ML
        assert row.ml == pytest.approx(expected)
        if mask.any():
            assert math.exp(ranked[0].values["volume", name]) == pytest.approx(expected)
