"""The numbers of a prediction are those by which it would have been calibrated, from its file of probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.calibration import region_features
from volseg.volume import read_probabilities, write_probabilities


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_a_prediction_has_the_features_of_its_file(tmp_path, temperature):
    """Half a million voxels of 5 in a million each were lost in the file, and counted as doubt in the prediction."""
    probability = np.full((100, 100, 60), 5e-6, np.float32)
    probability[50:53, 50:53, 30] = np.linspace(0.3, 0.999, 9, dtype=np.float32).reshape(3, 3)
    mask = probability > 0.5
    write_probabilities(tmp_path / "p.nii.gz", probability[None], np.eye(4))
    (read,) = read_probabilities(tmp_path / "p.nii.gz")
    now, then = (region_features(one, mask, voxel_ml=0.001, temperature=temperature) for one in (probability, read))
    assert now == pytest.approx(then, rel=1e-6)


def test_few_of_them_are_rounded_away():
    mask = np.zeros((6, 6, 6), bool)
    mask[2:4, 2:4, 2:4] = True
    found = region_features(np.where(mask, np.float32(0.8), np.float32(0.01)), mask, voxel_ml=0.001)
    assert found["doubt"] == pytest.approx((8 * 0.2 + 208 * 0.01) / 8, rel=1e-2)
