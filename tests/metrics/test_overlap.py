from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from volseg.errors import GeometryError, LabelError
from volseg.metrics import OUTCOMES, dice, jaccard, outcome, precision, recall, volume_ml
from volseg.metrics.overlap import check_spacing, dice_by_slice


def mask(*values: int) -> np.ndarray:
    return np.array(values, dtype=bool)


PAIRS = array_shapes(min_dims=3, max_dims=3, max_side=5).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        (mask(1, 1, 0, 0), mask(1, 1, 0, 0), 1.0),
        (mask(1, 1, 0, 0), mask(0, 0, 1, 1), 0.0),
        (mask(1, 1, 1, 0), mask(0, 1, 0, 0), 0.5),  # 2 * 1 / (3 + 1)
        (mask(1, 1, 0, 0), mask(0, 1, 1, 0), 0.5),  # 2 * 1 / (2 + 2)
        (mask(0, 0, 0, 0), mask(0, 1, 0, 0), 0.0),  # missed
        (mask(0, 1, 0, 0), mask(0, 0, 0, 0), 0.0),  # invented
    ],
)
def test_dice_by_hand(prediction, reference, expected):
    assert dice(prediction, reference) == expected


def test_dice_of_two_empty_masks_is_no_number():
    assert math.isnan(dice(mask(0, 0), mask(0, 0)))


@settings(deadline=None)
@given(PAIRS)
def test_dice_is_symmetric_bounded_and_blind_to_flips(pair):
    a, b = pair
    value = dice(a, b)
    if math.isnan(value):
        assert outcome(a, b) == "both empty"
        return
    assert 0 <= value <= 1
    assert value == dice(b, a)
    assert value == dice(np.flip(a, (0, 2)), np.flip(b, (0, 2)))
    assert value == dice(a.transpose(2, 0, 1), b.transpose(2, 0, 1))
    assert (value == 1) == np.array_equal(a, b)


@settings(deadline=None)
@given(PAIRS)
def test_dice_equals_monai(pair):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from monai.metrics import compute_dice
    a, b = (torch.from_numpy(m[None, None].astype(np.float32)) for m in pair)
    expected = float(compute_dice(a, b, include_background=True, ignore_empty=False))
    if not pair[1].any() and not pair[0].any():
        assert expected == 1  # MONAI's number for two empty masks; ours is none
        return
    assert dice(*pair) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        (mask(1, 0), mask(0, 1), "both present"),
        (mask(0, 0), mask(0, 1), "missed"),
        (mask(1, 0), mask(0, 0), "invented"),
        (mask(0, 0), mask(0, 0), "both empty"),
    ],
)
def test_outcome_by_hand(prediction, reference, expected):
    assert outcome(prediction, reference) == expected
    assert expected in OUTCOMES


def test_volume_by_hand():
    cube = np.zeros((20, 20, 20), bool)
    cube[5:15, 5:15, 5:15] = True
    assert volume_ml(cube, (1, 1, 1)) == 1.0
    assert volume_ml(cube, (0.5, 2, 3.0)) == 3.0
    assert volume_ml(~cube & cube, (1, 1, 1)) == 0.0


def test_a_label_map_is_refused():
    with pytest.raises(LabelError, match="must be of type bool, got uint8"):
        dice(np.ones(3, np.uint8), np.ones(3, bool))
    with pytest.raises(LabelError):
        outcome(np.ones(3, bool), np.ones(3, np.uint8))
    with pytest.raises(LabelError):
        volume_ml(np.ones((1, 1, 1)), (1, 1, 1))


def test_shapes_that_broadcast_are_refused():
    with pytest.raises(GeometryError, match=r"\(3, 1\) and \(3, 3\)"):
        dice(np.ones((3, 1), bool), np.ones((3, 3), bool))


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, 1, -1), (1, 1, math.nan), (1, math.inf, 1)])
def test_a_spacing_that_cannot_be_is_refused(spacing):
    with pytest.raises(GeometryError, match="must be 3 lengths"):
        check_spacing(spacing, 3)


@settings(deadline=None)
@given(PAIRS)
def test_the_kin_of_dice_agree_with_each_other(pair):
    a, b = pair
    if outcome(a, b) == "both empty":
        assert all(math.isnan(f(a, b)) for f in (jaccard, precision, recall))
        return
    assert jaccard(a, b) == pytest.approx(dice(a, b) / (2 - dice(a, b)))
    assert jaccard(a, b) == jaccard(b, a)
    assert precision(a, b) == pytest.approx(recall(b, a), nan_ok=True)
    if a.any() and b.any():
        both = precision(a, b) + recall(a, b)
        assert dice(a, b) == pytest.approx(2 * precision(a, b) * recall(a, b) / both if both else 0)


def test_the_kin_of_dice_by_hand():
    # 2 shared, 1 only predicted, 3 only in the reference
    prediction, reference = mask(1, 1, 1, 0, 0, 0), mask(1, 1, 0, 1, 1, 1)
    assert jaccard(prediction, reference) == 2 / 6
    assert precision(prediction, reference) == 2 / 3
    assert recall(prediction, reference) == 2 / 5
    nothing = mask(0, 0, 0, 0, 0, 0)
    assert math.isnan(precision(nothing, reference))
    assert math.isnan(recall(prediction, nothing))
    assert recall(nothing, reference) == 0


@settings(deadline=None)
@given(PAIRS, st.sampled_from([0, 1, 2, -1]))
def test_dice_by_slice_is_the_dice_of_each_slice(pair, axis):
    expected = [dice(a, b) for a, b in zip(*(np.moveaxis(m, axis, 0) for m in pair), strict=True)]
    assert dice_by_slice(*pair, slice_axis=axis) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("function", [jaccard, precision, recall, dice_by_slice])
def test_the_kin_of_dice_refuse_what_dice_refuses(function):
    with pytest.raises(LabelError):
        function(np.ones(3, np.uint8), np.ones(3, bool))
    with pytest.raises(GeometryError):
        function(np.ones((3, 1), bool), np.ones((3, 3), bool))
