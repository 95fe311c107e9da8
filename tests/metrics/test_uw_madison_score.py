from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from volseg.errors import GeometryError
from volseg.metrics import dice, uw_madison_score

PAIRS = array_shapes(min_dims=3, max_dims=3, max_side=5).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_bounded_symmetric_blind_to_flips_and_one_only_on_identical_masks(pair):
    score = uw_madison_score(*pair)
    if not (pair[0].any() and pair[1].any()):  # an organ that the reference does not hold is left out
        assert score == 0 if pair[1].any() else math.isnan(score)
        return
    assert 0 <= score <= 1
    assert score == pytest.approx(uw_madison_score(*pair[::-1]))
    assert (score == 1) == np.array_equal(*pair)
    for axes in itertools.permutations(range(3)):
        assert uw_madison_score(*(np.flip(mask, 0).transpose(axes) for mask in pair)) == pytest.approx(score)


def test_a_shift_by_hand():
    # 144 slices of 266 x 266: a box moved by 3 slices; every direction counts in steps of a voxel, not in mm.
    prediction, reference = np.zeros((2, 266, 266, 144), bool)
    prediction[100:120, 90:110, 40:60], reference[100:120, 90:110, 43:63] = True, True
    expected = 0.4 * 17 / 20 + 0.6 * (1 - 3 / math.sqrt(266**2 + 266**2 + 144**2))
    assert uw_madison_score(prediction, reference) == pytest.approx(expected)
    box = np.s_[90:130, 80:120, 30:70]
    cropped = uw_madison_score(prediction[box], reference[box], image_shape=prediction.shape)
    assert cropped == pytest.approx(expected)
    assert dice(prediction, reference) == 17 / 20


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 3), (5, 5, 5, 5)])
def test_an_image_smaller_than_its_masks_is_refused(shape):
    with pytest.raises(GeometryError, match="whole image"):
        uw_madison_score(np.ones((3, 3, 3), bool), np.ones((3, 3, 3), bool), image_shape=shape)
