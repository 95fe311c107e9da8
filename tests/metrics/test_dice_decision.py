"""The decision of the largest expected Dice: brute force, exact expectations, laws, and the peer library rankseg."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from volseg.errors import GeometryError
from volseg.metrics import decide_by_dice, dice_threshold, expected_dice

PROBABILITY = st.floats(0, 1, width=32)


def ratio(probability: np.ndarray, mask: np.ndarray) -> float:
    return 2 * probability[mask].sum() / (mask.sum() + probability.sum()) if mask.any() else 0.0


@given(arrays(np.float64, st.integers(1, 9), elements=PROBABILITY))
def test_no_other_set_of_voxels_is_expected_to_have_more(probability):
    found = dice_threshold(probability)
    every = [np.array(bits) for bits in itertools.product([False, True], repeat=probability.size)]
    best = max(ratio(probability, mask) for mask in every)
    assert found.expected_dice == pytest.approx(best, abs=1e-12)
    assert ratio(probability, probability > found.threshold) == pytest.approx(best, abs=1e-12)
    assert found.voxels == (probability > found.threshold).sum()
    assert 0 <= found.threshold <= 0.5


@given(arrays(np.float32, st.integers(1, 200), elements=PROBABILITY))
def test_the_order_of_voxels_does_not_count_and_the_threshold_is_half_of_the_dice(probability):
    found = dice_threshold(probability)
    turned = dice_threshold(probability[::-1])
    assert found.voxels == turned.voxels
    assert found.threshold == pytest.approx(turned.threshold, rel=1e-9)
    if found.voxels:
        assert found.threshold == pytest.approx(found.expected_dice / 2, rel=1e-9)
        assert expected_dice(probability, probability > found.threshold) == pytest.approx(found.expected_dice, rel=1e-9)


def test_a_certain_network_decides_as_a_threshold_of_a_half_does():
    probability = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert (decide_by_dice(probability, exclusive=False) == (probability > 0.5)).all()
    assert dice_threshold(probability[0]).expected_dice == 1.0


@pytest.mark.parametrize("probability", [np.zeros((3, 4)), np.zeros(0)])
def test_nothing_is_decided_of_nothing(probability):
    found = dice_threshold(probability)
    assert (found.voxels, found.expected_dice, found.threshold) == (0, 0.0, 0.5)


def test_an_unsure_network_takes_more_than_a_half_would():
    probability = np.full(100, 0.4)
    assert dice_threshold(probability).voxels == 100
    assert not (probability > 0.5).any()


def exact(probability: np.ndarray, mask: np.ndarray) -> float:
    """The mean Dice over every reference that independent voxels can have."""
    mean = 0.0
    for bits in itertools.product([0, 1], repeat=probability.size):
        truth = np.array(bits, bool)
        weight = np.where(truth, probability, 1 - probability).prod()
        size = mask.sum() + truth.sum()
        mean += weight * (2 * (mask & truth).sum() / size if size else 1.0)
    return float(mean)


def test_of_ten_voxels_the_exact_mean_of_dice_is_all_but_the_largest():
    """The mean of a ratio is taken for the ratio of means; for so few voxels that costs up to 0.02."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        probability = generator.beta(0.7, 0.7, 10)
        ranked = np.sort(probability)[::-1]
        best = max(exact(ranked, np.arange(10) < size) for size in range(1, 11))
        assert exact(probability, probability > dice_threshold(probability).threshold) > best - 0.02


@given(arrays(np.float32, (3, 40), elements=PROBABILITY))
def test_regions_that_exclude_each_other_share_no_voxel_and_lose_nothing_to_the_largest_channel(raw):
    probabilities = raw / max(1.0, float(raw.sum(axis=0).max()))
    masks = decide_by_dice(probabilities, exclusive=True)
    assert masks.sum(axis=0).max() <= 1

    def mean(masks: np.ndarray) -> float:
        return float(np.mean([ratio(one.astype(float), mask) for one, mask in zip(probabilities, masks, strict=True)]))

    background = 1 - probabilities.sum(axis=0)
    largest = np.concatenate([background[None], probabilities]).argmax(axis=0)
    assert mean(masks) >= mean(np.stack([largest == number for number in (1, 2, 3)])) - 1e-6


def test_one_region_is_decided_alike_whether_or_not_it_excludes_others():
    probability = np.random.default_rng(1).random((1, 50))
    assert (decide_by_dice(probability, exclusive=True) == decide_by_dice(probability, exclusive=False)).all()


def test_regions_need_an_axis():
    with pytest.raises(GeometryError, match="axes"):
        decide_by_dice(np.zeros(3), exclusive=False)
